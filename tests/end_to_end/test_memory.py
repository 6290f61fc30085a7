"""Tests that calls leave nothing behind in memory, however they end. The soak benchmark measures this over hours."""

import asyncio
import functools
import gc
import sys
from collections import Counter
from contextlib import AsyncExitStack
from itertools import pairwise

from gateway.call import sessions
from tests.bench import soak
from tests.bench.soak_probe import tables
from tests.helpers.gateway import gate

COUNTS = 5
"""Number of times that the objects are counted. The first count is ignored, because the calls before it fill caches and
tables that are kept on purpose.
"""
FAULTS = 96
"""Number of calls with a fault before each count of the objects: 12 calls of each kind of fault."""
RIGHT = 24
"""Number of calls without a fault before each count of the objects."""
PERIOD = 11_400
"""Number of different calls that `soak.request` makes. After this number, it makes the same calls again, with other
texts, sessions and names.
"""
GROWTH = 8
"""Minimum number of additional objects that counts as a leak. A type of objects leaks if its number grows by at least
this from each count to the next.

Growth in a single count is no leak, because open connections change the numbers by some dozen objects.
"""
CURSORS = "weakref.ReferenceType"
"""The type whose objects are not counted. A connection of sqlite3 keeps weak references to its cursors, and removes the
dead ones only after every 200 cursors.
"""


async def _remove_cancelled_timers():
    """Make the event loop remove cancelled timers. The loop keeps cancelled timers until they are more than half of all
    timers.
    """
    loop = asyncio.get_running_loop()
    for _ in range(5_000):
        loop.call_later(3600, print).cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def _clear_caches():
    """Empty the caches of all modules. `tests/contract/test_caches.py` checks that each of them has a bound."""
    for module in list(sys.modules.values()):
        for each in list(vars(module).values()):
            if type(each) is functools._lru_cache_wrapper:
                each.cache_clear()


async def counted():
    """Return a `Counter` with two kinds of keys: a type, with the number of its live objects; and an attribute that is
    a container, with the number of its entries.
    """
    await _remove_cancelled_timers()
    _clear_caches()
    gc.collect()
    present = gc.get_objects()
    return Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in present) + Counter(
        tables(present, 1)
    )


async def test_calls_leave_no_objects_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(sessions, "MAX_OPEN", 20)
    async with AsyncExitStack() as stack:
        simulated = {name: await stack.enter_async_context(sim()) for name, (_, sim) in soak.PROVIDERS.items()}
        config = soak.config({name: sim.url for name, sim in simulated.items()})
        more = {"quotas": config["quotas"]}
        gw = await stack.enter_async_context(gate(tmp_path, config["providers"], grants=config["grants"], more=more))

        async def call(numbers):
            for number in numbers:
                await soak._call(gw.session, gw.url, number, soak.Figures())

        counts = []
        for first in range(1, COUNTS * PERIOD, PERIOD):
            numbers = [*range(first, first + RIGHT), *(first - 1 + soak.FAULT_EVERY * each for each in range(FAULTS))]
            await asyncio.gather(*(call(numbers[start::4]) for start in range(4)))
            for sim in simulated.values():
                sim.requests.clear()
            await gw.running.gateway.follower.flush()
            counts.append(await counted())
    growth = {name: min(after[name] - before[name] for before, after in pairwise(counts[1:])) for name in counts[-1]}
    assert {name: more for name, more in growth.items() if more >= GROWTH and name != CURSORS} == {}
