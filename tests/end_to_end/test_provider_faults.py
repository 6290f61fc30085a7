"""Tests of a provider that refuses the gateway's key or cannot be reached: the client's error, and the record."""

import asyncio
import json
import socket
from contextlib import contextmanager

import pytest

from gateway.contract.flag import Head
from gateway.testkit import scenarios
from gateway_plugins.dialects.bedrock import runtime_api
from tests.end_to_end.test_providers import MESSAGES, OPEN, anthropic
from tests.helpers.gateway import HAIKU, KEY, bedrock, gate

CHAT = {"model": HAIKU, "messages": [{"role": "user", "content": "hello"}]}
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}
CALLS = [
    ("/v1/chat/completions", CHAT),
    ("/v1/messages", {**CHAT, "max_tokens": 9}),
    ("/v1/responses", {"model": HAIKU, "input": "hello"}),
    (f"/bedrock/model/{HAIKU}/converse", CONVERSE),
]
REFUSED = "b refused the gateway's key; tell an administrator of this gateway"


async def page(gw):
    return await (await gw.get("/ui/providers")).text()


@pytest.mark.parametrize(("path", "body"), CALLS)
async def test_the_gateways_bad_key_is_a_502_that_names_whom_to_ask(tmp_path, bedrock_sim, path, body):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url, apikey="wrong-canary-key")}) as gw:
        reply = await gw.post(path, body)
        text = await reply.text()
        assert reply.status == 502
        assert REFUSED in text
        assert "API Key" not in text
        (record,) = await gw.calls()
        assert (record["error"], record["error_message"], record["level"]) == ("upstream", REFUSED, "warning")
        (line,) = gw.lines.entries("upstream.key_refused")
        assert (line["provider"], "API Key" in line["message"]) == ("b", True)


async def test_a_refused_key_is_shown_until_a_call_is_served(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        assert (await (await gw.get("/readyz")).json())["keys"] == "accepted"
        bedrock_sim.keys, right = {"another"}, bedrock_sim.keys
        assert (await gw.post(*CALLS[0])).status == 502
        ready = await gw.get("/readyz")
        assert (ready.status, (await ready.json())["keys"]) == (200, "refused")
        assert "key refused" in await page(gw)
        bedrock_sim.keys = right
        assert (await gw.post(*CALLS[0])).status == 200
        assert (await (await gw.get("/readyz")).json())["keys"] == "accepted"
        assert "key refused" not in await page(gw)


async def test_missing_access_to_a_model_is_no_bad_key(tmp_path, bedrock_sim):
    message = "You don't have access to the model with the specified model ID."
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        bedrock_sim.script(scenarios.error("AccessDeniedException", message))
        reply = await gw.post(*CALLS[0])
        assert (reply.status, message in await reply.text()) == (403, True)
        assert (await (await gw.get("/readyz")).json())["keys"] == "accepted"
        await gw.log_is_written()
        assert gw.lines.entries("upstream.key_refused") == []
        (line,) = gw.lines.entries("upstream.access_denied")
        assert (line["provider"], line["status"], line["message"]) == ("b", 403, message)
        assert 'irisgate_upstream_auth_failures_total{provider="b"} 1.0' in await (await gw.get("/metrics")).text()


async def test_a_key_that_a_provider_repeats_is_in_no_record(tmp_path, openai_upstream):
    """Check that if a provider repeats the gateway's key in an error message, neither the call's record nor the log has
    the key.

    The provider sends the error with status 200.
    """
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}}).encode()
    provider = {"baseurl": f"{openai_upstream.url}/v1", "apikey": KEY, "models": ["gpt-4o"]}
    async with gate(tmp_path, {"o": provider}) as gw:
        openai_upstream.script(scenarios.raw(body))
        assert (await gw.post("/v1/chat/completions", {**CHAT, "model": "gpt-4o"})).status >= 400
        (record,) = await gw.calls()
        assert record["error_message"] == "Incorrect API key provided: [redacted]"
        assert KEY.encode() not in gw.lines.data


@pytest.mark.parametrize(
    ("name", "message", "refused"),
    [
        ("", "Authentication failed: Please make sure your API Key is valid.", True),
        ("", "Invalid API Key format: Must start with pre-defined prefix", True),
        ("AccessDeniedException", "Bearer Token has expired", True),
        ("UnrecognizedClientException", "The security token included in the request is invalid.", True),
        ("AccessDeniedException", "User: x is not authorized to perform: bedrock:CallWithBearerToken", True),
        ("AccessDeniedException", "User: x is not authorized to perform: bedrock:InvokeModel on resource: y", False),
        ("AccessDeniedException", "You don't have access to the model with the specified model ID.", False),
    ],
)
def test_what_bedrock_says_of_a_key_is_told_from_what_it_says_of_a_model(name, message, refused):
    head = Head(403, {"x-amzn-errortype": f"{name}:http://internal.amazon.com/"} if name else {})
    problem = runtime_api.problem_for(head, b'{"message":"%s"}' % message.encode())
    assert problem.key_refused is refused


async def test_a_client_that_brings_its_own_key_sees_the_providers_words(tmp_path, anthropic_upstream):
    provider = anthropic(anthropic_upstream, auth_mode="passthrough")
    async with gate(tmp_path, {"a": provider}, grants=OPEN) as gw:
        reply = await gw.post("/v1/messages", MESSAGES, headers={"x-api-key": "mine"})
        assert (reply.status, "invalid x-api-key" in await reply.text()) == (401, True)
        assert (await (await gw.get("/readyz")).json())["keys"] == "accepted"


@contextmanager
def closed_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


async def unreached(tmp_path, url):
    async with gate(tmp_path, {"b": bedrock(url)}) as gw:
        reply = await gw.post(*CALLS[0])
        assert reply.status == 503
        (record,) = await gw.calls()
        (line,) = gw.lines.entries("upstream.unreachable")
        message = (await reply.json())["error"]["message"]
        assert record["error_message"] == line["message"] == message
        assert record["error_native"] == line["reason"]
        assert (line["level"], record["level"]) == ("warning", "warning")
        return line["reason"], message


async def test_a_name_that_does_not_exist_is_named(tmp_path):
    reason, message = await unreached(tmp_path, "http://bedrock-runtime.us-est-1.invalid")
    assert reason in {"no_such_host", "dns"}
    assert message.startswith("b cannot be reached: ")
    assert "bedrock-runtime.us-est-1.invalid" in message


async def test_a_port_where_nothing_listens_is_named(tmp_path):
    with closed_port() as port:
        reason, message = await unreached(tmp_path, f"http://127.0.0.1:{port}")
    assert reason == "connection_refused"
    assert message == f"b cannot be reached: 127.0.0.1:{port}: nothing listens there (connection refused)"


async def test_tls_with_a_port_that_speaks_none_is_named(tmp_path):
    async def plain(reader, writer):
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        reason, message = await unreached(tmp_path, f"https://127.0.0.1:{port}")
    assert reason == "tls"
    assert f"no TLS with 127.0.0.1:{port}: " in message


async def test_the_record_has_the_providers_words_and_its_id_of_the_request(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url, apikey=KEY)}) as gw:
        bedrock_sim.script(scenarios.error("ValidationException", "in AWS's own words"))
        reply = await gw.post(*CALLS[3])
        (record,) = await gw.calls()
        assert record["error_message"] == "in AWS's own words"
        assert record["upstream_request_id"] == reply.headers["x-amzn-requestid"] != record["id"]
        await gw.running.gateway.follower.flush()
        stored = await (await gw.get(f"/api/calls/{record['id']}")).json()
        assert (stored["error_message"], stored["upstream_request_id"]) == (
            record["error_message"],
            record["upstream_request_id"],
        )
