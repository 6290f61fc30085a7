"""Tests of recorded request headers. The record of a call has the values of the configured headers, and the call is not
changed otherwise.
"""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from multidict import CIMultiDict

from gateway.call.runtime import runtime
from gateway.testkit import scenarios
from tests.helpers.gateway import CAP, HAIKU, NOVA, bedrock, gate
from tests.helpers.waiting import eventually

CHAT = ("/v1/chat/completions", {"model": NOVA, "messages": [{"role": "user", "content": "hi"}]})
MESSAGES = (
    "/v1/messages",
    {"model": HAIKU, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]},
)
USER = "alice@example.com"
NOBODY = "nobody@example.com"
SERVER = {
    "listeners": [
        {"listen": "127.0.0.1:0", "identity": "static", "login": USER},
        {"listen": "127.0.0.2:0", "identity": "static", "login": NOBODY},
    ]
}
GRANTS = [
    {"src": [USER], "app": {CAP: [{"role": "admin", "filterable_headers": "*"}, {"models": "**"}]}},
]


@asynccontextmanager
async def recording(state, sim, *names, **database):
    sim.default = sim.default or scenarios.NAMED["text"]
    more = {"database": {"filterable": list(names), **database}}
    async with gate(state, {"b": bedrock(sim.url)}, grants=GRANTS, server=SERVER, more=more) as gw:
        yield gw


async def record_of(gw, headers, ask=CHAT):
    """Send a call with these headers, and return its record as the API returns it."""
    reply = await gw.post(*ask, headers=headers)
    await gw.running.gateway.follower.flush()
    return await (await gw.get(f"/api/calls/{reply.headers['x-request-id']}")).json()


async def test_a_record_and_its_log_line_have_the_values_of_the_named_headers(tmp_path, bedrock_sim):
    async with recording(tmp_path, bedrock_sim, "X-Team", "x-project") as gw:
        sent = CIMultiDict([("x-team", "alpha"), ("x-team", "beta"), ("x-project", ""), ("x-other", "o")])
        record = await record_of(gw, sent)
        assert record["headers"] == {"x-team": "alpha, beta", "x-project": ""}
        (line,) = await gw.lines.until("call.finished")
        assert line["headers"] == record["headers"]
        assert (await record_of(gw, {}))["headers"] == {}


async def test_a_header_of_the_reply_is_recorded_if_the_request_has_none(tmp_path, bedrock_sim):
    async with recording(tmp_path, bedrock_sim, "x-amzn-requestid") as gw:
        record = await record_of(gw, {})
        assert record["headers"] == {"x-amzn-requestid": record["upstream_request_id"]}
        assert record["upstream_request_id"]
        assert (await record_of(gw, {"x-amzn-requestid": "mine"}))["headers"] == {"x-amzn-requestid": "mine"}


async def test_a_recorded_header_reaches_the_provider_as_before(tmp_path, bedrock_sim):
    sent = {"anthropic-beta": "context-1m-2025-08-07"}
    bodies = []
    for names in ((), ("anthropic-beta",)):
        async with recording(tmp_path, bedrock_sim, *names) as gw:
            record = await record_of(gw, sent, MESSAGES)
            bodies.append(bedrock_sim.requests[-1].body)
    assert record["headers"] == sent
    assert bodies[0] == bodies[1]
    assert b"context-1m-2025-08-07" in bodies[0]


async def test_bytes_that_are_no_text_are_replaced(tmp_path, bedrock_sim):
    async with recording(tmp_path, bedrock_sim, "x-team") as gw:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(gw.url.rpartition(":")[2]))
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 2\r\n"
            b"X-Team: caf\xe9 \xd7\xa9\xd7\x9c\r\n\r\n{}"
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 400")
        writer.close()
        await eventually(lambda: gw.lines.count("call.finished"))
        await gw.running.gateway.follower.flush()
        ((record,), line) = (await (await gw.get("/api/calls")).json())["calls"], await gw.calls()
        assert record["headers"] == line[0]["headers"] == {"x-team": "caf\ufffd של"}


async def test_a_caller_without_a_role_adds_no_value(tmp_path, bedrock_sim):
    async with recording(tmp_path, bedrock_sim, "x-team") as gw:
        async with gw.session.post(gw.running.urls[1] + CHAT[0], json=CHAT[1], headers={"x-team": "alpha"}) as reply:
            assert reply.status == 403
        (line,) = await gw.calls()
        assert (line["outcome"], line["headers"]) == ("refused", {})


async def test_a_reload_adds_and_removes_names_for_the_calls_after_it(tmp_path, bedrock_sim):
    async with recording(tmp_path, bedrock_sim, "x-team") as gw:
        headers = {"x-team": "alpha", "x-project": "p1"}
        gateway = gw.running.gateway
        before = await record_of(gw, headers)
        gateway.current.runtime = runtime(replace(gateway.runtime.config, filterable_headers=("x-project",)))
        after = await record_of(gw, headers)
        assert (before["headers"], after["headers"]) == ({"x-team": "alpha"}, {"x-project": "p1"})
        again = await (await gw.get(f"/api/calls/{before['id']}")).json()
        assert again["headers"] == {"x-team": "alpha"}


@pytest.mark.parametrize("database", [{}, {"retention": {"duration": "0"}}], ids=["recorded", "zero retention"])
async def test_zero_retention_writes_no_value(tmp_path, bedrock_sim, database):
    async with recording(tmp_path, bedrock_sim, "x-team", **database) as gw:
        record = await record_of(gw, {"x-team": "canary-of-a-header"})
        logged = (await gw.calls())[0]["headers"]
    is_on_disk = any(b"canary-of-a-header" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    expected = {} if database else {"x-team": "canary-of-a-header"}
    assert (record["headers"], logged, is_on_disk) == (expected, expected, not database)


async def test_the_page_of_a_call_shows_the_values_as_text(tmp_path, bedrock_sim):
    async with recording(tmp_path, bedrock_sim, "x-team", "x-project") as gw:
        record = await record_of(gw, {"x-team": "<b>alpha</b>", "x-project": ""})
        page = await (await gw.get(f"/ui/calls?id={record['id']}")).text()
    assert '<dt class="name">x-team</dt><dd><span class="name">&lt;b&gt;alpha&lt;/b&gt;</span>' in page
    assert '<dt class="name">x-project</dt><dd><span class="unknown">empty</span>' in page


async def test_a_name_that_a_reload_removes_is_no_filter_until_it_comes_back(tmp_path, bedrock_sim):
    async with recording(tmp_path, bedrock_sim, "x-team") as gw:
        gateway = gw.running.gateway
        await record_of(gw, {"x-team": "alpha"})
        await record_of(gw, {"x-team": "beta"})
        seen = []
        for names in (("x-team",), (), ("x-team", "x-project")):
            gateway.current.runtime = runtime(replace(gateway.runtime.config, filterable_headers=names))
            calls = await gw.get("/api/calls?header=x-team:alpha")
            totals = await gw.get("/api/reports/totals?range=7d&header=x-team:alpha")
            page = await gw.get("/ui/?header=x-team:alpha")
            found = (await calls.json()).get("calls", ())
            now = (await totals.json()).get("now", {"calls": 0})
            seen.append((calls.status, totals.status, page.status, len(found), now["calls"]))
        assert seen == [(200, 200, 200, 1, 1), (400, 400, 400, 0, 0), (200, 200, 200, 1, 1)]
        # the names are kept with the calls
        assert [call["headers"] for call in (await (await gw.get("/api/calls")).json())["calls"]] == [
            {"x-team": "beta"}, {"x-team": "alpha"},
        ]  # fmt: skip


async def test_a_restart_keeps_values_index_and_sums(tmp_path, bedrock_sim):
    async with recording(tmp_path, bedrock_sim, "x-team") as gw:
        await record_of(gw, {"x-team": "alpha"})
    async with recording(tmp_path, bedrock_sim, "x-team") as gw:
        await record_of(gw, {"x-team": "alpha"})
        totals = await (await gw.get("/api/reports/totals?range=7d&header=x-team:alpha")).json()
        sessions = await (await gw.get("/api/sessions?header=x-team:alpha")).json()
        assert (totals["now"]["calls"], sum(session["calls"] for session in sessions["sessions"])) == (2, 2)
