"""Settings of the C library's allocator, so that memory goes back to the system after a peak of large bodies.

By default glibc keeps one pool of memory for each thread, and after large blocks have been freed it raises the size
from which a block is mapped on its own. Freed bodies then stay in the pools. 64 translated calls of 4 MB at once left
1,100 MB resident with the defaults, and 240 MB with these settings, at the same speed
(`python -m tests.bench.memory`; mallopt(3)).
"""

from __future__ import annotations

import ctypes
from typing import Final

_ARENA_MAX: Final = (-8, 2)
"""M_ARENA_MAX: at most two pools. Few threads allocate at a time, because Python runs one of them at a time."""
_TRIM_THRESHOLD: Final = (-1, 1024 * 1024)
"""M_TRIM_THRESHOLD: minimum number of free bytes at the top of a pool that are given back to the system."""
_MMAP_THRESHOLD: Final = (-3, 256 * 1024)
"""M_MMAP_THRESHOLD: minimum size in bytes of a block that is mapped on its own, and given back when it is freed."""


def give_memory_back() -> None:
    """Set the allocator of this process. Does nothing if the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in (_ARENA_MAX, _TRIM_THRESHOLD, _MMAP_THRESHOLD):
            mallopt(parameter, value)
