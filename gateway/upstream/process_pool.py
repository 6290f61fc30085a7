"""Work of plugins on large bodies, done in processes of its own, so that the event loop serves others meanwhile.

A thread would not help: JSON is read and written with the interpreter's lock held. What plugins make of a request is
plain values, so it travels: the function by its name, its arguments and what comes back as they are. Two things stay
what they were here: whoever is told of dropped fields, and every argument that comes back as it went, such as the
client's own ask, which is not sent a second time.

What cannot travel (a plugin from a single file, a translation that holds a closure) is done on the loop, as are small
bodies, for which the way there and back would take longer than the work.
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
"""Bytes of a body from which on it is worth it: a megabyte takes about 10 ms here, and 3 ms to be sent away."""
WORKERS: Final = max(1, min(4, os.cpu_count() or 1))
"""Begun one by one, when they are first needed; each takes half a second for that, and some 60 MB."""

R = TypeVar("R")


async def yield_to_loop(size: int) -> None:
    """Between two pieces of work on a large body: all others of the loop get their turn. `size` is in bytes."""
    if size >= LARGE:
        await asyncio.sleep(0)


class DropRelay:
    """Tells of dropped fields (`flag.Drop`), wherever the one who drops them runs."""

    def __init__(self, drop: Callable[[str], None]) -> None:
        self._drop = drop

    def __call__(self, path: str) -> None:
        self._drop(path)


class ProcessPool:
    """The processes; one for all of a gateway's calls. Nothing is begun before the first large body."""

    def __init__(self, large: int = LARGE) -> None:
        self._large = large
        self._executor: ProcessPoolExecutor | None = None

    async def run(self, size: int, drop: DropRelay, function: Callable[..., R], *args: Any) -> R:
        """`function(*args)`, in another process when `size`, in bytes, is large.

        `drop` may be among the arguments, or inside of one. Raises what the function raises, and `GatewayError` when
        its process came to an end.
        """
        if size < self._large:
            return function(*args)
        shared = (drop, *args)
        await yield_to_loop(size)
        try:
            work = _packed((function, args), shared[:1])
        except _CANNOT_TRAVEL:
            return function(*args)
        loop = asyncio.get_running_loop()
        try:
            packed = await loop.run_in_executor(self._begun(), _work, work)
        except BrokenProcessPool:
            self._executor = None
            raise GatewayError(_ENDED) from None
        if packed is None:
            return function(*args)
        await yield_to_loop(size)
        dropped, error, result = _unpacked(packed, shared)
        for path in dropped:
            drop(path)
        if error is not None:
            raise error
        found: R = result
        return found

    def close(self) -> None:
        """Ends the processes. Blocks until they are gone."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None

    def _begun(self) -> ProcessPoolExecutor:
        if self._executor is None:
            # not forked: a copy of a process with threads may find their locks held for ever
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(WORKERS, mp_context=context, initializer=_begin)
        return self._executor


_CANNOT_TRAVEL: Final = (pickle.PicklingError, AttributeError, TypeError)
"""What pickle raises for functions without a name to be found by, and for what holds a lock or a socket."""

_ENDED: Final = Problem(UNAVAILABLE, "the process that read this large request came to an end; try again", status=503)


def _begin() -> None:
    """In a new process: an interrupt of the terminal is the gateway's affair, and so is this process's end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), name="end-with-gateway", daemon=True).start()


def _end_with(sentinel: int) -> None:
    """A gateway that was killed cannot end its processes itself."""
    wait([sentinel])
    os._exit(1)


def _work(packed: bytes) -> bytes | None:
    """In the other process: the call, and what came of it. None for a result that cannot travel back."""
    dropped: list[str] = []
    drop = DropRelay(dropped.append)
    function, args = _unpacked(packed, (drop,))
    found: tuple[list[str], GatewayError | None, Any]
    # a body of many small values would have it look through all of them again and again, which doubles the time
    gc.disable()
    try:
        found = (dropped, None, function(*args))
    except GatewayError as error:
        found = (dropped, error, None)
    finally:
        gc.enable()
    try:
        return _packed(found, (drop, *args))
    except _CANNOT_TRAVEL:
        return None


class _Pickler(pickle.Pickler):
    """What both sides have is written as its number."""

    dispatch_table = copyreg.dispatch_table.copy()

    def __init__(self, file: io.BytesIO, shared: Sequence[Any]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._numbers = {id(each): number for number, each in enumerate(shared)}

    def persistent_id(self, obj: Any) -> int | None:
        return self._numbers.get(id(obj))


def _read_only(values: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(values)


# as options of a provider are; pickle knows no way for it, and its class goes by a name that is none
_Pickler.dispatch_table[MappingProxyType] = lambda proxy: (_read_only, (dict(proxy),))


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, shared: Sequence[Any]) -> None:
        super().__init__(file)
        self._shared = shared

    def persistent_load(self, number: int) -> Any:
        return self._shared[number]


def _packed(value: Any, shared: Sequence[Any]) -> bytes:
    file = io.BytesIO()
    _Pickler(file, shared).dump(value)
    return file.getvalue()


def _unpacked(packed: bytes, shared: Sequence[Any]) -> Any:
    return _Unpickler(io.BytesIO(packed), shared).load()
