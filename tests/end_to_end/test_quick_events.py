"""Tests of stream events that are written to the client as soon as they arrive, without running the call's task.

The client must get all events, one by one and in order.
"""

import asyncio
import json
from itertools import count

import pytest

from gateway.call.stream_writer import UNSENT_BYTES, StreamWriter
from tests.helpers.gateway import NOVA, gate
from tests.helpers.raw_provider import chunk, raw_provider
from tests.helpers.waiting import SECONDS

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"data: [DONE]\n\n"
TURNS = 6
"""Number of iterations of the event loop within which an event usually passes from the provider to the client."""
BODY = json.dumps({"model": NOVA, "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()


def event(number, text="", reason=None):
    choice = {"index": 0, "delta": {"content": text or f"{number} "}, "finish_reason": reason}
    value = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": NOVA, "choices": [choice]}
    return b"data: %s\n\n" % json.dumps(value).encode()


class Stepwise:
    """A provider that sends each event only when the test puts it into the queue `steps`."""

    def __init__(self):
        self.steps = asyncio.Queue()

    async def play(self, writer):
        writer.write(HEAD)
        while data := await self.steps.get():
            writer.write(chunk(data))
        writer.write(chunk(event(0, " ", "stop") + LAST) + b"0\r\n\r\n")


@pytest.fixture
def quick(monkeypatch):
    """Return a list to which the data of each direct write is appended. A direct write (`StreamWriter.write_now`) does
    not run the call's task.
    """
    writes = []
    write_now = StreamWriter.write_now

    def counted(self, data):
        writes.append(data)
        write_now(self, data)

    monkeypatch.setattr(StreamWriter, "write_now", counted)
    return writes


def provider(url, *names):
    """Return the configuration of providers at one address, with these names. Without names, there is one provider,
    `lab`.
    """
    one = {"baseurl": url, "models": [NOVA], "compatibility": {"openai_chat": True}, "apikey": "key"}
    return dict.fromkeys(names or ["lab"], one)


async def opened(gw, version="1.1"):
    """Send a streamed call over a connection of its own. Return the connection's reader and writer."""
    url = gw.running.urls[0]
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    head = f"POST /v1/chat/completions HTTP/{version}\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY)
    return reader, writer


@pytest.mark.parametrize("names", [["lab"], ["lab", "other"]], ids=["one provider", "two providers"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_each_event_comes_at_once_and_needs_no_task(tmp_path, quick, version, names):
    """Check that all events except the first and the last are written to the client as soon as the provider's bytes are
    read, without running the call's task.

    This must hold with one provider and with two. With two, the gateway decides by the first event which of them serves
    the call.
    """
    upstream = Stepwise()
    async with raw_provider(upstream.play) as peer, gate(tmp_path, provider(peer.url, *names)) as gw:
        reader, writer = await opened(gw, version)
        for number in range(8):
            upstream.steps.put_nowait(event(number))
            async with asyncio.timeout(SECONDS):
                await reader.readuntil(event(number))
        upstream.steps.put_nowait(b"")
        async with asyncio.timeout(SECONDS):
            await reader.readuntil(LAST)
            assert await reader.read() == b"" if version == "1.0" else await reader.readuntil(b"\r\n0\r\n\r\n")
        assert quick[:7] == [event(number) for number in range(1, 8)]
        writer.close()


async def test_a_client_that_reads_late_gets_every_event(tmp_path, quick):
    """Check that a client that stops reading for some time gets every event once and in order."""
    upstream, text = Stepwise(), "x" * 1000
    async with raw_provider(upstream.play) as peer, gate(tmp_path, provider(peer.url)) as gw:
        reader, writer = await opened(gw)
        sent = [event(0)]
        upstream.steps.put_nowait(sent[0])
        await reader.readuntil(sent[0])
        writer.transport.pause_reading()
        for number in count(1):
            sent.append(event(number, f"{number}{text}"))
            upstream.steps.put_nowait(sent[-1])
            for _ in range(TURNS):
                await asyncio.sleep(0)
            if number - len(quick) > 200:
                break
        writer.transport.resume_reading()
        for data in sent[1:]:
            async with asyncio.timeout(SECONDS):
                assert data in await reader.readuntil(data)
        upstream.steps.put_nowait(b"")
        await reader.readuntil(LAST)
        assert 0 < len(quick) < len(sent)
        assert sum(map(len, quick)) > UNSENT_BYTES
        writer.close()
