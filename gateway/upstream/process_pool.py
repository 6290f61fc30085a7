"""Worker processes in which plugins work on large bodies, so that the event loop can serve other calls meanwhile.

- Processes are used instead of threads, because JSON parsing and writing hold Python's lock (GIL).
- A function is sent to a worker process by its name. Its arguments and its result are pickled.
- While a plugin works, it reports each field that it drops from a body. The worker process collects these reports, up
  to a maximum. Then the gateway's process passes them to the callback of the call (`DropRelay`).
- If a result contains one of the arguments, such as the client's request, the worker process does not send this
  argument back. The gateway's process puts the original object into the result.
- Work on small bodies is done on the event loop, because sending a small body to a worker process would take longer
  than the work. Work that cannot be pickled (such as a translation with a closure) is also done on the event loop.
"""

from __future__ import annotations

import asyncio
import copyreg
import gc
import io
import os
import pickle
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from functools import partial
from types import FrameType, MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gateway.contract.dropped_fields import add_dropped
from gateway.contract.errors import UNAVAILABLE, GatewayError, Problem
from gateway.contract.hooks import HookTooSlow, running_hook
from gateway.contract.json_api import LARGE_BODY
from gateway.contract.plugin_files import Sources, sources_in_use, use_sources
from gateway.contract.plugin_packages import Package, packages_in_use, use_packages
from gateway.upstream.allocator import map_large_blocks

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

LARGE: Final = LARGE_BODY
"""Minimum size in bytes of a body that is sent to a worker process."""
LARGE_REPLY: Final = 256 * 1024
"""Minimum size in bytes of a reply, or of an event of a stream, that is read in a worker process. Reading this many
bytes takes about 1 ms."""
MANY_VALUES: Final = 2_000
"""Number of commas above which a reply or event is read in a worker process, whatever its size in bytes.

The number of commas in JSON text is about the number of values. Plugins take up to 10 microseconds for each value.
"""
WORKERS: Final = max(1, min(4, os.cpu_count() or 1))
"""Maximum number of worker processes. A process is started when it is needed, and uses about 60 MB of memory. A start
takes half a second.
"""

WORK_SECONDS: Final = 60.0
"""Seconds after which a plugin's work in a worker process is interrupted. Work on the largest bodies takes a few
seconds."""

R = TypeVar("R")


async def yield_to_loop(size: int) -> None:
    """Let other tasks of the event loop run between two steps of work, if the body has many bytes (`size`)."""
    if size >= LARGE:
        await asyncio.sleep(0)


def is_costly(data: bytes) -> bool:
    """Return whether reading a reply, or an event of a stream, would take too long on the event loop."""
    size = len(data)
    # as many commas as `MANY_VALUES` need at least twice as many bytes
    return size >= LARGE_REPLY or (size > 2 * MANY_VALUES and data.count(b",") > MANY_VALUES)


class DropRelay:
    """A callback that a plugin calls for each field that it drops from a body (type `Drop` in `contract/codecs.py`).

    Functions that run in a worker process may have it as an argument.
    """

    def __init__(self, drop: Callable[[str], None]) -> None:
        self._drop = drop

    def __call__(self, path: str) -> None:
        self._drop(path)


NO_DROP: Final = DropRelay(lambda _path: None)
"""The callback for a function that drops no fields."""


class ProcessPool:
    """The worker processes for plugins' work on large bodies. A process is started only when it is needed."""

    def __init__(self, large: int = LARGE, work_seconds: float = WORK_SECONDS) -> None:
        self._large = large
        self._work_seconds = work_seconds
        self._executor: ProcessPoolExecutor | None = None

    def is_large(self, size: int) -> bool:
        """Return whether `run` calls a function that works on a body of `size` bytes in a worker process."""
        return size >= self._large

    async def run(self, size: int, drop: DropRelay, function: Callable[..., R], *args: Any) -> R:
        """Return the result of `function(*args)`. If the function works on a large body, it runs in a worker process.

        `size` is the number of bytes of the body. The function reports dropped fields by calling `drop`, which it finds
        in `args`. Raises the exceptions of the function, and `GatewayError` if the worker process has died.
        """
        if not self.is_large(size):
            return function(*args)
        return await self._elsewhere(size, drop, function, args)

    async def run_reply(self, data: bytes, drop: DropRelay, function: Callable[..., R], *args: Any) -> R:
        """Return the result of `function(*args)`. If reading `data` takes long, the function runs in a worker process.

        `data` is a provider's reply, or a part of one. The function reports dropped fields by calling `drop`, which it
        finds in `args`. Raises the exceptions of the function, and `GatewayError` if the worker process has died.
        """
        if not is_costly(data):
            return function(*args)
        return await self._elsewhere(len(data), drop, function, args)

    async def _elsewhere(self, size: int, drop: DropRelay, function: Callable[..., R], args: tuple[Any, ...]) -> R:
        shared = (drop, *args)
        await yield_to_loop(size)
        try:
            work = _pack((function, args), shared[:1])
        except _NOT_PICKLABLE:
            return function(*args)
        loop = asyncio.get_running_loop()
        try:
            packed = await loop.run_in_executor(self._start(), _work, work, self._work_seconds)
        except BrokenExecutor:
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
        """End the worker processes, and wait until they have ended."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None

    def _start(self) -> ProcessPoolExecutor:
        if self._executor is None:
            # imported here, because a gateway without large bodies does without worker processes
            import multiprocessing  # noqa: PLC0415
            from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415

            # not forked: in a copy of a process with threads, locks that another thread held stay locked for ever
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(
                WORKERS,
                mp_context=context,
                initializer=_initialize,
                initargs=(sources_in_use(), packages_in_use()),
            )
        return self._executor


_NOT_PICKLABLE: Final = (pickle.PicklingError, AttributeError, TypeError)
"""Exceptions that pickle raises for functions without an importable name, and for values with a lock or a socket."""

_ENDED: Final = Problem(UNAVAILABLE, "the process that worked on this large body came to an end; try again", status=503)


def _initialize(sources: Sources | None, packages: Sequence[Package]) -> None:
    """Prepare a new worker process.

    The process ignores Ctrl-C in the terminal, ends when the gateway ends, and returns the memory of large bodies to
    the system. `sources` has the source text of the plugins in the plugin folder. `packages` are the installed packages
    with plugins. So the process runs the same plugins as the gateway.
    """
    from multiprocessing import parent_process  # noqa: PLC0415 (see `ProcessPool._start`)

    use_sources(sources)
    use_packages(packages)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, _interrupt)
    map_large_blocks()
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), name="end-with-gateway", daemon=True).start()


def _interrupt(_number: int, frame: FrameType | None) -> None:
    """Raise `HookTooSlow` in the code of a plugin whose work takes too long.

    This is the handler of the alarm signal.
    """
    if running_hook(frame) is not None:
        raise HookTooSlow("took too long in a worker process")


def _end_with(sentinel: int) -> None:
    """Wait for the end of the gateway's process, and then end this worker process.

    This is needed because a gateway that is killed cannot end its worker processes.
    """
    from multiprocessing.connection import wait  # noqa: PLC0415 (see `ProcessPool._start`)

    wait([sentinel])
    os._exit(1)


def _work(packed: bytes, seconds: float) -> bytes | None:
    """Call a pickled function, and return a pickled triple: the fields that it dropped from a body, its error or None,
    and its result.

    Return None if the triple cannot be pickled. A plugin that takes more than `seconds` is interrupted.
    """
    # an ordered set, because one reply can report the same field a million times
    dropped: dict[str, None] = {}
    drop = DropRelay(partial(add_dropped, dropped))
    function, args = _unpack(packed, (drop,))
    outcome: tuple[dict[str, None], GatewayError | None, Any]
    # the garbage collector would examine the many small values of a body repeatedly, which doubles the time
    gc.disable()
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        outcome = (dropped, None, function(*args))
    except GatewayError as error:
        outcome = (dropped, error, None)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        gc.enable()
    try:
        return _pack(outcome, (drop, *args))
    except _NOT_PICKLABLE:
        return None


class _Pickler(pickle.Pickler):
    """A pickler that writes only a number for each object that is in `shared`, because the other process already has
    the object.
    """

    dispatch_table = copyreg.dispatch_table.copy()

    def __init__(self, file: io.BytesIO, shared: Sequence[Any]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._numbers = {id(each): number for number, each in enumerate(shared)}

    def persistent_id(self, obj: Any) -> int | None:
        return self._numbers.get(id(obj))


def _read_only(values: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(values)


# options of a provider are mapping proxies, for which pickle has no support of its own
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
