"""CPU time of a function, for tests of how the work grows with the size of its input."""

from time import thread_time

RUNS = 3
"""Number of runs. The first one may also fill caches or collect garbage."""


def cpu_seconds(work, enough=0.0):
    """Return the CPU seconds of this thread in the fastest of up to `RUNS` runs.

    There are no further runs after a result of at most `enough`.
    """
    taken = []
    while len(taken) < RUNS and (not taken or min(taken) > enough):
        begun = thread_time()
        work()
        taken.append(thread_time() - begun)
    return min(taken)
