"""Measuring work in CPU time of the thread, and tables of what was found.

CPU time, since others have the machine too: a thread that waits for its turn costs nothing. Nothing here knows what is
measured.
"""

import gc
from statistics import median
from time import thread_time_ns

RUNS = 7
RUN_SECONDS = 0.02
"""Seconds that one run of a group lasts, unless a single lap takes longer."""


class Nowhere:
    """An output for a log that nobody reads."""

    def write(self, data):
        return len(data)

    def isatty(self):
        return False


async def cpu_us(groups, *, runs=RUNS, seconds=RUN_SECONDS):
    """Median of the microseconds that a step costs, warm, by the name of its group.

    `groups` are sequences of functions without arguments, by name. They run by turns, so that a machine that gets
    slower meanwhile does so for all of them.
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
    """Median of the microseconds that each of `steps` costs, each done once: for what is remembered afterwards."""
    return median([await _laps([step], 1) / 1000 for step in steps])


async def _laps(steps, count):
    start = thread_time_ns()
    for _ in range(count):
        for step in steps:
            await step()
    return thread_time_ns() - start


def rounded(value):
    """Microseconds as they are read: three digits, and no more than are known."""
    if value is None:
        return "-"
    return f"{value:,.2f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def table(title, heads, rows):
    """A plain table as text: the first column to the left, the others to the right."""
    lines = [[title, *heads], *[[name, *cells] for name, cells in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads) + 1)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *[cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]]
        )
        for line in lines
    )
