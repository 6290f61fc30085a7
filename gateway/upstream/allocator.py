"""Settings of the C library's allocator, so that memory is returned to the system after a peak of large bodies.

By default, glibc keeps several memory pools for threads. Over time it also takes large blocks from these pools, instead
of mapping each block separately. The memory of freed bodies then stays in the pools. After 64 concurrent translated
calls of 4 MB, 1,100 MB were resident with the defaults, and 240 MB with these settings, at the same speed (`python -m
tests.bench.memory`). Source: mallopt(3).
"""

from __future__ import annotations

import asyncio
import ctypes
from contextlib import suppress
from typing import Any, Final, cast

_ARENA_MAX: Final = (-8, 2)
"""M_ARENA_MAX: the maximum number of memory pools. More than two would not be faster, because one Python thread runs at
a time."""
_TRIM_THRESHOLD: Final = (-1, 1024 * 1024)
"""M_TRIM_THRESHOLD: the number of free bytes at the end of a pool above which they are returned to the system."""
_MMAP_THRESHOLD: Final = (-3, 256 * 1024)
"""M_MMAP_THRESHOLD: the minimum size in bytes of a block that is mapped separately, and unmapped when it is freed."""
READ_BYTES: Final = 192 * 1024
"""Size in bytes of the buffer for a read from a connection without TLS. It must be less than `_MMAP_THRESHOLD`."""


def give_memory_back() -> None:
    """Set parameters of glibc's allocator for this process, so that it returns freed memory to the system.

    Does nothing if the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in (_ARENA_MAX, _TRIM_THRESHOLD, _MMAP_THRESHOLD):
            mallopt(parameter, value)


def limit_reads(transport: asyncio.BaseTransport) -> None:
    """Make a connection read at most `READ_BYTES` at a time. Call this before the connection has read anything.

    By default, asyncio allocates a buffer of 256 KB for each read, and returns most of it after the read. The C library
    maps a buffer of 256 KB separately, whether or not the allocator's parameters are set. Each read then takes four
    system calls instead of one, and 15 us instead of 2. asyncio has no public setting for the size of the buffer.
    """
    with suppress(AttributeError):  # another event loop, such as uvloop, has buffers of its own
        cast("Any", transport).max_size = READ_BYTES
