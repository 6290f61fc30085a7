"""Settings of the C library's allocator: large bodies are allocated fast, and their memory is returned to the system
after a peak.

By default, glibc keeps freed blocks in several memory pools. In time, it also takes large blocks from these pools.
After 64 concurrent translated calls of 4 MB, 1,100 MB of memory stayed resident. There are two ways to return it
(mallopt(3), malloc_trim(3)):

- `map_large_blocks` makes glibc map each large block separately, and unmap it when it is freed. But every page of a new
  block then causes a page fault, which makes a copy of 4 MB 25 times as slow. Processes without an event loop use this
  function.
- `freed_memory_returned` lets glibc keep large blocks in its pools, and regularly returns free memory of the pools. A
  call with an image of 4 MB then takes half as much CPU time as with `map_large_blocks`.
"""

from __future__ import annotations

import asyncio
import ctypes
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

_ARENA_MAX: Final = (-8, 2)
"""M_ARENA_MAX: the maximum number of memory pools. More than two would not be faster, because one Python thread runs at
a time."""
_TRIM_THRESHOLD: Final = -1
"""M_TRIM_THRESHOLD: if a pool has more free bytes than this at its end, glibc returns them to the system."""
_MMAP_THRESHOLD: Final = -3
"""M_MMAP_THRESHOLD: the minimum size in bytes of a block that is mapped separately, and unmapped when it is freed."""
_MAPPED: Final = (_ARENA_MAX, (_TRIM_THRESHOLD, 1024 * 1024), (_MMAP_THRESHOLD, 256 * 1024))
_POOLED: Final = (_ARENA_MAX, (_TRIM_THRESHOLD, 1024**3), (_MMAP_THRESHOLD, 32 * 1024 * 1024))
"""Parameters (mallopt(3)) with which glibc keeps large blocks in its pools. Blocks above 32 MB are still mapped,
because glibc accepts no larger M_MMAP_THRESHOLD."""
_SECONDS: Final = 1.0
"""Seconds between two checks of the free memory. A check takes 20 us."""
MIN_FREE: Final = 32 * 1024 * 1024
"""Minimum number of free bytes that are returned to the system. Returning 32 MB takes 2 ms."""
_PAGE_BYTES: Final = resource.getpagesize()


def map_large_blocks() -> None:
    """Make the allocator map each large block separately. Does nothing if the C library is not glibc."""
    _set(ctypes.CDLL(None), _MAPPED)


@asynccontextmanager
async def freed_memory_returned() -> AsyncIterator[None]:
    """Keep large memory blocks in the allocator's pools during an `async with` block. Regularly return free memory in
    the pools to the system.

    With a glibc before 2.33, this is the same as `map_large_blocks`. Does nothing if the C library is not glibc.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        _set(library, _MAPPED)
        yield
        return
    library.mallinfo2.restype = _Info
    _set(library, _POOLED)
    task = asyncio.create_task(_return_regularly(library))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _return_regularly(library: ctypes.CDLL) -> None:
    """Regularly return free memory to the system, until the task is cancelled.

    The allocator does not know how much of the free memory is resident. So the memory is returned in two cases: if
    there were many page faults, which make memory resident, or if the free memory has grown a lot since the last
    return.
    """
    least, faults = 0, 0
    while True:
        await asyncio.sleep(_SECONDS)
        free = library.mallinfo2().fordblks
        least = min(least, free)
        new = (_faults() - faults) * _PAGE_BYTES
        if free - least >= MIN_FREE or min(free, new) >= MIN_FREE:
            # in a thread, because returning hundreds of megabytes takes tens of milliseconds
            await asyncio.to_thread(library.malloc_trim, 0)
            least, faults = library.mallinfo2().fordblks, _faults()


def _faults() -> int:
    """Return the number of minor page faults of this process so far. Each of them has made a page resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


class _Info(ctypes.Structure):
    """The result of `mallinfo2` (mallinfo(3)). `fordblks` is the number of free bytes in all pools."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
        )
    )  # fmt: skip


def _set(library: ctypes.CDLL, parameters: tuple[tuple[int, int], ...]) -> None:
    mallopt = getattr(library, "mallopt", None)
    if mallopt is not None:
        for parameter, value in parameters:
            mallopt(parameter, value)
