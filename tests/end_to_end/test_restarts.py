"""Tests of restarts under load: each call that a client began is served, recorded once, and charged its cost.

`IRISGATE_RESTARTS=10` restarts ten times instead of twice.
"""

import asyncio
import json
import os
from collections import Counter
from decimal import Decimal

import aiohttp

from gateway.testkit import scenarios
from tests.helpers.gateway import CAP, EVERYTHING, HAIKU, bedrock
from tests.helpers.hostile_http import CHAT, CLAUDE, CONVERSE, MESSAGES
from tests.helpers.processes import family
from tests.helpers.raw_http import Raw
from tests.helpers.waiting import eventually

RESTARTS = int(os.environ.get("IRISGATE_RESTARTS", "2"))
WAYS = [
    ("/v1/chat/completions", CHAT, b'"finish_reason"'),
    ("/v1/chat/completions", {**CHAT, "stream": True}, b"[DONE]"),
    ("/v1/messages", MESSAGES, b'"stop_reason"'),
    ("/v1/messages", {**MESSAGES, "stream": True}, b"message_stop"),
    ("/v1/responses", {"model": HAIKU, "input": "hello", "stream": True}, b"response.completed"),
    (f"/bedrock/model/{HAIKU}/converse-stream", CONVERSE, b"metadata"),
    (f"/bedrock/model/{HAIKU}/invoke", CLAUDE, b'"stop_reason"'),
]
"""Calls to make. Each item has the path, the body, and bytes that only a complete reply has."""
COST = Decimal("0.0000517")
"""The price of 12 input and 7 output tokens, which each reply reports."""
SLOW = scenarios.replace(scenarios.NAMED["text"], delay=0.1, stall_after=2, stall_seconds=0.4)
"""A reply that takes longer than the hand-over to a new process. So calls are open at the hand-over."""


class Load:
    """Clients that make calls until `end` is called."""

    def __init__(self, url, unix):
        self.url = url
        self.unix = unix
        self.ids = []
        self.faults = []
        self.is_over = False
        self.tasks = []

    def begin(self):
        for way in WAYS:
            self.tasks += [asyncio.create_task(self._kept(*way)), asyncio.create_task(self._fresh(*way))]
        self.tasks += [asyncio.create_task(self._dripped(wait)) for wait in (0.05, 0.3, 0.9)]

    async def end(self):
        """Wait until each client has finished its last call. Raises the exception of a client that failed."""
        self.is_over = True
        await asyncio.gather(*self.tasks)

    async def _kept(self, *way):
        """Make the call `way` (an item of `WAYS`) again and again. All calls use one connection, as long as the gateway
        keeps it open.
        """
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
            while not self.is_over:
                await self._call(session, self.url, *way)

    async def _fresh(self, *way):
        """Make the call `way` (an item of `WAYS`) again and again. Each call has a new connection, alternately to a TCP
        socket and a unix socket.
        """
        while not self.is_over:
            for connector in (aiohttp.TCPConnector(force_close=True), aiohttp.UnixConnector(self.unix)):
                async with aiohttp.ClientSession(connector=connector) as session:
                    await self._call(session, self.url, *way)

    async def _call(self, session, url, path, body, end):
        try:
            async with session.post(url + path, json=body) as reply:
                data = await reply.read()
                self._note(reply.status, reply.headers, data, end)
        except (aiohttp.ClientError, TimeoutError) as error:
            self.faults.append((path, repr(error)))

    async def _dripped(self, wait):
        """Make calls whose body comes in two parts. The gateway may be replaced during the `wait` seconds between the
        parts.
        """
        data = json.dumps(CHAT).encode()
        host, port = self.url.removeprefix("http://").split(":")
        while not self.is_over:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
            try:
                raw = await Raw.open(host, int(port))
                raw.writer.write(head.encode() + data[:10])
                await asyncio.sleep(wait)
                raw.writer.write(data[10:])
                status, headers, body = await raw.reply()
                await raw.close()
                self._note(status, headers, body, b'"finish_reason"')
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                self.faults.append(("dripped", repr(error)))

    def _note(self, status, headers, data, end):
        self.ids.append(headers.get("x-request-id"))
        if status != 200 or end not in data:
            self.faults.append((status, data[-300:]))


def configuration(tmp_path, url, **limits):
    path = tmp_path / "config.hujson"
    capability = {"quotas": [{"bucket": "all"}], "rate_limits": [{"requests": "1000000/min"}]}
    listeners = [{"listen": "127.0.0.1:0"}, {"listen": f"unix:{tmp_path}/http.sock", "identity": "loopback"}]
    document = {
        "providers": {"b": bedrock(url)},
        "grants": [*EVERYTHING, {"src": ["*"], "app": {CAP: [capability]}}],
        "quotas": {"all": {"capacity": "$1000.00", "rate": "$0.00/day"}},
        "server": {"listeners": listeners, "limits": {"idle_seconds": 5, **limits}},
    }
    path.write_text(json.dumps(document))
    return "serve", "--config", str(path), "--state", str(tmp_path / "state")


async def test_restarts_under_load_fail_lose_and_double_no_call(tmp_path, bedrock_sim):
    bedrock_sim.default = SLOW
    async with family(tmp_path, *configuration(tmp_path, bedrock_sim.url)) as gateway:
        load = Load(gateway.url, str(tmp_path / "http.sock"))
        load.begin()
        for restart in range(RESTARTS):
            before = len(load.ids)
            await gateway.restart()
            await eventually(lambda before=before: len(load.ids) > before + 2 * len(load.tasks), 30)
            assert load.faults == [], restart
        await load.end()
        assert load.faults == []
        await eventually(lambda: len(gateway.entries("gateway.predecessor_ended")) == RESTARTS, 30)
        calls = await gateway.stored(len(load.ids))
        async with gateway.session.get(f"{gateway.url}/api/quotas") as reply:
            (bucket,) = (await reply.json())["quotas"]
        await gateway.session.close()
        await gateway.end()
    assert Counter(call["id"] for call in calls) == Counter(load.ids)
    assert Counter(entry["id"] for entry in gateway.entries("call.finished")) == Counter(load.ids)
    assert {call["outcome"] for call in calls} == {"ok"}
    assert len(calls) == len(bedrock_sim.requests)
    charged = sum(Decimal(str(call["charges_usd"]["all"])) for call in calls)
    assert charged == sum(Decimal(str(call["cost_usd"])) for call in calls) == COST * len(calls)
    assert 1000 - Decimal(str(bucket["balance_usd"])) == charged
    assert bucket["reserved_usd"] == 0
    assert len(gateway.entries("gateway.replaced")) == RESTARTS
    assert not gateway.entries("calls.lost")
