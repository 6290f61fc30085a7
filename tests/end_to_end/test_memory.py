"""Tests that calls leave nothing behind in memory, however they end. The soak benchmark tests the same for hours."""

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
"""Number of times that the objects are counted. The first count is ignored, because the calls before it fill caches."""
FAULTS = 96
"""Number of failing calls before each count of the objects: 12 calls of each kind of fault."""
RIGHT = 24
"""Number of successful calls before each count of the objects."""
PERIOD = 11_400
"""Number of calls after which `soak.request` begins to repeat the same calls, with other texts, sessions and names."""
GROWTH = 8
"""Growth that shows a leak: at least this number of objects of one type is added between each two counts.

Open connections change the numbers by less, or between only two of the counts.
"""
CURSORS = "weakref.ReferenceType"
"""The name of the type of weak references, which are not counted. A connection of sqlite3 keeps up to 200 of them to
its dead cursors.
"""


async def _remove_cancelled_timers():
    """Make the event loop remove cancelled timers. By itself, it removes them only when they are more than half of all
    timers.
    """
    loop = asyncio.get_running_loop()
    for _ in range(5_000):
        loop.call_later(3600, print).cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def _clear_caches():
    """Empty the `lru_cache` caches of all modules. `tests/contract/test_caches.py` checks that these caches have a
    maximum size.
    """
    for module in list(sys.modules.values()):
        for each in list(vars(module).values()):
            if type(each) is functools._lru_cache_wrapper:
                each.cache_clear()


async def counted():
    """Return a `Counter` with two kinds of entries: the number of live objects of each type, and the number of items of
    each container, such as a dict, that is an attribute of an object.
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
