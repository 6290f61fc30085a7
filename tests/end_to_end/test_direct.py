"""Tests of `/direct/{provider}/`: the provider gets the client's request unchanged, and the client gets the provider's
reply unchanged.
"""

import asyncio
import json

import aiohttp
import pytest
from yarl import URL

from gateway.testkit.openai import OpenAISim
from tests.helpers.echo_provider import echo_provider, in_chunks, whole
from tests.helpers.gateway import CAP, KEY, gate
from tests.helpers.waiting import eventually

SECRET = "sk-the-gateways-own-key-4711"
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}


def plain(url, **more):
    return {"baseurl": url, "apikey": SECRET, "models": ["gpt-4o"], "cost_basis": "openai", **more}


@pytest.fixture
async def provider():
    async with echo_provider() as running:
        yield running


@pytest.fixture
async def gw(tmp_path, provider):
    async with gate(tmp_path, {"acme": plain(provider.url)}) as running:
        yield running


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_method_path_query_and_body_arrive_as_they_were_sent(gw, provider, method):
    path = "/v1/files/a%20b;c=d/%E2%82%AC,(x)!$&'*+=:@~"
    query = "?limit=2&after=%2Fx&empty=&flag&nextToken=t"
    body = b"" if method == "GET" else b"\x00\xffbinary\r\n{not json"
    async with gw.session.request(method, _url(f"{gw.url}/direct/acme{path}{query}"), data=body or None) as reply:
        assert (reply.status, await reply.read()) == (200, b"{}")
    (seen,) = provider.seen
    assert seen.line == f"{method} {path}{query} HTTP/1.1"
    assert seen.body == body
    assert seen["authorization"] == f"Bearer {SECRET}"


def _url(text):
    return URL(text, encoded=True)


async def test_headers_pass_both_ways_except_those_of_the_connection(gw, provider):
    provider.reply = whole(b"hello", "Content-Type: audio/mpeg", "X-Model-Hint: 7", "ETag: abc", "X-Request-Id: up1")
    sent = {"x-feature": "on", "content-type": "audio/wav", "anthropic-beta": "files", "idempotency-key": "i1"}
    reply = await gw.post("/direct/acme/v1/audio", b"RIFF", headers=sent)
    (seen,) = provider.seen
    assert {name: seen[name] for name in sent} == sent
    assert (reply.status, reply.body, reply.headers["content-type"]) == (200, b"hello", "audio/mpeg")
    assert (reply.headers["x-model-hint"], reply.headers["etag"]) == ("7", "abc")
    (call,) = await gw.calls()
    assert call["upstream_request_id"] == "up1"
    assert reply.headers["x-request-id"] == call["id"]


@pytest.mark.parametrize(
    "status", ["201 Created", "204 No Content", "304 Not Modified", "404 Not Found", "422 No", "500 No"]
)
async def test_every_status_comes_back_with_its_body(gw, provider, status):
    body = b"" if status[:3] in {"204", "304"} else b'<strange>"answer"'
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/strange\r\n"
    provider.reply = head.encode() + (b"\r\n" if not body else b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    reply = await gw.post("/direct/acme/v1/x", b"1")
    assert (reply.status, reply.body, reply.headers["content-type"]) == (int(status[:3]), body, "text/strange")


async def test_a_reply_is_passed_on_while_it_comes(gw, provider):
    goes_on = asyncio.Event()

    async def play(_seen, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await goes_on.wait()
        writer.write(b"4\r\nlast\r\n0\r\n\r\n")

    provider.reply = play
    async with gw.session.get(f"{gw.url}/direct/acme/v1/slow") as reply:
        assert await reply.content.readexactly(5) == b"first"
        goes_on.set()
        assert await reply.read() == b"last"


async def test_a_large_reply_needs_no_memory_for_itself(tmp_path, provider):
    part = bytes(range(256)) * 1024

    async def play(_seen, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(part) * 100))
        for _ in range(100):
            writer.write(part)
            await writer.drain()

    provider.reply = play
    limits = {"limits": {"buffer_bytes": 64 * 1024, "body_bytes": 64 * 1024}}
    async with gate(tmp_path, {"acme": plain(provider.url)}, server=limits) as gw:
        reply = await gw.get("/direct/acme/v1/files/f/content")
        assert reply.body == part * 100
        (call,) = await gw.calls()
        assert call["direct"]["reply_bytes"] == len(part) * 100


async def test_a_reply_that_breaks_off_breaks_off_for_the_client(gw, provider):
    async def play(_seen, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
        await writer.drain()
        writer.close()

    provider.reply = play
    async with gw.session.get(f"{gw.url}/direct/acme/v1/x") as reply:
        with pytest.raises(Exception, match=r"(?i)payload|closed|disconnect"):
            await reply.read()
    (call,) = await gw.calls()
    assert (call["outcome"], call["error"]) == ("failed", "upstream")


async def test_a_record_has_what_can_be_known(gw, provider):
    provider.reply = whole(b"12345")
    await gw.post("/direct/acme/v1/fine_tuning/jobs?x=secret", b"0123456789")
    (call,) = await gw.calls()
    assert {name: call[name] for name in ("provider", "model", "api", "upstream_api", "operation", "status", "outcome")} == {
        "provider": "acme", "model": "", "api": "direct", "upstream_api": "direct", "operation": "direct", "status": 200,
        "outcome": "ok",
    }  # fmt: skip
    assert call["direct"] == {
        "method": "POST", "path": "/direct/acme/v1/fine_tuning/jobs", "request_bytes": 10, "reply_bytes": 5,
    }  # fmt: skip
    assert (call["cost_usd"], call["reported"], call["estimated"]) == (None, False, True)
    (line,) = await gw.lines.until("call.finished")
    assert line["direct"]["path"] == "/direct/acme/v1/fine_tuning/jobs"
    metrics = await (await gw.get("/metrics")).text()
    assert 'irisgate_unpriced_calls_total{model="other",provider="acme"} 1.0' in metrics
    assert (
        'irisgate_requests_total{api="direct",model="other",outcome="ok",provider="acme",status="2xx"} 1.0' in metrics
    )
    assert "fine_tuning" not in metrics


async def test_reading_is_free(gw):
    await gw.get("/direct/acme/v1/files")
    (call,) = await gw.calls()
    assert (call["cost_usd"], call["operation"], call["estimated"]) == (0.0, "direct", False)


@pytest.mark.parametrize("stream", [False, True])
async def test_usage_of_a_known_path_is_recorded(tmp_path, stream):
    async with OpenAISim(keys={KEY}) as chats:
        acme = {"baseurl": chats.url, "apikey": KEY, "models": ["gpt-4o"], "cost_basis": "openai"}
        async with gate(tmp_path, {"acme": acme}) as gw:
            body = {**CHAT, "stream": stream, **({"stream_options": {"include_usage": True}} if stream else {})}
            own = await gw.post("/v1/chat/completions", body)
            direct = await gw.post("/direct/acme/v1/chat/completions", body)
            assert direct.status == own.status == 200
            assert _shape(direct.body) == _shape(own.body)
            before, after = await gw.calls(2)
            assert after["upstream_api"] == "openai_chat"
            same = (
                "model",
                "served_model",
                "tokens",
                "reported",
                "cost_usd",
                "cost_basis",
                "stop",
                "stream",
                "estimated",
            )
            assert {name: after[name] for name in same} == {name: before[name] for name in same}
            assert after["cost_usd"] > 0
            assert chats.requests[0].json == chats.requests[1].json == body


def _shape(body):
    """Return what two replies to the same request have in common: the names of the fields, or the beginning of each
    line of a stream.
    """
    return [line[:12] for line in body.splitlines() if line] if body.startswith(b"data") else sorted(json.loads(body))


async def test_an_unreadable_reply_of_a_known_path_is_passed_on_and_estimated(gw, provider):
    provider.reply = whole(b"<html>strange", "Content-Type: text/html")
    reply = await gw.post("/direct/acme/v1/chat/completions", CHAT)
    assert (reply.status, reply.body) == (200, b"<html>strange")
    (call,) = await gw.calls()
    assert (call["model"], call["outcome"], call["reported"], call["estimated"]) == ("gpt-4o", "ok", False, True)
    assert call["cost_usd"] > 0


async def test_a_base_url_with_a_version_is_joined_as_for_other_calls(tmp_path, provider):
    async with gate(tmp_path, {"acme": plain(f"{provider.url}/tenant/v1")}) as gw:
        for path in ("/v1/files", "/files"):
            assert (await gw.get(f"/direct/acme{path}")).status == 200
        refused = await gw.get("/direct/acme/v2/files")
    assert [seen.line for seen in provider.seen] == ["GET /tenant/v1/files HTTP/1.1"] * 2
    assert refused.status == 400
    assert (await refused.json())["error"]["param"] == "path"


async def test_a_gone_client_ends_the_request_to_the_provider(gw, provider):
    closed = asyncio.Event()

    async def play(_seen, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        try:
            while not writer.is_closing():
                writer.write(b"1\r\nb\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)
        finally:
            closed.set()

    provider.reply = play
    async with gw.session.get(f"{gw.url}/direct/acme/v1/endless") as reply:
        await reply.content.readexactly(1)
    await eventually(closed.is_set)
    (call,) = await gw.calls()
    assert call["outcome"] == "cancelled"


KEYS = {"team-a": "sk-first-key-of-the-pool-0001", "team-b": "sk-second-key-of-the-pool-0002"}


async def test_a_throttled_key_leaves_the_request_to_another(tmp_path, provider):
    async def play(seen, writer):
        refused = seen["authorization"].endswith("0001")
        writer.write(whole(b"{}", status="429 Slow" if refused else "200 OK"))

    provider.reply = play
    pool = {"baseurl": provider.url, "apikeys": KEYS, "models": ["gpt-4o"]}
    async with gate(tmp_path, {"acme": pool}) as gw:
        statuses = {(await gw.post("/direct/acme/v1/files", b"x")).status for _ in range(4)}
        calls = await gw.calls(4)
    assert statuses == {200}
    assert {call["key"] for call in calls} == {"team-b"}


async def test_a_key_that_is_refused_on_an_odd_path_stays_in_use(gw, provider):
    provider.reply = whole(f'{{"error": "bad key {SECRET[:8]}...4711"}}'.encode(), status="401 Unauthorized")
    reply = await gw.get("/direct/acme/v1/organization/users")
    assert reply.status == 502
    assert "refused the gateway's key for this path" in (await reply.json())["error"]["message"]
    assert SECRET[:8].encode() not in reply.body
    assert (await gw.lines.until("upstream.access_denied"))[0]["provider"] == "acme"
    provider.reply = whole(b"{}")
    assert (
        await gw.post("/v1/chat/completions", CHAT)
    ).status == 502  # the reply is none of Chat, but it was asked for
    assert len(provider.seen) == 2
    assert gw.lines.count("upstream.key_refused") == 0
    assert (await gw.readiness())[0] == 200


async def test_a_key_that_is_refused_on_a_known_path_is_told_to_the_operator(gw, provider):
    provider.reply = whole(f'{{"error": "bad key {SECRET}"}}'.encode(), status="401 Unauthorized")
    reply = await gw.post("/direct/acme/v1/chat/completions", CHAT)
    assert (reply.status, SECRET.encode() in reply.body) == (502, False)
    assert (await gw.lines.until("upstream.key_refused"))[0]["provider"] == "acme"


async def test_an_unlisted_model_is_priced_by_the_reply_alone(tmp_path, provider):
    usage = {"prompt_tokens": 1000, "completion_tokens": 10}
    rules = {"model_cost_map": [{"match": "*", "as": "gpt-4o"}]}
    async with gate(tmp_path, {"acme": plain(provider.url, **rules)}) as gw:
        provider.reply = whole(json.dumps({"model": "gpt-4o-mini", "choices": [], "usage": usage}).encode())
        await gw.post("/direct/acme/v1/chat/completions", {**CHAT, "model": "gpt-4o-mini"})
        provider.reply = whole(b"{}")
        await gw.post("/direct/acme/v1/chat/completions", {**CHAT, "model": "gpt-4o-mini"})
        await gw.post("/direct/acme/v1/images", {"model": "gpt-4o-mini"})
        reported, silent, unknown = await gw.calls(3)
    assert (reported["model"], reported["served_model"], reported["tokens"]["input"]) == ("", "gpt-4o-mini", 1000)
    assert reported["cost_usd"] > 0
    assert (silent["cost_usd"], unknown["cost_usd"]) == (None, None)


async def test_an_encoded_slash_makes_no_known_path(gw, provider):
    url = URL(f"{gw.url}/direct/acme/v1/chat%2Fcompletions", encoded=True)
    async with gw.session.post(url, json=CHAT) as reply:
        assert reply.status == 200
    (call,) = await gw.calls()
    assert (call["upstream_api"], call["cost_usd"]) == ("direct", None)
    assert provider.seen[0].line == "POST /v1/chat%2Fcompletions HTTP/1.1"


@pytest.mark.parametrize("reply", [b"data: " + b"x" * 300_000, b"event: \xff\ndata: {\n\n" + b"y" * 300_000])
async def test_a_stream_that_cannot_be_read_is_estimated_by_its_bytes(gw, provider, reply):
    provider.reply = in_chunks([reply[:150_000], reply[150_000:]], "Content-Type: text/event-stream")
    got = await gw.post("/direct/acme/v1/chat/completions", {**CHAT, "stream": True})
    assert got.body == reply
    (call,) = await gw.calls()
    assert (call["reported"], call["estimated"], call["stream"]) == (False, True, True)
    assert call["cost_usd"] > 50_000 * 10e-6  # 150,000 bytes are 50,000 tokens at least


async def test_a_reply_that_is_no_stream_is_estimated_by_its_bytes(gw, provider):
    provider.reply = whole(b"z" * 300_000, "Content-Type: text/plain")
    await gw.post("/direct/acme/v1/chat/completions", {**CHAT, "stream": True})
    (call,) = await gw.calls()
    assert (call["reported"], call["estimated"]) == (False, True)
    assert call["cost_usd"] > 90_000 * 10e-6


async def test_many_names_of_models_take_no_memory(gw):
    for number in range(50):
        await gw.post("/direct/acme/v1/chat/completions", {**CHAT, "model": f"m-{number}"})
    runtime = gw.running.gateway.runtime
    assert len(runtime.prices._by_model) <= 2
    assert {name for _, name in gw.running.gateway.health._memories} <= {"gpt-4o"}


async def test_a_silent_provider_is_a_timeout(tmp_path, provider):
    async def silent(_seen, _writer):
        await asyncio.sleep(1)

    async def slow(_seen, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        await asyncio.sleep(1)

    timeouts = {"timeouts": {"head_seconds": 0.2, "first_event_seconds": 0.2, "read_seconds": 0.2}}
    async with gate(tmp_path, {"acme": plain(provider.url, **timeouts)}) as gw:
        provider.reply = silent
        reply = await gw.get("/direct/acme/v1/x")
        assert (reply.status, (await reply.json())["error"]["type"]) == (504, "timeout")
        provider.reply = slow
        with pytest.raises(aiohttp.ClientPayloadError):
            await gw.get("/direct/acme/v1/x")
        _, cut = await gw.calls(2)
    assert (cut["outcome"], cut["error"], cut["direct"]["reply_bytes"]) == ("failed", "timeout", 5)


async def test_a_providers_limit_of_calls_counts_direct_ones(tmp_path, provider):
    goes_on = asyncio.Event()

    async def waits(_seen, writer):
        await goes_on.wait()
        writer.write(whole(b"{}"))

    provider.reply = waits
    async with gate(tmp_path, {"acme": plain(provider.url, calls_in_flight=1)}) as gw:
        first = asyncio.create_task(gw.get("/direct/acme/v1/x"))
        await eventually(lambda: provider.seen)
        assert (await gw.get("/direct/acme/v1/y")).status == 503
        goes_on.set()
        assert (await first).status == 200


async def test_a_direct_request_goes_through_the_proxy(tmp_path, provider, monkeypatch):
    monkeypatch.setenv("http_proxy", provider.url)
    monkeypatch.setenv("no_proxy", "")
    async with gate(tmp_path, {"acme": plain("http://models.example.com/base")}) as gw:
        assert (await gw.get("/direct/acme/v1/files")).status == 200
    (seen,) = provider.seen
    assert seen.line == "GET http://models.example.com/base/v1/files HTTP/1.1"


def grants(*capabilities):
    return [{"src": ["*"], "app": {CAP: [{"role": "user"}, {"read_metrics": True}, *capabilities]}}]


QUOTA = {"quotas": {"daily": {"capacity": "$1.00", "rate": "$1.00/day"}}}


async def test_a_quota_refuses_what_it_cannot_charge(tmp_path, provider):
    capabilities = {"direct_paths": "/direct/acme/**"}, {"models": "acme/gpt*", "quotas": [{"bucket": "daily"}]}
    async with gate(tmp_path, {"acme": plain(provider.url)}, grants=grants(*capabilities), more=QUOTA) as gw:
        refused = await gw.post("/direct/acme/v1/images", {"prompt": "cat"})
        assert refused.status == 429
        assert 'quota "daily" cannot be charged' in (await refused.json())["error"]["message"]
        assert (await gw.get("/direct/acme/v1/files")).status == 200
        provider.reply = whole(
            json.dumps(
                {"model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 10}}
            ).encode()
        )
        assert (await gw.post("/direct/acme/v1/chat/completions", CHAT)).status == 200
        images, read, charged = await gw.calls(3)
    assert charged["charges_usd"] == {"daily": charged["cost_usd"]}
    assert (read["charges_usd"], images["outcome"], images["error"]) == ({}, "refused", "quota")
    assert len(provider.seen) == 2


async def test_a_quota_that_only_notifies_lets_it_pass(tmp_path, provider):
    capabilities = {"direct_paths": "/direct/acme/**"}, {"quotas": [{"bucket": "daily"}]}
    more = {"quotas": {"daily": {**QUOTA["quotas"]["daily"], "on_exceed": "notify"}}}
    async with gate(tmp_path, {"acme": plain(provider.url)}, grants=grants(*capabilities), more=more) as gw:
        assert (await gw.post("/direct/acme/v1/images", {"prompt": "cat"})).status == 200
        (call,) = await gw.calls()
    assert (call["charges_usd"], call["cost_usd"]) == ({}, None)


async def test_a_rate_limit_counts_requests(tmp_path, provider):
    limit = {"direct_paths": "/direct/acme/**"}, {"rate_limits": [{"requests": "2/hour"}, {"tokens": "10/hour"}]}
    async with gate(tmp_path, {"acme": plain(provider.url)}, grants=grants(*limit)) as gw:
        statuses = [(await gw.post("/direct/acme/v1/files", b"x" * 10_000)).status for _ in range(3)]
    assert statuses == [200, 200, 429]


async def test_a_request_can_be_too_large(tmp_path, provider):
    limits = {"limits": {"body_bytes": 2048}}
    async with gate(tmp_path, {"acme": plain(provider.url)}, server=limits) as gw:
        assert (await gw.post("/direct/acme/v1/files", b"x" * 3000)).status == 413
    assert provider.seen == []


async def test_server_sent_events_are_not_delayed(gw, provider):
    parts = [b"event: a\n", b"data: 1\n\n", b"data: [DONE]\n\n"]
    provider.reply = in_chunks(parts, "Content-Type: text/event-stream")
    assert (await gw.post("/direct/acme/v1/anything", b"")).body == b"".join(parts)
