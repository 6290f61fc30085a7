"""CPU time as a multiple of the CPU time of fixed work (the unit), measured in the same run.

CPU time does not include the time of other processes. But on a slower machine, or while other processes use the
processor's caches, the same work takes several times as much CPU time. The multiple hardly changes.
"""

import gc
import json
from contextlib import contextmanager
from time import thread_time

UNIT = json.dumps([{"type": "text", "text": "x" * 20, "number": number} for number in range(18_000)])
"""A JSON document of a megabyte with many small values. Decoding it once is the unit, which takes about 10
milliseconds.
"""
RUNS = 3
"""Maximum number of runs of the measured work. The first run may also fill caches."""


def unit_seconds():
    """Return the CPU time in seconds of this thread for decoding `UNIT`."""
    begun = thread_time()
    json.loads(UNIT)
    return thread_time() - begun


def in_units(seconds, before):
    """Return a CPU time as a multiple of the unit.

    `before` is the CPU time of the unit just before the measured work. The unit is measured again here, and the mean of
    both measurements is used.
    """
    return 2 * seconds / (before + unit_seconds())


def cpu_units(work, enough=0.0):
    """Return the CPU time of this thread for `work`, as a multiple of the unit.

    `work` is called up to `RUNS` times, and the smallest time is returned. There are no further calls after a time of
    at most `enough`.
    """
    taken = []
    with old_objects_kept():
        while len(taken) < RUNS and (not taken or min(taken) > enough):
            before = unit_seconds()
            begun = thread_time()
            work()
            taken.append(in_units(thread_time() - begun, before))
    return min(taken)


@contextmanager
def old_objects_kept():
    """Keep the garbage collector from visiting the objects that exist already.

    A process that has run thousands of tests has many objects, and one visit takes 0.1 seconds.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
