"""Measures the longest uninterrupted work on an event loop, in CPU time of the loop's thread."""

import asyncio
import time

from tests.helpers.cpu_time import in_units, old_objects_kept, unit_seconds

PAUSE_SECONDS = 0.1
"""Seconds by which the pause between two runs becomes longer with each run."""


class LoopMonitor:
    """Measures the longest CPU time in seconds for which the loop's thread ran without letting other tasks run."""

    def __init__(self):
        self.longest = 0.0

    async def __aenter__(self):
        self._task = asyncio.create_task(self._run())
        await asyncio.sleep(0.01)
        self.longest = 0.0
        return self

    async def __aexit__(self, *_):
        await asyncio.sleep(0.005)
        self._task.cancel()

    async def _run(self):
        before = time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            now = time.thread_time()
            self.longest = max(self.longest, now - before)
            before = now


async def longest_block(work, runs, enough, prepare=lambda: None):
    """Return the longest time for which `work` blocks the event loop, in units of CPU time (`cpu_time.py`).

    `work` runs up to `runs` times, and the smallest result is returned. There are no further runs after a result below
    `enough`. `prepare` is called before each run, and is not measured.

    The pauses between the runs become longer, so that another process that uses the processor's caches does not disturb
    all runs.
    """
    blocks = []
    with old_objects_kept():
        while len(blocks) < runs and (not blocks or min(blocks) >= enough):
            prepare()
            before = unit_seconds()
            async with LoopMonitor() as monitor:
                await work()
            blocks.append(in_units(monitor.longest, before))
            if min(blocks) >= enough:
                await asyncio.sleep(PAUSE_SECONDS * len(blocks))
    return min(blocks)
