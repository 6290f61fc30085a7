"""CPU time of a function, for tests of how the work grows with the size of its input."""

from time import thread_time


def cpu_seconds(work, runs=3):
    """Return the CPU seconds of this thread in the fastest of several runs, without garbage collection."""
    taken = []
    for _ in range(runs):
        begun = thread_time()
        work()
        taken.append(thread_time() - begun)
    return min(taken)
