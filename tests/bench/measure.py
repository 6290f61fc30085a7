"""Measures work in CPU time of the thread, and makes tables of the results.

CPU time is used because other processes share the machine, and waiting for them uses no CPU time. This module does not
depend on what is measured.
"""

import gc
from statistics import median
from time import thread_time_ns

RUNS = 7
RUN_SECONDS = 0.02
"""Minimum duration in seconds of one run of a group of functions."""


class Nowhere:
    """An output for a log that discards everything."""

    def write(self, data):
        return len(data)

    def isatty(self):
        return False


async def cpu_us(groups, *, runs=RUNS, seconds=RUN_SECONDS):
    """Return a dict from the name of each group to the time of one call of its functions in microseconds.

    `groups` maps a name to functions without arguments. After a warm-up, the groups run alternately, so that a change
    in the machine's speed affects all of them. The time is the median of `runs` runs.
    """
    laps, times = {}, {name: [] for name in groups}
    for name, steps in groups.items():
        await _laps(steps, 1)
        laps[name] = max(1, round(seconds * 1e9 / max(await _laps(steps, 1), 1)))
    gc.collect()
    for _ in range(runs):
        for name, steps in groups.items():
            took = await _laps(steps, laps[name])
            times[name].append(took / laps[name] / len(steps) / 1000)
    return {name: median(figures) for name, figures in times.items()}


async def once_us(steps):
    """Run each of the functions `steps` once, and return the median of their CPU times in microseconds.

    This is for functions that would find cached results in a second run.
    """
    return median([await _laps([step], 1) / 1000 for step in steps])


async def _laps(steps, count):
    start = thread_time_ns()
    for _ in range(count):
        for step in steps:
            await step()
    return thread_time_ns() - start


def rounded(value):
    """Return microseconds as text with at most three significant digits; "-" for None."""
    if value is None:
        return "-"
    return f"{value:,.2f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def table(title, heads, rows):
    """Return a table as plain text. The first column is aligned left, the others right."""
    lines = [[title, *heads], *[[name, *cells] for name, cells in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads) + 1)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *[cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]]
        )
        for line in lines
    )
