"""A pool of processes for plugins' work on large bodies, so that the event loop serves other calls meanwhile.

- A thread would not help: JSON is read and written with the interpreter's lock held.
- A function is sent by its name; its arguments and its result are sent as values.
- Two things are not sent back: dropped fields are reported in this process, and an argument that is part of the result,
  such as the client's request, stays the same object.
- Work that cannot be sent (a plugin from a single file, a translation that holds a closure) is done on the loop. So is
  work on small bodies, which takes less time than sending them.
"""

from __future__ import annotations

import asyncio
import copyreg
import gc
import io
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from types import MappingProxyType
from typing import Any, Final, TypeVar

from gateway.contract.errors import UNAVAILABLE, GatewayError, Problem

LARGE: Final = 1024 * 1024
"""Bytes of a body from which it is sent: a megabyte takes about 10 ms on the loop, and 3 ms to be sent."""
WORKERS: Final = max(1, min(4, os.cpu_count() or 1))
"""Most processes. They start one by one when they are needed; each takes half a second to start, and some 60 MB."""

R = TypeVar("R")


async def yield_to_loop(size: int) -> None:
    """Let other tasks run between two pieces of work on a large body; `size` is in bytes."""
    if size >= LARGE:
        await asyncio.sleep(0)


class DropRelay:
    """Reports dropped fields (`flag.Drop`), from this process or from another one."""

    def __init__(self, drop: Callable[[str], None]) -> None:
        self._drop = drop

    def __call__(self, path: str) -> None:
        self._drop(path)


class ProcessPool:
    """The processes of a gateway. None is started before the first large body."""

    def __init__(self, large: int = LARGE) -> None:
        self._large = large
        self._executor: ProcessPoolExecutor | None = None

    async def run(self, size: int, drop: DropRelay, function: Callable[..., R], *args: Any) -> R:
        """Return `function(*args)`, computed in another process when `size`, in bytes, is large.

        `drop` may be among the arguments, or inside of one. Raises what the function raises, and `GatewayError` when
        its process has died.
        """
        if size < self._large:
            return function(*args)
        shared = (drop, *args)
        await yield_to_loop(size)
        try:
            work = _pack((function, args), shared[:1])
        except _NOT_PICKLABLE:
            return function(*args)
        loop = asyncio.get_running_loop()
        try:
            packed = await loop.run_in_executor(self._start(), _work, work)
        except BrokenProcessPool:
            self._executor = None
            raise GatewayError(_ENDED) from None
        if packed is None:
            return function(*args)
        await yield_to_loop(size)
        dropped, error, result = _unpack(packed, shared)
        for path in dropped:
            drop(path)
        if error is not None:
            raise error
        typed: R = result
        return typed

    def close(self) -> None:
        """End the processes. Blocks until they have ended."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None

    def _start(self) -> ProcessPoolExecutor:
        if self._executor is None:
            # not forked: a copy of a process with threads may find their locks held for ever
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(WORKERS, mp_context=context, initializer=_initialize)
        return self._executor


_NOT_PICKLABLE: Final = (pickle.PicklingError, AttributeError, TypeError)
"""Exceptions of pickle for functions without an importable name, and for values that hold a lock or a socket."""

_ENDED: Final = Problem(UNAVAILABLE, "the process that read this large request came to an end; try again", status=503)


def _initialize() -> None:
    """Prepare a new process: ignore the terminal's interrupt, and end with the gateway."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), name="end-with-gateway", daemon=True).start()


def _end_with(sentinel: int) -> None:
    """End this process when the gateway has ended: a killed gateway cannot end its processes."""
    wait([sentinel])
    os._exit(1)


def _work(packed: bytes) -> bytes | None:
    """Call the function in this process and return its packed outcome; None for an outcome that cannot be sent."""
    dropped: list[str] = []
    drop = DropRelay(dropped.append)
    function, args = _unpack(packed, (drop,))
    outcome: tuple[list[str], GatewayError | None, Any]
    # the collector would examine the many small values of a body again and again, which doubles the time
    gc.disable()
    try:
        outcome = (dropped, None, function(*args))
    except GatewayError as error:
        outcome = (dropped, error, None)
    finally:
        gc.enable()
    try:
        return _pack(outcome, (drop, *args))
    except _NOT_PICKLABLE:
        return None


class _Pickler(pickle.Pickler):
    """A pickler that writes objects which both processes have as numbers."""

    dispatch_table = copyreg.dispatch_table.copy()

    def __init__(self, file: io.BytesIO, shared: Sequence[Any]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._numbers = {id(each): number for number, each in enumerate(shared)}

    def persistent_id(self, obj: Any) -> int | None:
        return self._numbers.get(id(obj))


def _read_only(values: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(values)


# options of a provider are of this class; pickle cannot write it, and its name cannot be imported
_Pickler.dispatch_table[MappingProxyType] = lambda proxy: (_read_only, (dict(proxy),))


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, shared: Sequence[Any]) -> None:
        super().__init__(file)
        self._shared = shared

    def persistent_load(self, number: int) -> Any:
        return self._shared[number]


def _pack(value: Any, shared: Sequence[Any]) -> bytes:
    file = io.BytesIO()
    _Pickler(file, shared).dump(value)
    return file.getvalue()


def _unpack(packed: bytes, shared: Sequence[Any]) -> Any:
    return _Unpickler(io.BytesIO(packed), shared).load()
