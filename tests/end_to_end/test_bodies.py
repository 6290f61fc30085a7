"""Tests of stored bodies of calls. By default, none are stored. If this is configured, the bodies of every conversion
are stored, and only some callers may read them.
"""

import asyncio
import base64
import json
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from gateway.call.runtime import runtime
from gateway.testkit import scenarios
from tests.end_to_end.test_quotas import BOSS, SERVER, USER
from tests.end_to_end.test_streams import CONVERSIONS, conversions
from tests.helpers.gateway import CAP, HAIKU, KEY, NOVA, bedrock, gate
from tests.helpers.waiting import eventually

OTHER = "other@example.com"
LISTENERS = [*SERVER["listeners"], {"listen": "127.0.0.3:0", "identity": "static", "login": OTHER}]
GRANTS = [
    {"src": ["*"], "app": {CAP: [{"role": "user"}, {"models": "**"}]}},
    {"src": [BOSS], "app": {CAP: [{"role": "admin"}]}},
]
CANARY = "canary-that-a-person-wrote"
SECRET = "canary-in-a-header"
ASKED = [{"role": "user", "content": CANARY}]
HEADERS = {
    "authorization": f"Bearer {SECRET}", "x-api-key": SECRET, "cookie": f"a={SECRET}", "x-amz-security-token": SECRET,
    "user-agent": "claude-cli/2.0",
}  # fmt: skip


@asynccontextmanager
async def capturing(state, sim, **database):
    sim.default = sim.default or scenarios.NAMED["text"]
    more = {"database": {"save_raws": True, **database}}
    server = {"listeners": LISTENERS}
    async with gate(state, {"b": bedrock(sim.url)}, grants=GRANTS, server=server, more=more) as gw:
        yield gw


async def bodies(gw, call):
    """Wait for the stored bodies of a call, and return them. The gateway writes bodies shortly after the call."""

    async def stored():
        reply = await gw.get(f"/api/calls/{call}/bodies")
        return reply if reply.status != 404 else None

    reply = await eventually(stored)
    assert reply.status == 200
    return await reply.json()


def raw(part):
    return base64.b64decode(part["body"]) if part["encoding"] == "base64" else part["body"].encode()


def on_disk(folder):
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


WHOLE = {
    "native": (f"/bedrock/model/{NOVA}/converse", {"messages": [{"role": "user", "content": [{"text": CANARY}]}]}),
    "re-enveloped": ("/v1/messages", {"model": HAIKU, "max_tokens": 9, "messages": ASKED}),
    "translated": ("/v1/chat/completions", {"model": NOVA, "messages": ASKED}),
}


@pytest.mark.parametrize(
    "database", [{"save_raws": False}, {"retention": {"duration": "0"}}], ids=["off", "zero retention"]
)
async def test_nothing_of_a_body_is_written_unless_it_is_asked_for(tmp_path, bedrock_sim, database):
    bedrock_sim.default = scenarios.text("canary-in-the-reply")
    async with capturing(tmp_path, bedrock_sim, **database) as gw:
        for path, body in WHOLE.values():
            reply = await gw.post(path, body)
            assert reply.status == 200
        await gw.sessions()
        answer = await gw.get(f"/api/calls/{reply.headers['x-request-id']}/bodies")
        assert answer.status == 404
    written = on_disk(tmp_path)
    assert CANARY.encode() not in written
    assert b"canary-in-the-reply" not in written
    assert not list(tmp_path.rglob("*bodies*"))


async def test_nothing_is_written_by_a_configuration_that_does_not_say_anything(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        assert (await gw.post(*WHOLE["translated"])).status == 200
        await gw.sessions()
    assert CANARY.encode() not in on_disk(tmp_path)


@pytest.mark.parametrize(("path", "body"), WHOLE.values(), ids=WHOLE)
async def test_both_bodies_are_stored_byte_for_byte_without_keys(tmp_path, bedrock_sim, path, body):
    """Check that the bodies that the client sent and received are stored byte for byte. The client's keys in the
    headers are not stored.
    """
    async with capturing(tmp_path, bedrock_sim) as gw:
        sent = json.dumps(body).encode()
        reply = await gw.post(path, sent, headers=HEADERS)
        rows = await bodies(gw, reply.headers["x-request-id"])
        assert (raw(rows["request"]), rows["request"]["cut"]) == (sent, False)
        assert (raw(rows["reply"]), rows["reply"]["cut"]) == (reply.body, False)
        assert rows["request"]["headers"]["user-agent"] == "claude-cli/2.0"
        assert rows["request"]["headers"]["authorization"] == "[redacted]"
        assert rows["reply"]["headers"]["x-request-id"] == reply.headers["x-request-id"]
        assert SECRET not in json.dumps(rows)
    written = on_disk(tmp_path)
    assert CANARY.encode() in written
    assert SECRET.encode() not in written
    assert KEY.encode() not in written


@conversions
async def test_a_stream_is_kept_as_its_bytes_went_out(tmp_path, bedrock_sim, path, body):
    async with capturing(tmp_path, bedrock_sim) as gw:
        reply = await gw.post(path, body)
        rows = await bodies(gw, reply.headers["x-request-id"])
        assert raw(rows["reply"]) == reply.body
        assert rows["reply"]["encoding"] == ("base64" if path.endswith("-stream") else "utf-8")


async def test_of_a_stream_that_its_client_left_what_went_out_is_kept(tmp_path, bedrock_sim):
    path, body = CONVERSIONS["chat to converse"]
    held = scenarios.Gate()
    held.let_pass(4)
    bedrock_sim.script(replace(scenarios.NAMED["long"], gate=held))
    async with capturing(tmp_path, bedrock_sim) as gw:
        reply = await gw.session.post(gw.url + path, json=body)
        got = await asyncio.wait_for(reply.content.readany(), 30)
        reply.close()
        (record,) = await gw.calls()
        assert record["outcome"] == "cancelled"
        rows = await bodies(gw, record["id"])
        assert raw(rows["reply"]).startswith(got)


async def test_an_error_is_kept_as_the_client_saw_it(tmp_path, bedrock_sim):
    async with capturing(tmp_path, bedrock_sim) as gw:
        reply = await gw.post("/v1/chat/completions", b"{ no json")
        assert reply.status == 400
        rows = await bodies(gw, reply.headers["x-request-id"])
        assert raw(rows["request"]) == b"{ no json"
        assert raw(rows["reply"]) == reply.body


@pytest.mark.parametrize("conversion", ["whole", "stream"])
async def test_each_body_is_cut_at_its_size_and_the_call_is_not(tmp_path, bedrock_sim, conversion):
    bedrock_sim.default = scenarios.text(*["word " * 100] * 10)
    body = {"model": NOVA, "messages": [{"role": "user", "content": "x" * 5000}], "stream": conversion == "stream"}
    async with capturing(tmp_path, bedrock_sim, max_bytes=1024) as gw:
        reply = await gw.post("/v1/chat/completions", body)
        rows = await bodies(gw, reply.headers["x-request-id"])
        assert len(reply.body) > 5000
        for part, whole in ((rows["request"], json.dumps(body).encode()), (rows["reply"], reply.body)):
            assert (raw(part), part["cut"]) == (whole[:1024], True)


async def test_bodies_are_read_by_their_caller_and_admins_only(tmp_path, bedrock_sim):
    """Check that callers can read the bodies of their own calls, and admins all bodies.

    Other callers get the same 404 whether the call exists or not.
    """
    async with capturing(tmp_path, bedrock_sim) as gw:
        call = (await gw.post(*WHOLE["translated"])).headers["x-request-id"]
        mine = await bodies(gw, call)
        gw.url = gw.running.urls[1]
        assert await bodies(gw, call) == mine
        assert (await gw.get(f"/api/calls/{call}/bodies?identity={OTHER}")).status == 404
        (entry,) = await gw.lines.until("bodies.read")
        assert (entry["request_id"], entry["identity"], entry["by"]) == (call, USER, BOSS)
        gw.url = gw.running.urls[2]
        others = await gw.get(f"/api/calls/{call}/bodies")
        absent = await gw.get(f"/api/calls/{'0' * len(call)}/bodies")
        assert (others.status, absent.status) == (404, 404)
        assert others.body.replace(call.encode(), b"") == absent.body.replace(b"0" * len(call), b"")
        assert others.headers["cache-control"] == "no-store"
        assert (await gw.get(f"/api/calls/{call}/bodies?identity={USER}")).status == 403


async def test_a_reload_switches_keeping_on_and_off(tmp_path, bedrock_sim):
    async with capturing(tmp_path, bedrock_sim) as gw:
        gateway = gw.running.gateway
        first = (await gw.post(*WHOLE["translated"])).headers["x-request-id"]
        await bodies(gw, first)
        off = replace(gateway.runtime.config.bodies, limit=0)
        gateway.current.runtime = runtime(replace(gateway.runtime.config, bodies=off))
        second = (await gw.post(*WHOLE["translated"])).headers["x-request-id"]
    async with capturing(tmp_path, bedrock_sim) as gw:
        assert (await gw.get(f"/api/calls/{first}/bodies")).status == 200
        assert (await gw.get(f"/api/calls/{second}/bodies")).status == 404
