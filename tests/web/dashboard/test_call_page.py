"""Tests of the page of a call: the conversation in every API, who may read it, the grant that allowed the call, and the
computation of each part of the cost.
"""

import base64
import json
import re
from dataclasses import replace
from html import unescape
from urllib.parse import quote

import pytest

from gateway.call.context import GATEWAY
from gateway.contract.facts import Part, Usage
from gateway.contract.record import Tried
from gateway.store.captured import CapturedBodies, CapturedBody
from gateway.testkit import scenarios
from tests.end_to_end.test_bodies import BOSS, OTHER, bodies, capturing
from tests.end_to_end.test_bodies import USER as CALLER
from tests.helpers.gateway import HAIKU, NOVA
from tests.helpers.records import record
from tests.web.dashboard.application import ADMIN, CONFIG, USER
from tests.web.dashboard.test_config_page import seen

NASTY = "<img src=x onerror=alert(1)>\u202e"
WORDS = "Is it warm in Rome?"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = scenarios.Tool("get_weather", {"city": "Rome"})
CHAT = {
    "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": WORDS}],
    "tools": [{"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}],
}
RESPONSES = {
    "instructions": "Be short.", "input": WORDS,
    "tools": [{"type": "function", "name": "get_weather", "parameters": SCHEMA}],
}  # fmt: skip
MESSAGES = {
    "max_tokens": 99, "system": "Be short.", "messages": [{"role": "user", "content": WORDS}],
    "tools": [{"name": "get_weather", "input_schema": SCHEMA}],
}  # fmt: skip
CONVERSE = {
    "system": [{"text": "Be short."}], "messages": [{"role": "user", "content": [{"text": WORDS}]}],
    "toolConfig": {"tools": [{"toolSpec": {"name": "get_weather", "inputSchema": {"json": SCHEMA}}}]},
}  # fmt: skip
GEMINI = {
    "systemInstruction": {"parts": [{"text": "Be short."}]}, "contents": [{"role": "user", "parts": [{"text": WORDS}]}],
    "tools": [{"functionDeclarations": [{"name": "get_weather", "parameters": SCHEMA}]}],
}  # fmt: skip
GEMINI_PATH = f"/v1beta/models/{quote(NOVA, safe='')}"
CALLS = {
    "chat": ("/v1/chat/completions", {"model": NOVA, **CHAT}),
    "chat streamed": ("/v1/chat/completions", {"model": NOVA, "stream": True, **CHAT}),
    "responses": ("/v1/responses", {"model": NOVA, **RESPONSES}),
    "responses streamed": ("/v1/responses", {"model": NOVA, "stream": True, **RESPONSES}),
    "messages": ("/v1/messages", {"model": HAIKU, **MESSAGES}),
    "messages streamed": ("/v1/messages", {"model": HAIKU, "stream": True, **MESSAGES}),
    "converse": (f"/bedrock/model/{NOVA}/converse", CONVERSE),
    "converse streamed": (f"/bedrock/model/{NOVA}/converse-stream", CONVERSE),
    "invoke": (f"/bedrock/model/{HAIKU}/invoke", {"anthropic_version": "bedrock-2023-05-31", **MESSAGES}),
    "invoke streamed": (
        f"/bedrock/model/{HAIKU}/invoke-with-response-stream", {"anthropic_version": "bedrock-2023-05-31", **MESSAGES},
    ),
    "gemini": (f"{GEMINI_PATH}:generateContent", GEMINI),
    "gemini streamed": (f"{GEMINI_PATH}:streamGenerateContent?alt=sse", GEMINI),
    "gemini streamed as an array": (f"{GEMINI_PATH}:streamGenerateContent", GEMINI),
}  # fmt: skip


def talk(html):
    """Return the pieces of the conversation on a page, as pairs of author and text."""
    pieces = re.findall(r'<li class="(?:system|user|assistant|tool|other)">(.*?)</li>', html, re.DOTALL)
    return [
        tuple(
            " ".join(unescape(re.sub(r"<[^>]+>", " ", part)).split())
            for part in re.search(
                r'<p class="who">(.*?)</p>.*?<div class="said[^>]*>(.*?)</div>', piece, re.DOTALL
            ).groups()
        )
        for piece in pieces
    ]


async def test_a_call_of_every_api_is_shown_as_a_conversation(tmp_path, bedrock_sim):
    bedrock_sim.default = scenarios.tools(TOOL, before="Let me look.")
    wrong = {}
    async with capturing(tmp_path, bedrock_sim) as gw:
        for name, (path, body) in CALLS.items():
            reply = await gw.post(path, body)
            assert reply.status == 200, (name, await reply.text())
            await reply.read()
            call = reply.headers["x-request-id"]
            await bodies(gw, call)
            html = await (await gw.get(f"/ui/calls?id={call}")).text()
            pieces = [(who, json.loads(text) if "calls" in who else text) for who, text in talk(html)]
            expected = [
                ("System", "Be short."), ("User", WORDS), ("Model", "Let me look."),
                ("Model calls get_weather", {"city": "Rome"}),
            ]  # fmt: skip
            if pieces != expected:
                wrong[name] = pieces
            assert "The request as it was sent" in html
    assert wrong == {}


async def test_thinking_and_results_of_tools_are_folded(tmp_path, bedrock_sim):
    bedrock_sim.default = scenarios.NAMED["thinking"]
    turns = [
        {"role": "user", "content": WORDS},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "get_weather", "input": {"city": "Rome"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "31 degrees"}]},
    ]  # fmt: skip
    body = {"model": HAIKU, **MESSAGES, "messages": turns, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    async with capturing(tmp_path, bedrock_sim) as gw:
        for stream in (False, True):
            reply = await gw.post("/v1/messages", {**body, "max_tokens": 2000, "stream": stream})
            assert reply.status == 200, await reply.text()
            call = reply.headers["x-request-id"]
            await bodies(gw, call)
            html = await (await gw.get(f"/ui/calls?id={call}")).text()
            assert talk(html)[2:] == [
                ("Model calls get_weather", '{"city":"Rome"}'), ("Result of a tool", "31 degrees"),
                ("Model", "Six times seven is forty-two."), ("Model", "Forty-two."),
            ]  # fmt: skip
            assert re.findall(r"<summary>(\w+[^<]*?) *<span", html) == ["Be short.", "31 degrees", "Thinking"]


async def test_an_admin_reads_what_others_said_only_by_asking_and_it_is_logged(tmp_path, bedrock_sim):
    async with capturing(tmp_path, bedrock_sim) as gw:
        path, body = CALLS["chat"]
        boss, other = (url + path for url in gw.running.urls[1:3])
        async with gw.session.post(other, json=body) as reply:
            assert reply.status == 200
            call = reply.headers["x-request-id"]
        page = boss.removesuffix(path) + f"/ui/calls?id={call}"
        html = ""
        while "Read them" not in html:
            html = await (await gw.session.get(page)).text()
        assert WORDS not in html
        assert not gw.lines.entries("bodies.read")
        (link,) = re.findall(r'href="([^"]*)">Read them', html)
        html = await (await gw.session.get(boss.removesuffix(path) + unescape(link))).text()
        assert ("User", WORDS) in talk(html)
        (entry,) = await gw.lines.until("bodies.read")
        assert (entry["identity"], entry["by"]) == (OTHER, BOSS)
        # a third person neither sees the call nor its bodies
        async with gw.session.get(gw.url + f"/ui/calls?id={call}&bodies=1") as reply:
            assert (reply.status, WORDS in await reply.text()) == (404, False)
        assert CALLER != OTHER


def stored(call, request, reply, *, cut=False, content_type="application/json"):
    headers = {"content-type": content_type}
    return CapturedBodies(
        call, USER, 0.0, CapturedBody(headers, request, cut=cut), CapturedBody(headers, reply, cut=cut)
    )


@pytest.mark.parametrize(
    ("request_body", "reply", "cut", "shown"),
    [
        (b'{"messages": [{"role": "user", "content": "hi', b"", True, []),
        (b"\xff\xfe", b"\x00\x01", False, []),
        (
            b'{"messages": [{"role": "user", "content": "hi"}]}',
            b'data: {"choices": [{"index": 0, "delta": {"content": "half an ans"}}]}\n\ndata: {"choi', True,
            [("User", "hi"), ("Model", "half an ans")],
        ),
        (
            json.dumps({"messages": [{"role": "user", "content": "<img src=x onerror=alert(1)>\u202e"}]}).encode(), b"[]",
            False, [("User", "<img src=x onerror=alert(1)>\u202e")],
        ),
    ],
)  # fmt: skip
async def test_bodies_that_are_cut_or_odd_are_shown_as_far_as_they_go(
    store, client, get, request_body, reply, cut, shown
):
    store.put(record(id="c1", identity=USER, api="openai_chat", stream=True))
    await store.flush()
    client.app[GATEWAY].bodies.calls["c1"] = stored(
        "c1", request_body, reply, cut=cut, content_type="text/event-stream"
    )
    _, html = await get("/ui/calls?id=c1")
    assert talk(html) == shown
    assert "<img" not in html
    assert ("its beginning" in html) == cut
    if not shown:
        assert "No text was found in the bodies." in html
    if request_body == b"\xff\xfe":
        assert base64.b64encode(request_body).decode() in html


async def test_bodies_of_an_api_that_is_gone_are_shown_raw(store, client, get):
    store.put(record(id="c1", identity=USER, api="acme_text"))
    await store.flush()
    client.app[GATEWAY].bodies.calls["c1"] = stored("c1", b'{"prompt": "hi"}', b"{}")
    _, html = await get("/ui/calls?id=c1")
    assert (talk(html), "&#34;prompt&#34;: &#34;hi&#34;" in html) == ([], True)


async def test_the_page_names_the_grant(store, get):
    store.put(record(id="c1", identity=USER, provider="bedrock", model=HAIKU))
    store.put(record(id="c2", identity=USER, provider="lab", model="tiny"))
    await store.flush()
    page = seen((await get("/ui/calls?id=c1", ADMIN))[1])
    assert f"Grant bedrock/{HAIKU}" in page
    assert "charged to daily:<user>, team" in page
    assert f"Grant bedrock/{HAIKU}" in seen((await get("/ui/calls?id=c1"))[1])
    page = seen((await get("/ui/calls?id=c2", ADMIN))[1])
    assert "Grant none in the present configuration Grants of the tailnet policy are known only" in page


async def test_each_part_of_a_cost_is_computed_apart(store, client, get):
    priced = client.app[GATEWAY].runtime.prices.of(
        client.app[GATEWAY].runtime.config.providers["bedrock"], HAIKU
    )  # fmt: skip
    usages = Usage(input=1000, output=200), Usage(input=50_000, output=3_000, cache_read=10)
    parts = tuple(Part(usage=usage, kind=kind) for usage, kind in zip(usages, ("message", "compaction"), strict=True))
    costs = [priced.cost(usage) for usage in usages]
    whole = Usage(input=51_000, output=3_200, cache_read=10)
    made = {"identity": USER, "provider": "bedrock", "model": HAIKU, "served_model": "", "usage": whole}
    row = priced.row(0.0)
    store.put(record(id="c1", parts=parts, cost=sum(costs), cost_basis=row, **made))
    store.put(record(id="c2", parts=parts, cost=sum(costs) + 1, cost_basis=row, **made))
    store.put(record(id="c3", cost=priced.cost(whole), cost_basis=row, **{**made, "served_model": HAIKU}))
    await store.flush()
    page = seen((await get("/ui/calls?id=c1"))[1])
    assert f"Message by {HAIKU}" in page
    assert f"Compaction by {HAIKU}" in page
    assert "Fresh input 50,000" in page
    assert page.count("Sum of this part") == 2
    assert "does not lead to this amount" in seen((await get("/ui/calls?id=c2"))[1])
    page = seen((await get("/ui/calls?id=c3"))[1])
    assert "Fresh input 51,000" in page
    assert "Sum of this part" not in page


async def test_the_attempts_of_a_call_are_a_table_and_their_costs_add_up(store, client, get):
    gateway = client.app[GATEWAY]
    priced = gateway.runtime.prices.of(gateway.runtime.config.providers["bedrock"], HAIKU)
    usage = Usage(input=1000, output=200)
    tried = (
        Tried(provider="lab", model=NASTY, status=503, error="overloaded", error_native=NASTY, cost=70, duration_ms=12.0),
        Tried(provider="old", model="x", error="unavailable", error_native="tls", cost=0, duration_ms=3000.0),
        Tried(provider="bedrock", model=HAIKU, status=200, cost=priced.cost(usage), duration_ms=900.0),
    )  # fmt: skip
    store.put(
        record(
            id="c1", identity=USER, provider="bedrock", model=HAIKU, usage=usage, tried=tried, attempts=3,
            cost=priced.cost(usage) + 70, cost_basis=f"lab/other, {priced.row(0.0)}", served_model="",
        )
    )  # fmt: skip
    await store.flush()
    _, html = await get("/ui/calls?id=c1")
    page = seen(html)
    assert "<img" not in html
    assert f"1 lab {NASTY} 503 overloaded: {NASTY} 12 ms < $0.0001" in page
    assert "2 old x no reply unavailable: tls 3.0 s $0.00" in page
    assert f"3 bedrock {HAIKU} 200 served 900 ms" in page
    assert "Earlier attempts $0.000000070" in page


async def test_fees_beyond_tokens_have_a_line(store, client, get):
    gateway = client.app[GATEWAY]
    provider = replace(gateway.runtime.config.providers["bedrock"], cost_basis="anthropic")
    gateway.runtime.config = replace(CONFIG, providers={**CONFIG.providers, "bedrock": provider})
    model = "claude-haiku-4-5"
    priced = gateway.runtime.prices.of(provider, model)
    usage, extra = Usage(input=1000, output=200), {"web_search": 3}
    fees = priced.cost(usage, extra=extra) - priced.cost(usage)
    assert fees > 0
    store.put(
        record(
            id="c1", identity=USER, provider="bedrock", model=model, served_model=model, usage=usage, extra=extra,
            cost=priced.cost(usage, extra=extra), cost_basis=priced.row(0.0),
        )
    )  # fmt: skip
    await store.flush()
    assert f"Tools, media and factors – – ${fees / 1e9:g} " in seen((await get("/ui/calls?id=c1"))[1])
