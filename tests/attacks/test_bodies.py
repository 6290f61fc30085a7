"""Tests of request bodies that two JSON parsers may interpret differently.

The gateway either answers with an error, in the format of the client's API, or forwards a body that has the same
meaning for every parser.
"""

import json

import pytest

from gateway.testkit.openai import OpenAISim
from tests.helpers.gateway import HAIKU, KEY, NOVA, SONNET, bedrock, gate
from tests.helpers.hostile_http import (
    CHAT,
    CLAUDE,
    CONVERSE,
    MESSAGES,
    connected,
    crashes,
    post,
    request,
)

DEEP = 100_000
ROUTES = {
    "/v1/chat/completions": CHAT,
    "/v1/messages": MESSAGES,
    "/v1/messages/count_tokens": MESSAGES,
    f"/bedrock/model/{HAIKU}/converse": CONVERSE,
    f"/bedrock/model/{HAIKU}/invoke": CLAUDE,
    f"/model/{NOVA}/count-tokens": {"input": {"converse": CONVERSE}},
}
NO_OBJECTS = [
    b"", b" ", b"[]", b'"x"', b"null", b"7", b"{", b"}", b"{}}", b"{'model':'m'}", b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}",
    b"{} trailing", b"{}{}", b"{,}", b'{"a":1,}', b'{"a" 1}', b'{"a":1 "b":2}', b"{a:1}", b'{"a":}', b'/**/{"a":1}',
    b'{"a":1}//', b'{"\xff":1}', b'{"a":01}', b'{"a":+1}', b'{"a":.5}', b'{"a":0x10}', b'{"a":"\x01"}',
    b'{"a":' + b"[" * DEEP + b"]" * DEEP + b"}", b'{"a":' * DEEP + b"1" + b"}" * DEEP, b"[" * DEEP,
]  # fmt: skip


@pytest.fixture
async def gated(tmp_path, bedrock_sim):
    async with OpenAISim(keys={KEY}) as chats:
        others = {"baseurl": chats.url, "apikey": KEY, "models": ["m", "n"]}
        providers = {"b": bedrock(bedrock_sim.url), "o": others}
        async with gate(tmp_path, providers) as running:
            running.chats = chats
            yield running


async def sent(gated, path, body):
    raw = await connected(gated)
    raw.writer.write(request(f"POST {path} HTTP/1.1", f"Content-Length: {len(body)}", body=body))
    status, _, answer = await raw.reply()
    await raw.close()
    return status, json.loads(answer)


def with_member(body, text):
    """Return a body as JSON text, with a member inserted before all its other members."""
    return f"{{{text},{json.dumps(body)[1:]}".encode()


async def test_what_is_no_object_is_refused_on_every_route_and_reaches_nobody(gated, bedrock_sim):
    for path in ROUTES:
        for body in NO_OBJECTS:
            status, answer = await sent(gated, path, body)
            assert status == 400, (path, body[:50])
            assert answer.get("message") or answer["error"]["message"]
    assert bedrock_sim.requests + gated.chats.requests == []
    assert crashes(gated) == []


@pytest.mark.parametrize(
    "text",
    [
        f'"model":"{SONNET}"',
        f'"model":"{HAIKU}"',
        f'"mod\\u0065l":"{SONNET}"',
        f'"\\u006dodel":"{SONNET}"',
        f'"\\u006D\\u006F\\u0064\\u0065\\u006C":"{SONNET}"',
        '"model":null',
        f'"Model":"{SONNET}"',
        f'"MODEL":"{SONNET}"',
        f'"mOdel":"{SONNET}"',
        f'"\\u004dodel":"{SONNET}"',
        '"stream":true,"stream":false',
    ],
)
async def test_a_second_model_is_refused_however_it_is_spelled(gated, bedrock_sim, text):
    for path in ("/v1/chat/completions", "/v1/messages"):
        body = ROUTES[path]
        for data in (with_member(body, text), json.dumps(body)[:-1].encode() + b"," + text.encode() + b"}"):
            assert (await sent(gated, path, data))[0] == 400
    assert bedrock_sim.requests == []


async def test_an_escaped_member_name_is_authorised_and_forwarded(gated):
    """Check that a body is authorised and forwarded even if the letters of the name `model` are escaped.

    If a name occurs only once, its spelling does not matter, because every parser decodes it to the same name.
    """
    messages = json.dumps(CHAT["messages"])
    body = f'{{"mod\\u0065l":"\\u006d","messages":{messages}}}'.encode()
    assert (await sent(gated, "/v1/chat/completions", body))[0] == 200
    body = f'{{"mod\\u0065l":"o/m","messages":{messages}}}'.encode()
    assert (await sent(gated, "/v1/chat/completions", body))[0] == 200
    body = f'{{"mod\\u0065l":"x","messages":{messages}}}'.encode()
    assert (await sent(gated, "/v1/chat/completions", body))[0] == 404
    assert [seen.json["model"] for seen in gated.chats.requests] == ["m", "m"]
    assert [record["model"] for record in await gated.calls(3)] == ["m", "m", "x"]


@pytest.mark.parametrize("value", [b"null", b"7", b"true", b"[]", b'["m"]', b'{"id":"m"}', b'""'])
async def test_a_model_that_is_no_name_is_refused(gated, value):
    body = b'{"model":' + value + b',"messages":[]}'
    assert (await sent(gated, "/v1/chat/completions", body))[0] == 400
    assert gated.chats.requests == []


async def test_half_a_character_is_the_name_of_no_model(gated):
    body = b'{"model":"\\ud800","messages":[]}'
    assert (await sent(gated, "/v1/chat/completions", body))[0] == 404
    assert gated.chats.requests == []


NUMBERS = [
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"9" * 400, b"-" + b"9" * 400, b"1e-400",
    b"18446744073709551616", b"0." + b"1" * 5000,
]  # fmt: skip


async def test_numbers_that_no_machine_holds_crash_nothing(gated, bedrock_sim):
    for path, body in ROUTES.items():
        for number in NUMBERS:
            for name in (b"max_tokens", b"temperature", b"unknown"):
                clean = json.dumps({key: value for key, value in body.items() if key != "max_tokens"}).encode()
                data = b'{"' + name + b'":' + number + b"," + clean[1:]
                status, _ = await sent(gated, path, data)
                assert status in {200, 400}, (path, number[:20], name)
                assert status == 400 or number[:3] not in {b"NaN", b"Inf", b"-In"}
    assert crashes(gated) == []
    assert bedrock_sim.requests
    assert {seen.body[:1] for seen in bedrock_sim.requests} == {b"{"}


async def test_a_refused_model_is_not_taken_from_headers_or_queries(gated, bedrock_sim):
    """Check that headers and queries cannot select a model if the body names a refused model.

    Other proxies let clients select a model by these headers and queries.
    """
    headers = [f"{name}: {HAIKU}" for name in ("X-Model", "X-Model-Id", "OpenAI-Model", "X-Irisgate-Model")]
    for path, body in (("/v1/chat/completions", CHAT), ("/v1/messages", MESSAGES)):
        for model in ({}, {"model": "nobodys"}):
            request = {**{name: value for name, value in body.items() if name != "model"}, **model}
            raw = await connected(gated)
            raw.writer.write(post(f"{path}?model={HAIKU}", request, *headers))
            assert (await raw.reply())[0] == (404 if model else 400)
            await raw.close()
    assert bedrock_sim.requests == []


async def test_deeply_nested_members_crash_nothing(gated):
    """Check that deeply nested fields cause no crash.

    The test nests `messages`, because the gateway does not decode this field in every request.
    """
    text = b'[{"role":"user","content":' * 480 + b'"x"' + b"}]" * 480
    for path, body in ROUTES.items():
        data = json.dumps({**body, "messages": 0}).encode().replace(b'"messages": 0', b'"messages":' + text)
        status, _ = await sent(gated, path, data)
        assert status in {200, 400}, path
    assert crashes(gated) == []
