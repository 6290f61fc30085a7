"""Tests of pages, metrics and connections of a gateway with workers (processes that serve the calls)."""

import asyncio
import json
import os
import re
import signal
import stat
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import aiohttp

from gateway.testkit import scenarios
from gateway.testkit.localapi import LocalApiSim
from gateway.testkit.tailnet_nodes import Node, User
from tests.helpers.gateway import CAP, EVERYTHING, HAIKU, bedrock
from tests.helpers.processes import CHAT, START_SECONDS, family, served
from tests.helpers.raw_http import Raw, raw_connections  # noqa: F401 (a fixture of every test here)
from tests.helpers.waiting import eventually

ALICE = Node("laptop.example.ts.net", ("100.64.0.7",), User("alice@example.com"))
BOB = Node("phone.example.ts.net", ("100.64.0.8",), User("bob@example.com"))
USERS = [{"src": ["*"], "app": {CAP: [{"role": "user"}, {"models": "**"}]}}]


@asynccontextmanager
async def working(folder, sim, *, count=2, grants=EVERYTHING, listeners=None, **more):
    """Run a gateway with workers, and yield it. `listeners` is the value of `server.listeners` in the configuration."""
    file = folder / "config.hujson"
    configuration = {"providers": {"b": bedrock(sim.url)}, "grants": grants, **more}
    configuration["server"] = {"listeners": listeners or [{"listen": "127.0.0.1:0"}]}
    file.write_text(json.dumps(configuration))
    state = folder / "state"
    state.mkdir()
    async with served(
        folder, "serve", "--config", str(file), "--state", str(state), "--workers", str(count)
    ) as running:
        # the gateway's log has a thread of its own, and is behind its other lines
        await eventually(lambda: len(workers(running)) == count, START_SECONDS)
        yield running


def workers(running):
    """Return the process id of each worker that has started, by the worker's slot (its number)."""
    lines = [json.loads(line) for line in running.lines if '"event":"worker.started"' in line]
    return {line["slot"]: line["process"] for line in lines}


async def connected(running, **options):
    place = urlsplit(running.url)
    return await Raw.open(place.hostname, place.port, **options)


async def text(running, path):
    """Return the text of a page. The request has a new connection."""
    async with aiohttp.ClientSession() as session, session.get(running.url + path) as reply:
        assert reply.status == 200, await reply.text()
        return await reply.text()


async def metric(running, name):
    """Return the values of a metric. The keys are the labels, as text in Prometheus's format."""
    lines = (await text(running, "/metrics")).splitlines()
    found = [re.fullmatch(rf"irisgate_{name}(?:\{{(.*)\}})? (\S+)", line) for line in lines]
    return {line[1] or "": float(line[2]) for line in found if line}


async def ready(running):
    async with aiohttp.ClientSession() as session, session.get(running.url + "/readyz") as reply:
        return reply.status, await reply.json()


async def test_pages_and_metrics_are_those_of_all_workers(tmp_path, bedrock_sim):
    async with working(tmp_path, bedrock_sim) as running:
        connections = [await connected(running) for _ in range(4)]
        for number, raw in enumerate(connections):
            status, _, _ = await raw.ask("/v1/chat/completions", {**CHAT, "user": f"user-{number}"})
            assert status == 200
            assert json.loads((await raw.ask("/api/whoami"))[2])["login"] == "(loopback)"
        assert sum((await metric(running, "requests_total")).values()) == 4
        each = await metric(running, "worker_connections")
        # the connection of the request for the metrics itself counts too
        assert sorted(each[f'worker="{slot}"'] for slot in range(2)) in ([2, 3], [2, 2])
        assert len(await running.stored(4)) == 4
        assert await metric(running, "workers") == {"": 2}
        assert "4" in await text(running, "/ui/now")
        (sessions,) = (await metric(running, "sessions_active")).values()
        assert sessions >= 1
        assert stat.S_IMODE((tmp_path / "state" / "journal").stat().st_mode) == 0o700
        assert await running.end() == 0


async def test_connections_are_spread_over_all_workers(tmp_path, bedrock_sim):
    """Check that connections are spread evenly: the numbers of connections of two workers differ by at most two.

    A small difference is allowed, because a worker that gets no processor for 20 ms may lose its turn.
    """
    async with working(tmp_path, bedrock_sim, count=4) as running:
        connections = await asyncio.gather(*(connected(running) for _ in range(8)))
        replies = await asyncio.gather(*(raw.ask("/metrics") for raw in connections))
        assert {status for status, _, _ in replies} == {200}
        (_, _, body) = await connections[0].ask("/metrics")
        found = re.findall(r'irisgate_worker_connections\{worker="\d"\} (\S+)', body.decode())
        counts = [int(float(number)) for number in found]
        assert (len(counts), sum(counts)) == (4, 8)
        assert max(counts) - min(counts) <= 2


async def test_a_call_in_flight_is_on_the_page_and_open_pages_are_told(tmp_path, bedrock_sim):
    held = scenarios.Gate()
    bedrock_sim.script(scenarios.replace(scenarios.NAMED["text"], gate=held))
    async with working(tmp_path, bedrock_sim) as running:
        calling = asyncio.create_task(running.chat(stream=True))
        await eventually(lambda: bedrock_sim.requests)
        await shows(running, 1)
        async with running.session.get(running.url + "/ui/live") as live:
            async for line in live.content:
                if line.startswith(b"event: change"):
                    break
        assert await metric(running, "calls_in_flight") == {"": 1}
        held.let_pass(1000)
        assert (await calling)[0] == 200
        await shows(running, 0)


async def shows(running, calls):
    """Wait until the page Now shows this number of calls."""

    async def look():
        return (await text(running, "/ui/now")).count(f">{HAIKU}<") == calls

    await eventually(look)


async def test_counters_do_not_fall_when_a_worker_is_killed(tmp_path, bedrock_sim):
    async with working(tmp_path, bedrock_sim) as running:
        for _ in range(4):
            raw = await connected(running)
            assert (await raw.ask("/v1/chat/completions", CHAT))[0] == 200
        before = workers(running)
        assert sum((await metric(running, "requests_total")).values()) == 4
        os.kill(before[0], signal.SIGKILL)
        await eventually(lambda: workers(running)[0] != before[0], START_SECONDS)
        assert sum((await metric(running, "requests_total")).values()) == 4
        assert await metric(running, "worker_ends_total") == {"": 1}
        raw = await connected(running)
        assert (await raw.ask("/v1/chat/completions", CHAT))[0] == 200
        assert sum((await metric(running, "requests_total")).values()) == 5
        status, body = await ready(running)
        assert (status, body["workers"]) == (200, "alive")


async def test_a_worker_that_is_stopped_leaves_its_counts(tmp_path, bedrock_sim):
    async with working(tmp_path, bedrock_sim) as running:
        before = workers(running)
        for _ in range(4):
            assert (await (await connected(running)).ask("/v1/chat/completions", CHAT))[0] == 200
        os.kill(before[1], signal.SIGTERM)  # before any scrape
        await eventually(lambda: workers(running)[1] != before[1], START_SECONDS)
        assert sum((await metric(running, "requests_total")).values()) == 4


async def test_a_worker_that_hangs_holds_up_nobody(tmp_path, bedrock_sim):
    async with working(tmp_path, bedrock_sim) as running:
        os.kill(workers(running)[1], signal.SIGSTOP)
        try:
            connections = await asyncio.gather(*(connected(running) for _ in range(6)))
            replies = await asyncio.gather(*(raw.ask("/v1/chat/completions", CHAT) for raw in connections))
            assert {status for status, _, _ in replies} == {200}
            assert (await metric(running, "worker_silent_total"))[""] >= 1
            assert (await ready(running))[0] == 200
        finally:
            os.kill(workers(running)[1], signal.SIGCONT)


async def test_a_keeper_that_is_killed_cuts_pages_and_lets_calls_end(tmp_path, bedrock_sim):
    held = scenarios.Gate()
    bedrock_sim.script(scenarios.replace(scenarios.NAMED["text"], gate=held))
    async with working(tmp_path, bedrock_sim) as running:
        live = await connected(running)
        live.writer.write(b"GET /ui/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await live.reader.readuntil(b"retry: ")
        async with running.session.post(running.url + "/v1/chat/completions", json={**CHAT, "stream": True}) as reply:
            await reply.content.readany()
            running.process.send_signal(signal.SIGKILL)
            rest = await live.reader.read()
            assert not rest.endswith(b"0\r\n\r\n")
            held.let_pass(1000)
            assert b"[DONE]" in await reply.content.read()


async def test_pages_are_served_during_a_restart(tmp_path, bedrock_sim):
    file, state = tmp_path / "config.hujson", tmp_path / "state"
    listeners = {"listeners": [{"listen": "127.0.0.1:0"}]}
    providers = {"b": bedrock(bedrock_sim.url)}
    file.write_text(json.dumps({"providers": providers, "grants": EVERYTHING, "server": listeners}))
    state.mkdir()
    seen = []
    async with family(tmp_path, "serve", "--config", str(file), "--state", str(state), "--workers", "2") as running:

        async def ask():
            while True:
                async with running.session.get(running.url + "/api/whoami") as reply:
                    seen.append((reply.status, await reply.text()))

        asking = asyncio.create_task(ask())
        await eventually(lambda: seen)
        await running.restart()
        after = len(seen) + 20
        await eventually(lambda: len(seen) > after or asking.done())
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await running.end()
    assert {status for status, _ in seen} == {200}


async def test_each_worker_passes_on_who_calls(tmp_path, bedrock_sim):
    async with AsyncExitStack() as stack:
        sim = await stack.enter_async_context(LocalApiSim(tmp_path / "tailscaled.sock"))
        for node in (ALICE, BOB):
            sim.add(node)
        listeners = [{"listen": "127.0.0.1:0", "identity": "whois", "tailscaled": str(sim.path)}]
        running = await stack.enter_async_context(working(tmp_path, bedrock_sim, listeners=listeners, grants=USERS))
        callers = []
        for node in (ALICE, BOB, ALICE, BOB):
            raw = await connected(running)
            sim.proxied(raw.port, node)
            callers.append((raw, node.user.login))
        for _ in range(2):
            for raw, login in callers:
                status, _, body = await raw.ask("/api/whoami")
                assert (status, json.loads(body)["login"]) == (200, login)
                assert (await raw.ask("/v1/chat/completions", CHAT))[0] == 200
                assert (await raw.ask("/metrics"))[0] == 403
        for raw, login in callers[:2]:

            async def own(raw=raw):
                return json.loads((await raw.ask("/api/calls"))[2])["calls"]

            await eventually(lambda own=own: _has(own, 4))
            assert {call["identity"] for call in await own()} == {login}


async def _has(calls, count):
    return len(await calls()) == count


async def test_the_listener_of_the_metrics_is_the_keepers(tmp_path, bedrock_sim):
    async with working(tmp_path, bedrock_sim, metrics={"listen": "127.0.0.1:0"}) as running:
        assert (await running.chat())[0] == 200
        line = json.loads((await running.line(r'.*"event":"metrics.listening".*'))[0])
        async with running.session.get(line["url"]) as reply:
            page = await reply.text()
        assert re.search(r"^irisgate_requests_total\{.*\} 1.0$", page, re.MULTILINE)
        assert "irisgate_workers 2.0" in page
