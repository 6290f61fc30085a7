"""Tests of the writer of a stream, which sends pings while nothing else is written, and notices a client that stops
reading.
"""

import asyncio

import pytest

from gateway.call.stream_writer import StreamWriter


class Client:
    """The connection to a client that accepts `takes` writes. The next write never returns."""

    def __init__(self, takes):
        self.takes = takes
        self.data = []

    async def write(self, data):
        self.data.append(data)
        if len(self.data) > self.takes:
            await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("takes", [0, 1, 5])
async def test_a_client_that_takes_no_ping_is_noticed(takes):
    client = Client(takes)
    await asyncio.wait_for(StreamWriter(client, None).watch(b"ping", 0.01, 0.05), 30)
    assert client.data == [b"ping"] * (takes + 1)


@pytest.mark.parametrize("ping", [b"ping", b""])
async def test_a_client_that_takes_no_event_is_noticed(ping):
    client = Client(1)
    writer = StreamWriter(client, None)
    await writer.write(b"first")
    stuck = asyncio.create_task(writer.write(b"second"))
    await asyncio.wait_for(writer.watch(ping, 0.5, 0.05), 30)
    assert not stuck.done()
    stuck.cancel()


async def test_a_client_that_reads_is_watched_on():
    client = Client(10_000)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(StreamWriter(client, None).watch(b"ping", 0.01, 0.05), 0.3)
    assert len(client.data) > 3
