"""A gateway with many providers, each behind a proxy that can break a request or a reply.

So the tests of all faults can share one gateway.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter, deque
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import product
from pathlib import Path

import gateway
from tests.helpers.fault_proxy import FaultProxy
from tests.helpers.gateway import CAP, KEY, gate
from tests.helpers.waiting import eventually
from tests.helpers.wires import PROVIDERS

GATEWAY = f"{Path(gateway.__file__).parent}{os.sep}"
"""The path prefix of all source files of the gateway."""
QUOTA = "all"
CAPACITY = 10**15
"""Nanodollars in the quota that all calls use."""
GRANTS = [
    {
        "src": ["*"],
        "app": {CAP: [{"role": "admin"}, {"models": "**", "quotas": [{"bucket": QUOTA}]}, {"read_metrics": True}]},
    }
]
TIMEOUTS = ("head_seconds", "first_event_seconds", "read_seconds")
PRICES = {"openai": "openai", "anthropic": "anthropic", "bedrock": "bedrock-us"}
"""Maps the first word of a provider's compatibility flag to the name of a price list."""


class Lane:
    """A provider, its proxy, and a client that makes one call at a time."""

    def __init__(self, gw, proxy, flag, name):
        self.gw = gw
        self.proxy = proxy
        self.flag = flag
        self.model = f"{name}/{PROVIDERS[flag][1]}"

    def request(self, say, text="Hi", *, stream):
        """Return the path and the body of a request in the API format of the client `say` (`clients.py`)."""
        body = say.body(say.user(say.text(text)))
        if "model" in body:
            body = {**body, "model": self.model, "stream": stream}
        if stream and say.flag == "openai_chat":
            body["stream_options"] = {"include_usage": True}
        return say.path(self.model, stream=stream), body

    async def call(self, say, fault=None, *, stream):
        """Make a call in the format of the client `say`, and return the reply.

        If `fault` is given, the proxy applies this fault to the exchange with the provider.
        """
        self.proxy.fault = fault
        return await self.gw.post(*self.request(say, stream=stream))


class Lanes:
    """A gateway, its simulated providers, and its lanes.

    Each lane (`Lane`) leads from one client through the gateway and a proxy to one provider.
    """

    def __init__(self, gw, simulated, lanes):
        self.gw = gw
        self.simulated = simulated
        self._lanes = lanes
        self._free = {}
        for lane in lanes:
            self._free.setdefault(lane.flag, deque()).append(lane)

    def take(self, flag):
        """Return a free lane to a provider with this compatibility flag. No other call gets the lane until the caller
        has put it back.

        A lane is a path of calls: from a client to the gateway, then through a proxy to one provider.
        """
        return self._free[flag].popleft()

    def put(self, lane):
        self._free[lane.flag].append(lane)

    async def all_given_back(self):
        """Wait until no call holds a task, reserved bytes, a reservation, a stream or a broken connection."""
        running = self.gw.running.gateway
        await eventually(lambda: not running.open_calls)
        await eventually(lambda: not any(lane.proxy.broken for lane in self._lanes))
        await eventually(lambda: all(len(lane.proxy.open) <= 1 for lane in self._lanes))
        assert sum(lane.proxy.reused for lane in self._lanes) == 0
        assert [level.reserved for level in running.quotas.levels() if level.reserved] == []
        for name in ("open_streams", "calls_in_flight", "buffered_bytes"):
            assert running.metrics.registry.get_sample_value(f"irisgate_{name}") == 0, name

    async def records(self):
        """Return the records of all calls: a dict from the id of a call to its record.

        Check that each call has one record, and that the costs of all calls were charged to the quota.
        """
        await self.gw.log_is_written()
        entries = self.gw.lines.entries("call.finished")
        records = {entry["id"]: entry for entry in entries}
        assert len(records) == len(entries)
        charges = {entry["id"]: entry["charges_usd"].get(QUOTA, 0) for entry in entries}
        # a damaged reply may name a model without a price; the quota is then charged an estimate
        assert [entry for entry in entries if entry["cost_usd"] not in {charges[entry["id"]], None}] == []
        spent = sum(round(charge * 10**9) for charge in charges.values())
        assert CAPACITY - self.gw.running.gateway.quotas.level(QUOTA).balance == spent
        assert self.gw.lines.entries("call.crashed") == []
        return records


@asynccontextmanager
async def lanes(flags, count, state, *, read_seconds, more=None, **options):
    """Run a gateway with `count` providers of each of these compatibility flags. Each provider is behind a proxy that
    can break requests and replies.

    Yield `Lanes`, with a client for each provider. `more` has additional fields of the configuration.
    """
    async with AsyncExitStack() as stack:
        simulated = {flag: await stack.enter_async_context(PROVIDERS[flag][0](keys={KEY})) for flag in flags}
        proxies, providers = {}, {}
        for flag, number in product(flags, range(count)):
            name = f"{flag}_{number}"
            proxies[name] = await stack.enter_async_context(FaultProxy(simulated[flag].url))
            providers[name] = _provider(flag, proxies[name].url)
        more = {
            "quotas": {QUOTA: {"capacity": f"${CAPACITY // 10**9}"}},
            "resilience": {"timeouts": dict.fromkeys(TIMEOUTS, read_seconds)},
            **(more or {}),
        }
        gw = await stack.enter_async_context(gate(state, providers, grants=GRANTS, more=more, **options))
        yield Lanes(gw, simulated, [Lane(gw, proxies[name], name.rpartition("_")[0], name) for name in providers])


def _provider(flag, url):
    return {
        "baseurl": url,
        "apikey": KEY,
        "authorization": "x-api-key" if flag == "anthropic_messages" else "bearer",
        "models": [PROVIDERS[flag][1]],
        "cost_basis": PRICES[flag.partition("_")[0]],
        "compatibility": {flag: True},
    }


def gateway_tasks():
    """Return the tasks that run a function of the gateway, each with the name of the function."""
    tasks = [task.get_coro() for task in asyncio.all_tasks()]
    files = [(coro, getattr(coro, "cr_code", coro).co_filename) for coro in tasks]
    return Counter(coro.__qualname__ for coro, file in files if file.startswith(GATEWAY))
