"""Tests of how streams share the event loop: all streams together work only for a limited time in each iteration."""

import asyncio
from collections import Counter

from gateway.call.turns import MAX_WAKES, SLICE_SECONDS, Turns

PIECE = SLICE_SECONDS / 5
"""Seconds that each piece of work takes, by the clock of these tests."""


class Work:
    """Streams with endless work, and a clock. Each piece of work advances the clock by `PIECE`, and nothing else does."""

    def __init__(self):
        self.now = 0.0
        self.turns = Turns(lambda: self.now)
        self.done = Counter()

    async def stream(self, name, pieces=10**9):
        for _ in range(pieces):
            await self.turns.take()
            self.now += PIECE
            self.done[name] += 1

    async def iterations(self, count):
        """Return a list with the number of pieces of work in each of the next `count` iterations of the event loop."""
        pieces = []
        for _ in range(count):
            before = self.done.total()
            await asyncio.sleep(0)
            pieces.append(self.done.total() - before)
        return pieces


async def flood(work, streams, iterations):
    tasks = [asyncio.create_task(work.stream(name)) for name in range(streams)]
    pieces = await work.iterations(iterations)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return pieces


async def test_streams_work_for_a_bounded_time_in_each_iteration():
    for streams in (1, 2, 20, 200):
        pieces = await flood(Work(), streams, 100)
        assert max(pieces) <= 5
        assert sum(pieces) >= 100, "streams must not wait while nobody else works"


async def test_every_stream_has_as_many_turns_as_the_others():
    work = Work()
    await flood(work, 3 * MAX_WAKES, 1000)
    assert len(work.done) == 3 * MAX_WAKES
    # the stream that comes first may use the whole time of an iteration
    assert max(work.done.values()) - min(work.done.values()) <= 6


async def test_a_stream_that_is_left_gives_its_turn_to_others():
    work = Work()
    tasks = [asyncio.create_task(work.stream(name)) for name in range(60)]
    await asyncio.sleep(0)
    for task in tasks[:55]:
        task.cancel()
    await work.iterations(100)
    assert min(work.done[name] for name in range(55, 60)) > 10
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await work.stream("later", 3)
    assert work.done["later"] == 3


async def test_a_stream_alone_waits_for_no_turn():
    """Check that a single stream is not interrupted if its work fits into one iteration of the event loop."""
    work = Work()
    others = asyncio.create_task(work.iterations(1))
    await work.stream("alone", 4)
    assert not others.done()
    await others
