"""Tests of providers whose replies have a success status, but a body that does not have the API's format. Every
conversion is tried, streamed and not.

Sources of the bodies: zed-industries/zed#45761 (`msg`), azrtydxb/Fastllm-proxy#28 (`error` under 200),
pydantic/pydantic-ai#6885 (`choices` of null), hugalafutro/model-hotel#821 (no JSON under 200).
"""

import asyncio
import gzip
import json
from contextlib import asynccontextmanager

import pytest

from gateway.testkit import scenarios
from gateway.testkit.render.dialects import rendered
from gateway.testkit.scenarios import Canned, Tokens
from tests.helpers.fold import fold, read_stream
from tests.helpers.gateway import bedrock, gate
from tests.helpers.wires import PROVIDERS, WIRES, framed, line, wires

HTML = "text/html; charset=utf-8"
SSE = "text/event-stream"
EVENTS = "application/vnd.amazon.eventstream"
PAGE = b"<!DOCTYPE html><html><head><title>Sign in to Example</title></head><body><p>x</p></body></html>"
BROKEN = {
    # case: (body, content type, provider's words that the client gets, status for the error class that the body names)
    "a page": (PAGE, HTML, "Sign in to Example", 502),
    "a page as json": (PAGE, "application/json", "Sign in to Example", 502),
    "nothing": (b"", "application/json", "", 502),
    "blanks": (b" \r\n ", "application/json", "", 502),
    "a brace": (b"{", "application/json", "", 502),
    "no member": (b"{}", "application/json", "", 502),
    "an empty list": (b"[]", "application/json", "", 502),
    "null": (b"null", "application/json", "", 502),
    "a number": (b"12", "application/json", "", 502),
    "text": (b"upstream connect error", "text/plain", "upstream connect error", 502),
    "compressed": (gzip.compress(b"{}"), "application/json", "", 502),
    "an error": (b'{"error": {"message": "it broke", "type": "server_error"}}', "application/json", "it broke", 502),
    "an error behind its id": (b'{"id": 1, "error": {"message": "it broke"}}', "application/json", "it broke", 502),
    "an error as text": (b'{"error": "it broke"}', "application/json", "it broke", 502),
    "an error of messages": (
        b'{"type": "error", "error": {"type": "api_error", "message": "it broke"}}',
        "application/json", "it broke", 502,
    ),
    "an error with a number": (b'{"error": {"message": "slow down", "code": 429}}', "application/json", "slow", 429),
    "an error of vllm": (
        b'{"object": "error", "message": "it broke", "code": 500}', "application/json", "it broke", 502,
    ),
    "msg": (b'{"code": 500, "msg": "404 NOT_FOUND", "success": false}', "application/json", "404 NOT_FOUND", 502),
    "details": (
        b'{"detail": [{"loc": ["body", "x"], "msg": "field required", "type": "missing"}]}',
        "application/json", "field required", 502,
    ),
    "base_resp": (
        b'{"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}',
        "application/json", "insufficient balance", 502,
    ),
    "errors": (b'{"errors": [{"message": "it broke"}]}', "application/json", "it broke", 502),
    "lines of json": (b'{"done": false}\n{"done": true}\n', "application/x-ndjson", "", 502),
}  # fmt: skip
NATIVE = [wire for wire in WIRES if wire.client == wire.provider]


def hello(wire):
    return wire.say.body(wire.say.user(wire.say.text("Hi")))


def message_in(wire, body):
    """Return the message of an error, from the field in which the client's SDK looks for it."""
    error = json.loads(body)
    if wire.client.startswith("bedrock_"):
        return error["message"]
    if wire.client == "anthropic_messages":
        assert error["type"] == "error"
    return error["error"]["message"]


@wires()
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_body_that_is_no_reply_is_an_error_with_its_words(wire, stream, tmp_path):
    async with line(wire, tmp_path) as opened:
        for case, (body, content_type, words, status) in BROKEN.items():
            opened.simulated.script(scenarios.raw(body, content_type))
            reply = await opened.post(hello(wire), stream=stream)
            assert (case, reply.status) == (case, status), reply.body
            assert words in message_in(wire, reply.body), case
        records = await opened.gw.calls(len(BROKEN))
    assert {record["outcome"] for record in records} == {"failed"}
    assert {record["error"] for record in records} == {"upstream", "rate_limit"}
    assert "Sign in to Example" in records[0]["error_message"]


REPLY = Canned(("Hi",), tokens=Tokens(7, 5))


@wires()
async def test_a_whole_reply_in_place_of_a_stream_is_an_error_and_counted(wire, tmp_path):
    _, whole = rendered(wire.upstream, REPLY)
    async with line(wire, tmp_path) as opened:
        opened.simulated.script(scenarios.raw(json.dumps(whole).encode()))
        reply = await opened.post(hello(wire), stream=True)
        assert (reply.status, "with a body that is none" in message_in(wire, reply.body)) == (502, True)
        (record,) = await opened.gw.calls()
    assert (record["error"], record["tokens"]["input"], record["tokens"]["output"]) == ("upstream", 7, 5)


@wires()
async def test_a_stream_in_place_of_a_whole_reply_is_an_error_and_counted(wire, tmp_path):
    """Check that the client gets an error 502 if it asked for an unstreamed reply and the provider sends a stream.

    The gateway recognises the stream by its text, and records the token counts in it.
    """
    events, _ = rendered(wire.upstream, REPLY)
    data, content_type = framed(wire.provider, events)
    async with line(wire, tmp_path) as opened:
        opened.simulated.script(scenarios.raw(data, content_type))
        reply = await opened.post(hello(wire), stream=False)
        assert (reply.status, "[" in message_in(wire, reply.body)) == (502, False)
        (record,) = await opened.gw.calls()
    counted = (0, 0) if wire.provider.startswith("bedrock_") else (7, 5)
    assert (record["error"], record["tokens"]["input"], record["tokens"]["output"]) == ("upstream", *counted)


TYPES = ("application/json", "text/plain", "text/html", SSE, EVENTS, "application/octet-stream")


@wires()
async def test_a_right_body_under_a_wrong_type_is_taken(wire, tmp_path):
    events, whole = rendered(wire.upstream, REPLY)
    data, right = framed(wire.provider, events)
    async with line(wire, tmp_path) as opened:
        for content_type in TYPES:
            opened.simulated.script(scenarios.raw(json.dumps(whole).encode(), content_type))
            reply = await opened.post(hello(wire), stream=False)
            assert (content_type, reply.status, reply.headers["content-type"][:16]) == (
                content_type, 200, "application/json",
            ), reply.body  # fmt: skip
        for content_type in TYPES if right == SSE else ():
            opened.simulated.script(scenarios.raw(data, content_type))
            reply = await opened.post(hello(wire), stream=True)
            if content_type != "text/html":
                assert (content_type, reply.status) == (content_type, 200), reply.body
                fold(wire.say.dialect, read_stream(reply.body, reply.headers["content-type"]))


UNUSUAL = {
    # flag: replies of compatible servers that lack members, or have more
    "openai_chat": (
        {"choices": [{"message": {"content": "Hi"}}]},
        {"choices": []},
        {"choices": [{"message": {"role": "assistant", "content": None}, "finish_reason": "stop"}], "error": None},
        {"object": "chat.completion", "choices": [{"message": {"content": "Hi"}}], "usage": None, "extra": {"a": 1}},
    ),
    "openai_responses": (
        {"output": []},
        {"object": "response", "status": "failed", "output": [], "error": {"code": "server_error", "message": "no"}},
        {"object": "response", "status": "queued"},
    ),
    "anthropic_messages": (
        {"content": []},
        {"content": [{"type": "text", "text": "Hi"}], "stop_reason": None, "base_resp": {"status_code": 0}},
    ),
    "bedrock_model_invoke": ({"content": []}, {"type": "message", "content": [], "usage": {}}),
    "bedrock_converse": (
        {"output": {"message": {"role": "assistant", "content": []}}},
        {"output": {"message": {"content": [{"text": "Hi"}]}}, "extra": [1.0]},
    ),
}


@pytest.mark.parametrize("wire", NATIVE, ids=[wire.provider for wire in NATIVE])
async def test_an_unusual_reply_of_the_dialect_passes_unchanged(wire, tmp_path):
    async with line(wire, tmp_path) as opened:
        for reply in UNUSUAL[wire.provider]:
            data = json.dumps(reply, indent=2).encode()
            opened.simulated.script(scenarios.raw(data))
            answer = await opened.post(hello(wire), stream=False)
            assert (answer.status, answer.body) == (200, data)
        records = await opened.gw.calls(len(UNUSUAL[wire.provider]))
    assert {record["outcome"] for record in records} == {"ok"}


BOOKS = {"openai": "openai", "anthropic": "anthropic", "bedrock": "bedrock-us"}


@asynccontextmanager
async def raw_server(*replies):
    """Yield the URL of a server that answers each request with the next of `replies`, and then closes the
    connection.
    """
    waiting = list(replies)

    async def serve(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
        writer.write(waiting.pop(0))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@wires()
async def test_a_whole_reply_cut_anywhere_is_an_error_and_estimated(wire, tmp_path):
    """Check that the client gets an error 502 if a provider's body is truncated, and that the cost is an estimate.

    The body is sent without a length, with a `Content-Length`, or in chunks. A body that is not gzip, although its
    header says so, is tried too.
    """
    _, whole = rendered(wire.upstream, REPLY)
    body = json.dumps(whole).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    cuts = [1, len(body) // 3, len(body) - 1]
    replies = [head + b"Connection: close\r\n\r\n" + body[:cut] for cut in cuts]
    replies += [head + b"Content-Length: %d\r\n\r\n" % len(body) + body[:cut] for cut in cuts]
    replies += [head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body) + body[:cut] for cut in cuts]
    replies += [head + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body]
    model = PROVIDERS[wire.provider][1]
    async with raw_server(*replies) as url:
        provider = bedrock(
            url, models=[model], flags=[wire.provider], cost_basis=BOOKS[wire.provider.partition("_")[0]]
        )
        async with gate(tmp_path, {wire.provider: provider}) as gw:
            for number in range(len(replies)):
                request = hello(wire)
                request = {**request, "model": model} if "model" in request else request
                reply = await gw.post(wire.say.path(model, stream=False), request)
                assert (number, reply.status) == (number, 502), reply.body
                assert message_in(wire, reply.body)
            records = await gw.calls(len(replies))
    assert {record["error"] for record in records} == {"upstream"}
    assert {record["estimated"] for record in records} == {True}
    assert {record["attempts"] for record in records} == {1}
