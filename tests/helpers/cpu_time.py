"""The time that a piece of work needs, whatever else the machine does: for tests of how work grows with its input."""

from time import thread_time


def cpu_seconds(work, runs=3):
    """This thread's CPU seconds in the quickest of several runs; pauses of the garbage collector fall into others."""
    taken = []
    for _ in range(runs):
        begun = thread_time()
        work()
        taken.append(thread_time() - begun)
    return min(taken)
