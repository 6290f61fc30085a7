"""The number of file descriptors that a process has open, and a limit that prevents opening more."""

import os
import resource
from contextlib import contextmanager
from pathlib import Path


def descriptors(pid="self"):
    """Return the number of descriptors that a process has open, or 0 if the system does not report it."""
    folder = Path(f"/proc/{pid}/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


@contextmanager
def no_descriptor_left():
    """Lower the limit of descriptors during a `with` block, so that this process cannot open another one."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
