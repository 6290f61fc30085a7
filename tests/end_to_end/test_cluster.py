"""Tests of three gateways that share a PostgreSQL database under load.

The gateways are behind HAProxy, with the configuration of `deploy/haproxy`.

`IRISGATE_OUTAGE=60` stops the database for at least 60 seconds, and `IRISGATE_CALLERS=4` runs four times as many
callers.
"""

import asyncio
import json
import os
import re
import signal
from collections import Counter
from contextlib import AsyncExitStack
from decimal import Decimal

import aiohttp
import pytest

from gateway.testkit import scenarios
from tests.end_to_end.test_restarts import COST, SLOW, WAYS
from tests.helpers.gateway import CAP, EVERYTHING, HAIKU, KEY, SONNET, bedrock
from tests.helpers.haproxy import haproxy
from tests.helpers.ports import lasting_port
from tests.helpers.postgres import cluster
from tests.helpers.processes import START_SECONDS, served
from tests.helpers.waiting import eventually

pytestmark = pytest.mark.usefixtures("postgres")

OUTAGE_SECONDS = float(os.environ.get("IRISGATE_OUTAGE", "0"))
"""Minimum number of seconds for which the database is stopped."""
CALLERS = int(os.environ.get("IRISGATE_CALLERS", "1"))
"""Number of callers that make the same call of `CALLS`."""
HOST = "ai"
"""The host name in the callers' requests."""
SHORT = {"model": SONNET, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 20}
"""The body of a short call to Sonnet. Calls to Sonnet are charged to the bucket `small`, and other calls are not."""
COST_OF_SHORT = 3 * COST
BUDGET, REFILL = 8, 4
"""Number of short calls that the bucket `small` pays for at first, and number of short calls that a refill pays for."""
NEW_KEY = "new-key-for-tests"
LARGE = {"model": HAIKU, "messages": [{"role": "user", "content": "long " * 40_000}]}
CALLS = [*WAYS, ("/v1/chat/completions", LARGE, b'"finish_reason"')]
STREAMS = (b"[DONE]", b"message_stop", b"response.completed", b"metadata")
"""A text that only the end of a complete stream has, for each of four API formats."""
ERRORS = (b'data: {"error"', b"event: error", b"response.failed", b":exception-type")
"""A text that only the end of a broken stream has, for each API format in the order of `STREAMS`."""
REFUSED = re.compile(r"nothing is left|held by calls")


class Load:
    """Callers that call until they are told to stop. Each waits for its reply before it calls again."""

    def __init__(self, url):
        self.url = url
        self.ids = []
        """Ids of the calls with a complete reply."""
        self.cut = []
        """Ids of the calls whose stream broke off."""
        self.faults = []
        self.open = set()
        """Ids of the streams of which a part has come."""
        self.is_over = False
        self.rounds = Counter()
        self.tasks = []
        for number, call in enumerate(CALLS * CALLERS):
            self.tasks.append(asyncio.create_task(self._calling(number, call, is_fresh=number % 2 == 0)))
        self.streams = CALLERS * len(STREAMS)
        """Number of callers that stream."""

    async def go_round(self):
        """Wait until each caller has begun and completed a call."""
        before = Counter(self.rounds)
        everyone = range(len(self.tasks))
        # the first call may have begun before
        await eventually(lambda: all(self.rounds[one] >= before[one] + 2 for one in everyone), START_SECONDS)
        assert self.faults == []

    async def end(self):
        self.is_over = True
        await asyncio.gather(*self.tasks)

    async def _calling(self, number, call, *, is_fresh):
        """Make calls until the load ends, all over one connection. If `is_fresh` is true, each call has a new
        connection instead.
        """
        async with session_of(limit=1, force_close=is_fresh) as session:
            while not self.is_over:
                await self._call(session, *call)
                self.rounds[number] += 1

    async def _call(self, session, path, body, end):
        id_, data = "", b""
        try:
            async with session.post(self.url + path, json=body) as reply:
                id_ = reply.headers.get("x-request-id", "")
                async for piece in reply.content.iter_any():
                    data += piece
                    if end in STREAMS:
                        self.open.add(id_)
            if reply.status != 200 or end not in data:
                self.faults.append((path, reply.status, data[-300:]))
            self.ids.append(id_)
        except aiohttp.ClientError as error:
            if id_ in self.open and end not in data:
                self.cut.append(id_)
            else:
                self.faults.append((path, id_, repr(error)))
        finally:
            self.open.discard(id_)


def session_of(**options):
    connector = aiohttp.TCPConnector(**options)
    return aiohttp.ClientSession(connector=connector, headers={"Host": HOST})


async def spend(url, attempts, ids):
    """Make `attempts` calls at the same time. They are charged to the bucket `small`. Return how many calls had each
    outcome: "ok", or the reason of the refusal.

    A call is repeated while other calls have reserved the rest of the balance. The ids of all calls are appended to
    `ids`.
    """

    async def attempt(session):
        async def outcome():
            async with session.post(f"{url}/v1/chat/completions", json=SHORT) as reply:
                text = await reply.text()
            ids.append(reply.headers["x-request-id"])
            if reply.status == 200:
                return "ok"
            assert reply.status == 429, text
            if (reason := REFUSED.search(text)[0]) == "nothing is left":
                return reason
            await asyncio.sleep(0.3)
            return None

        return await eventually(outcome, START_SECONDS)

    async with session_of() as session:
        return Counter(await asyncio.gather(*(attempt(session) for _ in range(attempts))))


class Fleet:
    """The gateways of the cluster, by their names. Each has its own configuration file and state folder."""

    def __init__(self, folder, document, ports):
        self._folder = folder
        self._document = document
        self._ports = dict(zip("abc", ports, strict=True))
        self._running = {}
        self.refilled = Decimal(0)
        """Dollars that were added to the small budget."""

    def __iter__(self):
        return iter(self._running.values())

    def __getitem__(self, name):
        return self._running[name]

    def write(self, name, **more):
        """Write the configuration file of the gateway `name`, and return its path.

        All gateways have the same configuration, except for a port. `more` adds or replaces top-level fields.
        """
        static = {"identity": "static", "login": "team@example.com"}
        listeners = [{"listen": "127.0.0.1:0"}, {"listen": f"127.0.0.1:{self._ports[name]}", **static}]
        server = {"listeners": listeners, "hosts": [HOST], "drain_seconds": START_SECONDS}
        path = self._folder / f"{name}.hujson"
        path.write_text(json.dumps({**self._document, "server": server, **more}))
        return str(path)

    async def start(self, stack, name, state):
        arguments = ("serve", "--config", self.write(name), "--state", str(self._folder / state))
        self._running[name] = await stack.enter_async_context(served(self._folder, *arguments))

    async def is_used(self, name):
        """Wait until the gateway `name` has logged the end of a call. HAProxy then uses this gateway."""
        await self._running[name].line('"event":"call.finished"')

    async def log(self, pattern):
        """Wait until each gateway's log has a line that matches the pattern."""
        await asyncio.gather(*(gateway.line(pattern) for gateway in self))

    async def change(self, **more):
        for name in self._running:
            self.write(name, **more)
        await self.log("config.reloaded")

    async def use_up(self, calls, url, ids, at):
        """Refill the bucket `small` at the gateway `at`, so that it pays for exactly `calls` calls. Check that the
        gateways together serve exactly this number of calls.

        If a gateway could not reach the database meanwhile, as on a busy machine, it has served calls without it. The
        check is then repeated.
        """
        any_one = self._running[at]
        while True:
            await eventually(self._is_together, START_SECONDS)
            missing = calls * COST_OF_SHORT - (await any_one.bucket("small"))["balance_usd"]
            if missing:
                self.refilled += missing
                await any_one.refill("small", missing)
            before = self.count("leases.bank_is_away")
            outcomes = await spend(url, 3 * calls, ids)
            if self.count("leases.bank_is_away") == before:
                assert outcomes == {"ok": calls, "nothing is left": 2 * calls}
                return

    def count(self, event):
        return sum(event in line for gateway in self for line in gateway.lines)

    def _is_together(self):
        return self.count("leases.bank_is_away") == self.count("leases.bank_is_back")

    def behind_haproxy(self, port):
        # who calls is not the subject here, and tailscaled must answer within seconds on a busy machine
        return haproxy(self._folder, port, self._ports.values(), without=" send-proxy-v2")


@pytest.fixture
async def fleet(tmp_path, bedrock_sim, address):
    budgets = {"team": (HAIKU, "$1000.00"), "small": (SONNET, f"${COST_OF_SHORT * BUDGET}")}
    charged = [{"models": f"b/{model}", "quotas": [{"bucket": name}]} for name, (model, _) in budgets.items()]
    document = {
        "providers": {"b": bedrock(bedrock_sim.url)},
        "grants": [*EVERYTHING, {"src": ["*"], "app": {CAP: charged}}],
        "quotas": {name: {"capacity": capacity, "rate": "$0.00/day"} for name, (_, capacity) in budgets.items()},
        "storage": {"url": cluster().url(address), "shared": True, "lease_seconds": 15, "on_outage": "go_on"},
    }
    return Fleet(tmp_path, document, [lasting_port() for _ in range(3)])


async def figure(gateway, name):
    """Return the value of a metric without labels."""
    async with gateway.session.get(f"{gateway.url}/metrics") as reply:
        return float(re.search(rf"^irisgate_{name} (\S+)$", await reply.text(), re.MULTILINE)[1])


async def test_what_happens_to_gateways_and_the_database_under_load(fleet, bedrock_sim, unused_tcp_port):
    bedrock_sim.default = SLOW
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(fleet.start(stack, name, name) for name in "abc"))
        url = await stack.enter_async_context(fleet.behind_haproxy(unused_tcp_port))
        load, ids = Load(url), []
        for name in "abc":
            await fleet.is_used(name)
        await load.go_round()

        # a gateway is killed, while all streams are open
        gate = scenarios.Gate()
        bedrock_sim.default = scenarios.replace(SLOW, gate=gate)
        await eventually(lambda: len(load.open) == load.streams, START_SECONDS)
        streams = {name: await figure(fleet[name], "open_streams") for name in "abc"}
        drained, other, killed = sorted(streams, key=streams.get)
        fleet[killed].process.kill()
        await eventually(lambda: load.cut, START_SECONDS)
        bedrock_sim.default = SLOW
        gate.let_pass(10_000)
        await load.go_round()
        cut = list(load.cut)
        await fleet.start(stack, killed, killed)
        await fleet.is_used(killed)

        # a gateway is drained and replaced, while a budget is used up
        spending = asyncio.create_task(fleet.use_up(BUDGET, url, ids, other))
        assert await fleet[drained].end() == 0
        await fleet.start(stack, drained, "new")
        await fleet.is_used(drained)
        await spending

        # the configuration is changed
        bedrock_sim.keys = {KEY, NEW_KEY}
        await fleet.change(providers={"b": bedrock(bedrock_sim.url, apikey=NEW_KEY)})
        await load.go_round()
        bedrock_sim.keys = {NEW_KEY}

        # the database goes away, and comes back
        for gateway in fleet:
            await eventually(lambda gateway=gateway: is_left(gateway, 0))
        await asyncio.to_thread(cluster().stop)
        try:
            await fleet.log("store.write_failed")
            await fleet.log("leases.bank_is_away")
            await load.go_round()
            await asyncio.sleep(OUTAGE_SECONDS)
            assert await spend(url, 6, ids) == {"nothing is left": 6}
            await load.go_round()
        finally:
            await asyncio.to_thread(cluster().start)
        await fleet.log("store.recovered")
        await fleet.use_up(REFILL, url, ids, other)

        await load.go_round()
        await load.end()
        assert load.faults == []
        assert load.cut == cut
        assert bedrock_sim.requests[-1].headers["authorization"] == f"Bearer {NEW_KEY}"
        calls = await every_record(fleet[other], [*load.ids, *load.cut, *ids])
        outcome = {call["id"]: call["outcome"] for call in calls}
        assert len(outcome) == len(calls)
        assert {outcome[id_] for id_ in load.ids} == {"ok"}
        assert {outcome[id_] for id_ in ids} == {"ok", "refused"}
        # HAProxy gave some calls of the killed gateway to another one, so that their callers know other ids
        lost = {id_ for id_, has in outcome.items() if has == "lost"}
        assert lost == set(load.cut) | (set(outcome) - {*load.ids, *ids})
        served = sum(has == "ok" for has in outcome.values())
        assert served <= len(bedrock_sim.requests) <= served + len(lost)
        for gateway in fleet:
            await require_sums(gateway, calls, fleet.refilled)


async def every_record(gateway, known):
    """Wait until the calls with the ids in `known` are stored. Return the records of all stored calls."""

    async def look():
        calls = await gateway.stored(len(known))
        return calls if {call["id"] for call in calls} >= set(known) else None

    return await eventually(look, START_SECONDS)


async def require_sums(gateway, calls, refilled):
    """Check that the usage report and the balances agree with the records `calls`, and that nothing is left in the
    bucket `small`.

    `refilled` is the amount that was added to this bucket.
    """
    async with gateway.session.get(f"{gateway.url}/api/usage") as reply:
        (usage,) = (await reply.json())["usage"]
    assert usage["calls"] == len(calls)
    assert amount(usage["cost_usd"]) == sum(amount(call["cost_usd"]) for call in calls)
    charged = {name: sum(amount(call["charges_usd"].get(name)) for call in calls) for name in ("team", "small")}
    for name, paid in {"team": 1000, "small": COST_OF_SHORT * BUDGET + refilled}.items():
        await eventually(lambda name=name, left=paid - charged[name]: is_left(gateway, left, name))
        assert (await gateway.bucket(name))["reserved_usd"] == 0
    assert charged["small"] == COST_OF_SHORT * BUDGET + refilled


def amount(dollars):
    return Decimal(str(dollars or 0))


async def is_left(gateway, left, name="small"):
    return (await gateway.bucket(name))["balance_usd"] == left


async def test_streams_of_a_gateway_that_is_stopped_at_once_end_in_their_dialect(fleet, bedrock_sim, unused_tcp_port):
    """Check that if a second SIGTERM stops a gateway at once, its open streams end with an error in their API format.

    HAProxy must pass these last bytes on to the client. The two other gateways do not run.
    """
    bedrock_sim.default = scenarios.replace(scenarios.NAMED["text"], gate=scenarios.Gate())
    async with AsyncExitStack() as stack:
        await fleet.start(stack, "a", "a")
        url = await stack.enter_async_context(fleet.behind_haproxy(unused_tcp_port))
        session = await stack.enter_async_context(session_of())
        ways = [(path, body) for path, body, end in WAYS if end in STREAMS]
        replies = [await stack.enter_async_context(session.post(url + path, json=body)) for path, body in ways]
        for reply in replies:
            assert await reply.content.readany()
        gateway = fleet["a"]
        gateway.process.send_signal(signal.SIGTERM)
        await gateway.line("gateway.draining")
        gateway.process.send_signal(signal.SIGTERM)
        for reply, last in zip(replies, ERRORS, strict=True):
            assert last in await reply.read()
        assert await asyncio.wait_for(gateway.process.wait(), START_SECONDS) == 0
