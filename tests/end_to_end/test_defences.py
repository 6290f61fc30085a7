"""Tests of misbehaving providers and abusive clients. Every client gets a reply, every call has a record, and other
calls are not harmed.
"""

import asyncio
import json

import pytest
from aiohttp import web

from gateway.testkit import scenarios
from tests.helpers.gateway import HAIKU, KEY, NOVA, bedrock, gate
from tests.helpers.providers import provider

CHAT = {"model": HAIKU, "messages": [{"role": "user", "content": "hello"}]}
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}
NATIVE = f"/bedrock/model/{NOVA}/converse"


@pytest.mark.parametrize("path", [NATIVE, "/v1/chat/completions"])
@pytest.mark.parametrize("status", [204, 302, 307])
async def test_a_provider_that_answers_beside_the_matter_has_failed(tmp_path, path, status):
    async def elsewhere(_request):
        return web.Response(status=status, headers={"location": "http://127.0.0.1:9/steal"})

    async with provider(elsewhere) as url, gate(tmp_path, {"b": bedrock(url)}) as gw:
        reply = await gw.post(path, CONVERSE if path == NATIVE else {**CHAT, "model": NOVA}, allow_redirects=False)
        assert "location" not in reply.headers
        (record,) = await gw.calls()
        assert record["outcome"] == "failed"
        if status != 204:
            assert reply.status == 503


async def test_headers_that_bind_our_name_or_tell_of_the_connection_stay_here(tmp_path):
    async def strict(_request):
        headers = {
            "strict-transport-security": "max-age=99999", "alt-svc": "h3", "set-cookie": "a=b", "x-amzn-requestid": "kept",
        }  # fmt: skip
        message = {"role": "assistant", "content": [{"text": "ok"}]}
        usage = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}
        body = {"output": {"message": message}, "stopReason": "end_turn", "usage": usage}
        return web.json_response(body, headers=headers)

    async with provider(strict) as url, gate(tmp_path, {"b": bedrock(url)}) as gw:
        reply = await gw.post(NATIVE, CONVERSE)
        assert reply.headers["x-amzn-requestid"] == "kept"
        assert not {"strict-transport-security", "alt-svc", "set-cookie"} & {name.lower() for name in reply.headers}


async def test_a_reply_that_never_came_has_an_estimated_cost(tmp_path):
    """Check that a call whose provider never replies costs an estimate, and that a call whose provider cannot be
    reached costs nothing.
    """

    async def silent(_request):
        await asyncio.sleep(60)

    more = {"resilience": {"timeouts": {"head_seconds": 0.3}}}
    async with provider(silent) as url:
        providers = {"b": bedrock(url), "gone": bedrock("http://127.0.0.1:9", models=["us.amazon.nova-pro-v1:0"])}
        async with gate(tmp_path, providers, more=more) as gw:
            assert (await gw.post("/v1/chat/completions", CHAT)).status == 504
            assert (await gw.post("/v1/chat/completions", {**CHAT, "model": "us.amazon.nova-pro-v1:0"})).status == 503
            came, gone = await gw.calls(2)
            assert (came["cost_usd"] > 0, came["estimated"]) == (True, True)
            assert (gone["cost_usd"], gone["estimated"]) == (0, False)


async def test_what_a_stream_had_told_when_it_broke_is_accounted_and_marked(tmp_path, bedrock_sim):
    """Check the usage in the record of a broken stream.

    If the provider has sent an output count, the record has this count. If not, the usage is marked as estimated.
    """
    bedrock_sim.script(scenarios.replace(scenarios.NAMED["text"], end_after=8))
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        await gw.post("/v1/messages", {"max_tokens": 50, "stream": True, **CHAT})
        (record,) = await gw.calls()
        assert (record["outcome"], record["tokens"]["output"]) == ("failed", 7)
        bedrock_sim.script(scenarios.replace(scenarios.NAMED["text"], end_after=3))
        await gw.post("/v1/messages", {"max_tokens": 50, "stream": True, **CHAT})
        _, cut = await gw.calls(2)
        assert (cut["tokens"]["input"], cut["estimated"]) == (12, True)


async def test_an_unreadable_native_reply_is_an_error_and_failed(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        bedrock_sim.script(scenarios.raw(b"<html>", "text/html"))
        reply = await gw.post(NATIVE, CONVERSE)
        assert reply.status == 502
        (record,) = await gw.calls()
        assert (record["outcome"], record["error"], record["estimated"]) == ("failed", "upstream", True)


async def test_names_of_members_cannot_break_the_header_that_tells_of_them(tmp_path, bedrock_sim):
    odd = {"é" * 100_000: 1, "new\r\nline: x": 1, **{f"unknown{number}": number for number in range(500)}}
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        reply = await gw.post("/v1/chat/completions", {**CHAT, **odd})
        assert reply.status == 200
        assert len(reply.headers["x-irisgate-dropped"]) <= 2010
        assert reply.headers["x-irisgate-dropped"].isascii()
        assert len((await gw.calls())[0]["dropped"]) == 100


async def test_a_body_that_stops_coming_is_given_up(tmp_path, bedrock_sim, monkeypatch):
    monkeypatch.setattr("gateway.call.request_body.BODY_SECONDS", 0.2)

    async def half():
        yield b'{"model":'
        await asyncio.sleep(5)

    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        async with gw.session.post(gw.url + "/v1/chat/completions", data=half()) as reply:
            assert reply.status == 408
        assert (await gw.calls())[0]["outcome"] == "refused"


AGAIN = """
from gateway_plugins.bedrock_converse import *

routes = ()


def retry(ask, target, problem, drop):
    drop("/requestMetadata")
    return ask.with_body(ask.dialect, {"messages": ask.top.decode("messages")})
"""


async def test_a_plugin_may_try_once_more_after_a_refusal(tmp_path, bedrock_sim):
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "insisting.py").write_text(AGAIN)
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url, flags=["insisting"])}, plugins=plugins) as gw:
        bedrock_sim.script(scenarios.error("ValidationException"))
        reply = await gw.post(NATIVE, {**CONVERSE, "requestMetadata": {"a": "b"}})
        assert reply.status == 200
        assert [sorted(seen.json) for seen in bedrock_sim.requests] == [["messages", "requestMetadata"], ["messages"]]
        bedrock_sim.script(*[scenarios.error("ValidationException")] * 3)
        assert (await gw.post(NATIVE, CONVERSE)).status == 400
        assert len(bedrock_sim.requests) == 4


ESTIMATING = """
from gateway.contract.flag import StepResponse
from gateway_plugins.bedrock_model_invoke import *

routes = ()
accepts = (("bedrock_model_invoke", "count_tokens"),)


def steps(ask, target, drop):
    yield from ()
    return StepResponse(200, {"content-type": "application/json"}, b'{"inputTokens": 42}')
"""


async def test_a_plugin_may_answer_without_asking_the_provider(tmp_path, bedrock_sim):
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "estimating.py").write_text(ESTIMATING)
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url, flags=["estimating"])}, plugins=plugins) as gw:
        reply = await gw.post(f"/model/{NOVA}/count-tokens", {"input": {"converse": CONVERSE}})
        assert json.loads(reply.body) == {"inputTokens": 42}
        assert bedrock_sim.requests == []
        assert (await gw.calls())[0]["cost_usd"] == 0


async def test_a_malformed_request_is_logged_without_what_it_said(tmp_path, bedrock_sim, capfd):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        host, port = gw.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nauthorization: Bearer canary-of-a-client\x01\r\n\r\n"
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 400")
        writer.close()
        await writer.wait_closed()
        await gw.lines.until("http.error")
    output = capfd.readouterr()
    assert "canary" not in output.out + output.err + gw.lines.data.decode()


async def test_an_error_under_a_200_is_an_error(tmp_path, openai_upstream):
    provider_of_chats = {"baseurl": openai_upstream.url, "apikey": KEY, "models": ["m"]}
    async with gate(tmp_path, {"b": provider_of_chats}) as gw:
        openai_upstream.script(scenarios.raw(b'{"error":{"message":"their provider failed","code":502}}'))
        reply = await gw.post("/v1/chat/completions", {**CHAT, "model": "m"})
        assert reply.status == 503
        assert "their provider failed" in await reply.text()
        assert (await gw.calls())[0]["outcome"] == "failed"
