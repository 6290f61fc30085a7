"""Tests of clients that disconnect at every step of the gateway's work on their request (`tests/helpers/leaving.py`).

- Each request has one record. The request counts as sent if, and only if, the provider has received a byte of it.
- A client that leaves is no failure of the provider (QuantumNous/new-api#7133).
- No task, connection, reserved byte or reservation is left, even if the task is cancelled again while it cleans up
  (BerriAI/litellm#27955, BerriAI/litellm#28160).
"""

import asyncio
import gzip
import json
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from gateway.call.server import Server
from gateway.testkit.localapi import LocalApiSim
from gateway.testkit.scenarios import NAMED, Scenario, text
from gateway.upstream.process_pool import ProcessPool
from tests.helpers.lanes import gateway_tasks, lanes
from tests.helpers.leaving import leaving, narrow
from tests.helpers.waiting import eventually
from tests.helpers.wires import WIRES

FLAG = "bedrock_converse"
WAYS = [wire for wire in WIRES if wire.provider == FLAG and wire.client in {FLAG, "openai_chat"}]
"""The two conversions that are tried with the provider `FLAG`: native requests, and translated Chat requests."""
CLOSE = {"connection": "close"}
HANG_SECONDS = 20.0
MOST_STEPS = 100
FILTER = """
from asyncio import sleep
from types import SimpleNamespace

api = 1


async def open(call, settings):
    await sleep(0)
    return Filter()


class Filter:
    async def request(self, asked):
        await sleep(0)

    async def text(self, kind, piece, last):
        await sleep(0)
        return piece

    async def done(self, record):
        await sleep(0)
"""
PLAIN = NAMED["text"]
LONG = text(*["a long reply " * 600] * 25)
"""A reply that is much longer than the buffers of a client that reads slowly. The gateway therefore writes it in many
steps.
"""


async def _whole(gw, path, body):
    await gw.post(path, body, headers=CLOSE)


async def _compressed(gw, path, body):
    await gw.post(path, gzip.compress(body), headers={**CLOSE, "content-encoding": "gzip"})


async def _in_parts(gw, path, body):
    """Make a call whose body is sent in parts. The gateway reads them one by one."""

    async def parts():
        for start in range(0, len(body), 100):
            yield body[start : start + 100]
            await asyncio.sleep(0.001)

    async with gw.session.post(gw.url + path, data=parts(), headers=CLOSE) as reply:
        await reply.read()


async def _narrow(gw, path, body):
    async with narrow() as session, session.post(gw.url + path, data=body) as reply:
        await reply.read()


@dataclass(frozen=True)
class Kind:
    """A kind of call: the function that makes it, the provider's scenario, and the gateway's options."""

    send: Any = _whole
    scenario: Scenario = PLAIN
    options: dict = field(default_factory=dict)


KINDS = {
    "the provider": Kind(),
    "a body in parts": Kind(_in_parts),
    "a compressed body": Kind(_compressed),
    "a client that reads slowly": Kind(_narrow, LONG),
    "the disk": Kind(options={"more": {"storage": {"sync": True}}}),
    "a filter": Kind(options={"more": {"plugins": {"waits": {}}}}),
    "a late first event": Kind(scenario=replace(PLAIN, delay=0.02), options={"ping_seconds": 0.002}),
    "a worker process": Kind(options={"pool": ProcessPool(large=0)}),
    "tailscaled": Kind(options={"server": {"identity": "whois"}}),
}


class Leavers:
    """Clients that disconnect from the gateway. Each client disconnects one step of its call later than the client
    before.
    """

    def __init__(self, opened, leaver, send):
        self.opened = opened
        self.leaver = leaver
        self.send = send
        self.calls = 0

    async def leave(self, wire, *, stream, again):
        """Make calls whose clients disconnect at step 1, 2, 3 and so on, until a call ends earlier. Return the number
        of steps of that call.
        """
        for step in range(1, MOST_STEPS):
            self.leaver.begin(step, again)
            await self.call(wire, stream=stream)
            assert _total(self.opened.gw, "requests") == self.calls, f"{wire.client} left at step {step}"
            if self.leaver.steps < step:
                return step - 1
        raise AssertionError(f"a call has more than {MOST_STEPS} steps")

    async def call(self, wire, *, stream):
        lane = self.opened.take(wire.provider)
        path, body = lane.request(wire.say, stream=stream)
        self.calls += 1
        with suppress(aiohttp.ClientError):
            await self.send(self.opened.gw, path, json.dumps(body).encode())
        async with asyncio.timeout(HANG_SECONDS):
            await self.leaver.ended.wait()
        self.opened.put(lane)


def _total(gw, name):
    """Return the value of a metric, summed over its labels."""
    samples = [sample for metric in gw.running.gateway.metrics.registry.collect() for sample in metric.samples]
    return sum(sample.value for sample in samples if sample.name == f"irisgate_{name}_total")


async def _options(kind, stack, folder):
    options = {"more": {}, **KINDS[kind].options}
    if options["more"].get("plugins"):
        (folder / "plugins").mkdir()
        (folder / "plugins" / "waits.py").write_text(FILTER)
        options["plugins"] = folder / "plugins"
    if "server" in options:
        tailscaled = await stack.enter_async_context(LocalApiSim(folder / "tailscaled.sock"))
        tailscaled.late_seconds = 0
        listener = {"listen": "127.0.0.1:0", "tailscaled": str(tailscaled.path), **options["server"]}
        options["server"] = {"listeners": [listener]}
    return options


@asynccontextmanager
async def opened(kind, folder):
    """Yield a gateway, whose provider is behind a proxy that can break replies (`Lanes`), and the clients that
    disconnect (`Leavers`).
    """
    async with AsyncExitStack() as stack:
        options = await _options(kind, stack, folder)
        lines = await stack.enter_async_context(lanes([FLAG], 1, folder, read_seconds=HANG_SECONDS, **options))
        lines.simulated[FLAG].default = KINDS[kind].scenario
        leaver = stack.enter_context(leaving(lines.gw, narrow=KINDS[kind].send is _narrow))
        yield lines, Leavers(lines, leaver, KINDS[kind].send)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_client_may_leave_while_the_gateway_waits_for(kind, tmp_path, caplog):
    caplog.set_level("CRITICAL", "aiohttp.server")  # the log of the simulated provider, whose connections break
    async with opened(kind, tmp_path) as (lines, leavers):
        tasks = gateway_tasks()
        assert all([
            await leavers.leave(wire, stream=stream, again=again)
            for wire in WAYS
            for stream in (False, True)
            for again in (0, 1)
        ])  # fmt: skip
        await lines.all_given_back()
        assert _total(lines.gw, "upstream_errors") == 0
        await eventually(lambda: gateway_tasks() <= tasks)
        records = await lines.records()
        assert len(records) == leavers.calls
        assert sum(record["attempts"] for record in records.values()) == lines.take(FLAG).proxy.exchanges


async def test_a_client_may_leave_while_a_bug_is_reported(tmp_path, monkeypatch, caplog):
    """Check that a call has one record if its client disconnects while the gateway handles an exception of its own
    code.

    The exception comes after the first event of the stream.
    """
    caplog.set_level("CRITICAL", "aiohttp.server")

    async def broken(_server, _call, stream):
        await anext(stream.batches)
        raise RuntimeError("a bug")

    monkeypatch.setattr(Server, "_first", broken)
    async with opened("a late first event", tmp_path) as (lines, leavers):
        assert min([await leavers.leave(wire, stream=True, again=0) for wire in WAYS]) >= 4
        await lines.all_given_back()
        await lines.gw.log_is_written()
        assert len(lines.gw.lines.entries("call.finished")) == leavers.calls


async def test_a_call_ends_after_its_reservation_in_another_process(tmp_path):
    """Check that a call whose client has disconnected waits for the reservation that another process is making for it.

    If the call ended before this, nothing would release the reservation.
    """
    begun, made = [], []
    async with opened("the provider", tmp_path) as (lines, leavers):
        gateway = lines.gw.running.gateway

        def hold(call, claims):
            begun.append(call)
            time.sleep(0.2)
            made.append(call)
            return gateway.quotas.reserve(claims)

        gateway.keeper.begin()
        gateway.keeper.end(SimpleNamespace(reserve=hold))
        for step in range(1, 3):
            leavers.leaver.begin(step, 0)
            await leavers.call(WAYS[1], stream=True)
            assert len(made) == len(begun) == step
