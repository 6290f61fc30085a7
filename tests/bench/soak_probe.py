"""Runs the gateway, and counts what takes memory in its process: `python -m tests.bench.soak_probe serve ...`.

A separate thread reads standard input. Each line is the path of a file, to which the thread appends the counts as a
line of JSON.

The objects are counted in a fork of the process. In the process itself, counting would break other threads: the list of
`gc.get_objects` refers to tuples that another thread is still building. The `tuple(generator)` in that thread then
raises `SystemError` (gevent/gevent#1302).
"""

from __future__ import annotations

import ctypes
import functools
import gc
import json
import os
import sys
import threading
from collections import Counter
from pathlib import Path

from gateway.process.command_line import main

MIN_LENGTH = 100
"""Minimum number of entries of a cache or container. Smaller ones are not listed."""
KINDS = 100
"""Number of types of objects that are listed: those with the most objects."""
OWNERS = ("gateway", "aiohttp", "asyncio", "multidict", "prometheus_client", "structlog", "yarl")
"""Names of packages. The attributes of an object are listed only if its class is in one of these packages."""
MAX_DESCRIPTOR = 4096
"""A number that is larger than all descriptors of a gateway in a soak test."""
CONTAINERS = ("dict", "list", "set", "deque", "OrderedDict", "WeakSet", "WeakKeyDictionary", "SimpleQueue")


class _Mallinfo(ctypes.Structure):
    """The result of glibc's `mallinfo2`: numbers of blocks or bytes (mallinfo(3))."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


def allocated():
    """Return a dict with allocated memory in megabytes: what glibc's malloc has handed out and has free, what it has
    mapped separately, and what SQLite uses.
    """
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = _Mallinfo
    info = library.mallinfo2()
    sqlite = ctypes.CDLL("libsqlite3.so.0")
    sqlite.sqlite3_memory_used.restype = ctypes.c_int64
    sizes = {
        "malloc": info.uordblks,
        "free": info.fordblks,
        "mapped": info.hblkhd,
        "sqlite": sqlite.sqlite3_memory_used(),
    }
    return {name: round(size / 1e6, 2) for name, size in sizes.items()}


def _members(value):
    """Yield the names and values of the attributes of an object."""
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if not name.startswith("__") and hasattr(value, name):
                yield name, getattr(value, name)
    yield from getattr(value, "__dict__", {}).items()


def tables(objects, least=MIN_LENGTH):
    """Return a dict from the name of each cache, and of each attribute that is a container, to its number of entries.

    The entries of an attribute are summed over all objects of a class. Caches and attributes with fewer than `least`
    entries are left out.
    """
    sizes = Counter()
    for value in objects:
        kind = type(value)
        if kind is functools._lru_cache_wrapper:
            inner = value.__wrapped__
            # the cache of SQL statements belongs to a connection, all others to a function
            owner = inner if hasattr(inner, "__qualname__") else type(inner)
            sizes[f"cache {owner.__module__}.{owner.__qualname__}"] += value.cache_info().currsize
        elif str(getattr(kind, "__module__", "")).startswith(OWNERS):
            for name, member in _members(value):
                if type(member).__name__ in CONTAINERS:
                    sizes[f"{kind.__module__}.{kind.__qualname__}.{name}"] += _length(member)
    return {name: size for name, size in sizes.most_common() if size >= least}


def _length(container):
    return container.qsize() if hasattr(container, "qsize") else len(container)


def counted():
    """Return the number of objects in this process, the sizes of the largest tables, and the most frequent types.

    The function runs in a fork of the gateway's process.
    """
    gc.disable()
    gc.unfreeze()
    objects = gc.get_objects()
    kinds = Counter(f"{type(value).__module__}.{type(value).__qualname__}" for value in objects)
    return {"objects": len(objects), "tables": tables(objects), "types": dict(kinds.most_common(KINDS))}


def write_counts(path):
    """Append a line with the counts to a file.

    The objects are counted in a fork of a fork, which is no child of the gateway. The memory of a child would be added
    to that of the gateway.
    """
    sizes = {"threads": threading.active_count(), "blocks": sys.getallocatedblocks(), **allocated()}
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        if not os.fork():
            os.closerange(3, MAX_DESCRIPTOR)  # a connection that the gateway closes ends when all its copies are closed
            with path.open("a") as file:
                file.write(json.dumps({**sizes, **counted()}) + "\n")
    finally:
        os._exit(0)


def _answer():
    for line in sys.stdin:
        write_counts(Path(line.rstrip()))


if __name__ == "__main__":
    threading.Thread(target=_answer, name="probe", daemon=True).start()
    sys.exit(main())
