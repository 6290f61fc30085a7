"""Tests of providers with several keys: which key serves a call, and what is reported about a key that cannot serve
calls.

The answer of the simulated provider depends on the key in the request.
"""

import asyncio
import json
import random

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.helpers.gateway import gate
from tests.helpers.waiting import eventually

KEYS = {"team-a": "sk-first-key-of-the-pool-0001", "team-b": "sk-second-key-of-the-pool-0002"}
"""The provider's keys, by their names in the configuration."""
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
REPLY = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o",
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}  # fmt: skip


class ByKey:
    """A provider whose reply depends on the key in the request."""

    def __init__(self):
        self.faults = {}
        """The refusal of each refused key, by the key's name: a status, or a pair of a status and headers."""
        self.names = {key: name for name, key in KEYS.items()}
        """The names of the keys that the provider accepts, by the key."""
        self.seen = []
        """The names of the keys of all requests, in their order."""
        self.passes = asyncio.Event()
        self.passes.set()
        self.url = ""

    async def handle(self, request):
        key = request.headers["authorization"].removeprefix("Bearer ")
        name = self.names[key]
        self.seen.append(name)
        await self.passes.wait()
        fault = self.faults.get(name)
        if fault is None:
            return await self.served(request, " ".join(KEYS.values()) if name in KEYS else "hi")
        status, headers = fault if isinstance(fault, tuple) else (fault, {})
        body = {"error": {"message": f"no service with {key} and {' '.join(KEYS.values())}", "type": "refused"}}
        return web.json_response(body, status=status, headers=headers)

    async def served(self, request, keys):
        """Return a reply with the text `keys`. A streamed reply divides the text between two events."""
        if not (await request.json()).get("stream"):
            message = {"role": "assistant", "content": keys}
            return web.json_response({**REPLY, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
        pieces = [{"content": keys[:40]}, {"content": keys[40:]}, {}]
        chunks = [
            {
                **REPLY,
                "object": "chat.completion.chunk",
                "choices": [{"index": 0, "delta": piece, "finish_reason": None}],
            }
            for piece in pieces
        ]
        chunks[-1]["choices"][0]["finish_reason"] = "stop"
        text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
        return web.Response(text=text, content_type="text/event-stream")


@pytest.fixture
async def by_key():
    provider = ByKey()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", provider.handle)
    server = TestServer(app)
    await server.start_server()
    provider.url = str(server.make_url("")).rstrip("/")
    yield provider
    await server.close()


def pooled(url, **more):
    return {"baseurl": url, "apikeys": KEYS, "models": ["gpt-4o"], "cost_basis": "openai", **more}


async def ask(gw, count=1, *, stream=False, **more):
    """Make `count` calls one after the other, and return the statuses of the replies. Each call has another prompt, so
    each is in a new session.

    Check also that no reply has a key.
    """
    statuses = []
    for number in range(count):
        chat = {**CHAT, "messages": [{"role": "user", "content": f"hello {number} {more}"}], "stream": stream}
        reply = await gw.post("/v1/chat/completions", chat)
        text = await reply.text()
        assert not any(key in text for key in KEYS.values())
        statuses.append(reply.status)
    return statuses


async def test_calls_use_the_keys_by_turns(tmp_path, by_key):
    async with gate(tmp_path, {"pool": pooled(by_key.url)}) as gw:
        assert await ask(gw, 4) == [200] * 4
    assert by_key.seen == ["team-a", "team-b"] * 2


@pytest.mark.parametrize("fault", [429, 401, 402, 403])
async def test_a_throttled_or_refused_key_leaves_the_call_to_another(tmp_path, by_key, fault):
    by_key.faults["team-a"] = fault
    async with gate(tmp_path, {"pool": pooled(by_key.url)}) as gw:
        assert await ask(gw, 3) == [200] * 3
        assert by_key.seen == ["team-a", "team-b", "team-b", "team-b"]
        first, *others = await gw.calls(3)
        assert [(one["key"], bool(one["error"])) for one in first["tried"]] == [("team-a", True), ("team-b", False)]
        assert [call["tried"] for call in others] == [[], []]
        (failed,) = await gw.lines.until("attempt.failed")
        assert (failed["provider"], failed["key"]) == ("pool", "team-a")
        assert not any(key.encode() in gw.lines.data for key in KEYS.values())


async def test_a_stream_goes_on_with_another_key(tmp_path, by_key):
    by_key.faults["team-a"] = 429
    async with gate(tmp_path, {"pool": pooled(by_key.url)}) as gw:
        assert await ask(gw, stream=True) == [200]
        (call,) = await gw.calls()
    assert by_key.seen == ["team-a", "team-b"]
    assert (call["key"], call["outcome"], call["attempts"]) == ("team-b", "ok", 2)


async def test_records_and_metrics_name_the_key_that_served(tmp_path, by_key):
    by_key.faults["team-a"] = 401
    async with gate(tmp_path, {"pool": pooled(by_key.url)}) as gw:
        await ask(gw, 2)
        calls = await gw.calls(2)
        metrics = await (await gw.get("/metrics")).text()
    assert [call["key"] for call in calls] == ["team-b", "team-b"]
    assert 'irisgate_key_attempts_total{code="ok",key="team-b",provider="pool"} 2.0' in metrics
    assert 'irisgate_key_attempts_total{code="upstream",key="team-a",provider="pool"} 1.0' in metrics
    cost = sum(call["cost_usd"] for call in calls)
    (line,) = [line for line in metrics.splitlines() if line.startswith("irisgate_key_cost_usd_total{")]
    assert 'key="team-b"' in line
    assert float(line.split()[-1]) == pytest.approx(cost)


async def test_no_key_is_in_a_reply_a_record_a_log_or_a_page(tmp_path, by_key):
    chance = random.Random(7)
    answers = [None, None, 429, (429, {"retry-after": "0.01"}), 401, 402, 403, 500, 503, 400]
    pool = pooled(by_key.url, circuit_breaker={"open_seconds": 0.01})
    async with gate(tmp_path, {"pool": pool}, more={"database": {"save_raws": True}}) as gw:
        for number in range(60):
            by_key.faults = {name: chance.choice(answers) for name in KEYS}
            await ask(gw, stream=chance.random() < 0.5, number=number)
        await gw.calls(60)
        await gw.sessions()
        paths = ("/metrics", "/readyz", "/ui/providers", "/ui/errors", "/api/sessions", "/api/providers/health")
        replies = [await gw.get(path) for path in paths]
        shown = [await reply.read() for reply in replies]
        await gw.log_is_written()
        log = gw.lines.data
    assert {reply.status for reply in replies} == {200}
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 1
    for key in KEYS.values():
        assert not any(key.encode() in data for data in (*shown, log, *files))


async def test_a_throttled_key_is_used_again_after_its_rest(tmp_path, by_key):
    by_key.faults["team-a"] = 429, {"retry-after": "0.2"}
    async with gate(tmp_path, {"pool": pooled(by_key.url)}) as gw:
        await ask(gw, 2)
        by_key.faults.clear()
        await asyncio.sleep(0.25)
        await ask(gw, 2, again=True)
    assert by_key.seen == ["team-a", "team-b", "team-b", "team-a", "team-b"]


async def test_if_all_keys_are_throttled_the_next_provider_serves(tmp_path, by_key):
    by_key.faults = dict.fromkeys(KEYS, (429, {"retry-after": "30"}))
    other = {**pooled(by_key.url, preference=-1), "apikeys": {"last": "sk-third-key-of-the-pool-0003"}}
    by_key.names["sk-third-key-of-the-pool-0003"] = "last"
    async with gate(tmp_path, {"pool": pooled(by_key.url), "other": other}) as gw:
        assert await ask(gw, 2) == [200, 200]
        (call,) = [call for call in await gw.calls(2) if call["tried"]]
        (standing, _) = (await (await gw.get("/api/providers/health")).json())["providers"]
    assert by_key.seen == ["team-a", "team-b", "last", "last"]
    assert [one["provider"] for one in call["tried"]] == ["pool", "pool", "other"]
    assert (standing["provider"], standing["cause"]) == ("pool", "throttled")


async def test_if_all_keys_are_throttled_the_client_gets_the_shortest_wait(tmp_path, by_key):
    by_key.faults = {"team-a": (429, {"retry-after": "30"}), "team-b": (429, {"retry-after": "20"})}
    async with gate(tmp_path, {"pool": pooled(by_key.url)}) as gw:
        reply = await gw.post("/v1/chat/completions", CHAT)
        assert (reply.status, reply.headers["retry-after"]) == (429, "20")
        text = await reply.text()
        assert not any(key in text for key in KEYS.values())


async def test_a_refused_key_is_told_by_its_number_and_in_the_log_by_its_name(tmp_path, by_key):
    by_key.faults["team-b"] = 401
    async with gate(tmp_path, {"pool": pooled(by_key.url)}) as gw:
        await ask(gw, 2)
        status, body = await gw.readiness()
        (refused,) = await gw.lines.until("upstream.key_refused")
        page = await (await gw.get("/ui/providers")).text()
    assert (status, body["keys"], body["providers"]) == (200, "refused", "working")
    assert body["problems"][0]["reason"] == "a provider refuses the gateway's key 2 of 2"
    assert (refused["provider"], refused["key"]) == ("pool", "team-b")
    assert "team-b" not in json.dumps(body)
    assert '<code class="name">team-b</code> in <code>"apikeys"</code>' in page
    assert not any(key in page for key in KEYS.values())


async def test_a_probe_takes_a_refused_key_back(tmp_path, by_key):
    by_key.faults["team-a"] = 401
    provider = pooled(by_key.url, circuit_breaker={"open_seconds": 0.2})
    async with gate(tmp_path, {"pool": provider}) as gw:
        await ask(gw, 2)
        by_key.faults.clear()
        await asyncio.sleep(0.25)
        await ask(gw, 2, again=True)
        assert (await gw.readiness())[1]["keys"] == "accepted"
    assert by_key.seen == ["team-a", "team-b", "team-b", "team-a", "team-b"]


async def test_if_all_keys_are_refused_the_provider_rests(tmp_path, by_key):
    by_key.faults = dict.fromkeys(KEYS, 401)
    async with gate(tmp_path, {"pool": pooled(by_key.url)}) as gw:
        assert await ask(gw) == [502]
        (opened,) = await gw.lines.until("circuit.opened")
        _, body = await gw.readiness()
    assert (opened["provider"], opened["cause"]) == ("pool", "key_refused")
    assert body["problems"][0]["reason"] == "a provider refuses the gateway's keys 1 and 2 of 2"


async def test_a_session_stays_at_its_key(tmp_path, by_key):
    async with gate(tmp_path, {"pool": pooled(by_key.url)}) as gw:
        for turns in range(3):
            said = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}] * turns
            await gw.post("/v1/chat/completions", {**CHAT, "messages": [*said, *CHAT["messages"]]})
    assert by_key.seen == ["team-a"] * 3


async def test_calls_in_flight_are_spread_over_the_keys(tmp_path, by_key):
    by_key.passes.clear()
    async with gate(tmp_path, {"pool": pooled(by_key.url)}) as gw:
        calls = [asyncio.create_task(ask(gw, number=number)) for number in range(6)]
        await eventually(lambda: len(by_key.seen) == 6)
        by_key.passes.set()
        assert await asyncio.gather(*calls) == [[200]] * 6
    assert sorted(by_key.seen) == ["team-a"] * 3 + ["team-b"] * 3


async def test_without_failover_another_key_of_the_provider_still_serves(tmp_path, by_key):
    by_key.faults["team-a"] = 429
    async with gate(tmp_path, {"pool": pooled(by_key.url)}, more={"resilience": {"failover": False}}) as gw:
        assert await ask(gw) == [200]
    assert by_key.seen == ["team-a", "team-b"]


async def test_a_mistake_of_the_client_is_tried_with_no_other_key(tmp_path, by_key):
    by_key.faults = dict.fromkeys(KEYS, 400)
    async with gate(tmp_path, {"pool": pooled(by_key.url)}) as gw:
        assert await ask(gw) == [400]
    assert by_key.seen == ["team-a"]


@pytest.mark.parametrize("fault", [401, 429])
async def test_a_clients_own_key_is_exchanged_for_none_of_the_pool(tmp_path, by_key, fault):
    by_key.faults["own"] = fault
    own, provider = "sk-the-clients-own-key-0003", pooled(by_key.url, auth_mode="passthrough")
    by_key.names[own] = "own"
    async with gate(tmp_path, {"pool": provider}) as gw:
        reply = await gw.post("/v1/chat/completions", CHAT, headers={"authorization": f"Bearer {own}"})
        assert reply.status == fault
        assert await ask(gw) == [200]
        (call, _) = await gw.calls(2)
        assert (await gw.readiness())[1]["keys"] == "accepted"
    assert by_key.seen == ["own", "team-a"]
    assert call["key"] == ""


async def test_attempts_with_other_keys_are_limited(tmp_path, by_key):
    by_key.faults = dict.fromkeys(KEYS, 429)
    async with gate(tmp_path, {"pool": pooled(by_key.url)}, more={"resilience": {"max_attempts": 1}}) as gw:
        assert await ask(gw) == [429]
    assert by_key.seen == ["team-a"]
