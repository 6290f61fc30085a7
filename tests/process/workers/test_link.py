"""Tests of how a worker sends the bodies of calls to its parent process (the keeper), which stores them."""

import asyncio
import socket

import pytest

from gateway.process.workers import link
from gateway.process.workers.link import KeeperBodies
from gateway.process.workers.messages import Captured, Channel
from gateway.store.captured import CapturedBodies, CapturedBody


class Capture:
    """A stand-in for the captured bodies of a call. The request body and the reply body have the same text."""

    def __init__(self, text):
        body = CapturedBody({"x-text": text}, text.encode("utf-8", "replace"), False)
        self.bodies = CapturedBodies("req_1", "ada@example.com", 1.0, body, body)
        self.size = 2 * len(text)

    def redacted(self):
        return self.bodies


@pytest.fixture
async def ends():
    """Yield the two ends of a connection between a worker and its parent process (the keeper)."""
    pair = [await Channel.open(one) for one in socket.socketpair()]
    yield pair
    for one in pair:
        one.close()


async def test_bodies_reach_the_keeper(ends):
    worker, keeper = ends
    bodies = KeeperBodies(worker)
    bodies.put(Capture("hello"))
    await bodies.sent()
    assert await keeper.receive() == Captured(Capture("hello").bodies)


async def test_bodies_that_cannot_be_sent_are_dropped_alone(ends):
    worker, keeper = ends
    bodies = KeeperBodies(worker)
    bodies.put(Capture("\udce9"))
    bodies.put(Capture("hello"))
    await bodies.sent()
    assert await keeper.receive() == Captured(Capture("hello").bodies)


async def test_bodies_are_dropped_while_too_many_are_prepared(ends, monkeypatch):
    monkeypatch.setattr(link, "MAX_UNSENT", 4)
    worker, keeper = ends
    bodies = KeeperBodies(worker)
    for text in ("one", "two"):
        bodies.put(Capture(text))
    await bodies.sent()
    bodies.put(Capture("three"))
    await bodies.sent()
    received = [await keeper.receive() for _ in range(2)]
    assert received == [Captured(Capture(text).bodies) for text in ("one", "three")]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await keeper.receive()
