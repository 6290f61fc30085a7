"""CPU time of a piece of work, for tests of how work grows with its input."""

from time import thread_time


def cpu_seconds(work, runs=3):
    """Return this thread's CPU seconds in the quickest of several runs, which has no pause of the garbage collector."""
    taken = []
    for _ in range(runs):
        begun = thread_time()
        work()
        taken.append(thread_time() - begun)
    return min(taken)
