"""Tests of a locked store, a full disk and many calls. In each case, no call fails and no record is lost."""

import asyncio
import json
import os
import re
import resource
import sqlite3
import time
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.helpers.gateway import EVERYTHING, HAIKU, KEY, NOVA, bedrock, gate
from tests.helpers.processes import served
from tests.helpers.waiting import eventually

TOGETHER = 8
LOCKED_SECONDS = 3
SLOWEST_SECONDS = 2.0
"""Maximum duration in seconds of a call whose record cannot be stored.

Calls usually take some 10 ms, but the machine may be busy."""
MESSAGES = [{"role": "user", "content": "hello"}]


@asynccontextmanager
async def serving(tmp_path, url):
    config = tmp_path / "config.hujson"
    config.write_text(json.dumps({"providers": {"b": bedrock(url)}, "grants": EVERYTHING}))
    serve = ("serve", "--config", str(config), "--listen", "127.0.0.1:0", "--state", str(tmp_path / "state"))
    async with served(tmp_path, *serve) as running:
        yield running


class Load:
    """A load of calls. Ten consecutive calls have the same session. Every third call is streamed."""

    def __init__(self, url, model=HAIKU):
        self.url = url
        self.model = model
        self.made = 0
        self.ids = []
        self.slowest = 0.0
        self.failed = []

    async def run(self, count, *, until=lambda: False):
        """Make `count` calls, `TOGETHER` at a time. Begin no further call when `until()` is true."""
        end = self.made + count

        async def calling(session):
            while self.made < end and not until():
                self.made += 1
                await self._one(session, self.made)

        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(calling(session) for _ in range(TOGETHER)))

    async def _one(self, session, number):
        stream = number % 3 == 0
        messages = [{"role": "user", "content": f"hello {number}"}]
        body = {"model": self.model, "messages": messages, "stream": stream}
        headers = {"x-session-id": f"s{number // 10}"}
        began = time.monotonic()
        async with session.post(f"{self.url}/v1/chat/completions", json=body, headers=headers) as reply:
            data = await reply.read()
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.ids.append(reply.headers["x-request-id"])
        if reply.status != 200 or (stream and not data.rstrip().endswith(b"[DONE]")):
            self.failed.append((reply.status, data[-200:]))


async def listed(running):
    """Return the ids of all calls in the store."""
    return [call["id"] for call in await running.stored()]


async def all_there(running, ids):
    """Wait until the store has all calls with these ids. Check that it has no other calls, and that the usage report
    counts each call once.
    """

    async def whole_list():
        listing = await listed(running)
        return listing if len(listing) >= len(ids) else None

    assert sorted(await eventually(whole_list)) == sorted(ids)
    async with running.session.get(f"{running.url}/api/usage") as reply:
        (row,) = (await reply.json())["usage"]
    assert row["calls"] == len(ids)


async def test_a_locked_store_fails_and_slows_no_call(tmp_path, bedrock_sim):
    """Check that calls neither fail nor slow down while the store is locked, and that the store gets all records
    later.
    """
    async with serving(tmp_path, bedrock_sim.url) as running:
        load = Load(running.url)
        await load.run(20)
        other = sqlite3.connect(tmp_path / "state" / "irisgate.db", isolation_level=None, timeout=5)
        other.execute("BEGIN IMMEDIATE")
        before, until = load.made, time.monotonic() + LOCKED_SECONDS
        load.slowest = 0
        await load.run(1500, until=lambda: time.monotonic() > until)
        await asyncio.sleep(until - time.monotonic())
        assert load.made - before > 20
        assert not set(load.ids[before:]) & set(await listed(running)), "the store was not locked"
        other.execute("ROLLBACK")
        other.close()
        await load.run(50)
        assert load.failed == []
        assert load.slowest < SLOWEST_SECONDS
        await all_there(running, load.ids)


async def test_a_full_disk_fails_no_call_and_all_are_stored_later(tmp_path, bedrock_sim):
    """Check that no call fails while the disk is full, and that all calls are stored when there is room again."""
    async with serving(tmp_path, bedrock_sim.url) as running:
        pid = running.process.pid
        load = Load(running.url)
        await load.run(20)
        await all_there(running, load.ids)
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
        before = len(load.ids)
        load.slowest = 0
        await load.run(300)
        journal = b"".join(path.read_bytes() for path in (tmp_path / "state" / "journal").glob("*.jsonl"))
        assert not any(each.encode() in journal for each in load.ids[before:]), "the disk was not full"
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
        await load.run(20)
        assert load.failed == []
        assert load.slowest < SLOWEST_SECONDS
        await all_there(running, load.ids)
    async with serving(tmp_path, bedrock_sim.url) as again:
        await all_there(again, load.ids)


CONVERSE = {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}
CLAUDE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 50, "messages": MESSAGES}
DIALECTS = {
    "/v1/chat/completions": ({"model": HAIKU, "messages": MESSAGES}, lambda body: body["error"]["message"]),
    "/v1/messages": ({"model": HAIKU, "max_tokens": 50, "messages": MESSAGES}, lambda body: body["error"]["message"]),
    f"/bedrock/model/{NOVA}/converse": (CONVERSE, lambda body: body["message"]),
    f"/bedrock/model/{NOVA}/converse-stream": (CONVERSE, lambda body: body["message"]),
    f"/bedrock/model/{HAIKU}/invoke": (CLAUDE, lambda body: body["message"]),
}


@pytest.mark.parametrize("path", DIALECTS)
async def test_a_full_journal_refuses_calls_in_their_dialect(tmp_path, bedrock_sim, path):
    """Check that while the gateway cannot keep further records, calls are refused in their API format, with the header
    `Retry-After`.
    """
    body, message = DIALECTS[path]
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        journal = gw.running.gateway.follower._journal
        journal._waiting_size = journal._waiting_bytes
        reply = await gw.post(path, body)
        assert (reply.status, reply.headers["retry-after"]) == (503, "10")
        assert "cannot write its records" in message(await reply.json())
        assert bedrock_sim.requests == []
        journal._waiting_size = 0
        assert (await gw.post(path, body)).status == 200
        assert len(bedrock_sim.requests) == 1
        (session,) = await gw.sessions()
        assert session["calls"] == 1, "calls that are refused for want of room are not kept"


class Canned(asyncio.Protocol):
    """A fast provider. `replies` has the complete reply for each last segment of a request's path."""

    def __init__(self, replies):
        self._replies = replies
        self._data = b""

    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            length = int(re.search(rb"(?i)\r\ncontent-length: (\d+)", self._data[: end + 2])[1])
            if len(self._data) < end + 4 + length:
                return
            operation = self._data.split(b" ", 2)[1].rpartition(b"/")[2].decode()
            self._data = self._data[end + 4 + length :]
            self._transport.write(self._replies[operation])


@asynccontextmanager
async def canned(simulated):
    """Yield the address of a fast provider. It always sends two prepared replies, which are copied from the simulated
    provider.
    """
    replies = {}
    async with aiohttp.ClientSession() as session:
        for operation in ("converse", "converse-stream"):
            url = f"{simulated.url}/model/{NOVA.replace(':', '%3A')}/{operation}"
            headers = {"authorization": f"Bearer {KEY}"}
            async with session.post(url, json=CONVERSE, headers=headers) as reply:
                data = await reply.read()
                head = f"HTTP/1.1 200 OK\r\ncontent-type: {reply.content_type}\r\ncontent-length: {len(data)}\r\n\r\n"
                replies[operation] = head.encode() + data
    server = await asyncio.get_running_loop().create_server(lambda: Canned(replies), "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def resident(pid):
    """Return the megabytes of memory that a process uses."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("this system has no /proc")
    return int(re.search(r"VmRSS:\s+(\d+) kB", status.read_text())[1]) / 1024


WARM = 2_000
"""Number of calls after which the tables and caches of the process have their full size."""
CALLS = int(os.environ.get("IRISGATE_CALLS", "4500"))
"""Total number of calls. With more calls, the growth of memory can be measured more exactly."""
GROWTH = 2.5
"""Maximum growth of the process's memory in kilobytes per call, after the first `WARM` calls.

It is more than 0, because the allocator keeps some megabytes of free memory.
"""


async def test_memory_does_not_grow_with_the_number_of_calls(tmp_path, bedrock_sim):
    async with canned(bedrock_sim) as url, serving(tmp_path, url) as running:
        load = Load(running.url, NOVA)
        await load.run(WARM)
        before = resident(running.process.pid)
        await load.run(CALLS - WARM)
        assert load.failed == []
        assert (resident(running.process.pid) - before) * 1024 / (CALLS - WARM) < GROWTH
        async with running.session.get(f"{running.url}/api/usage") as reply:
            assert (await reply.json())["usage"][0]["calls"] > WARM
