"""Tests that the examples in plugins/examples work unchanged as a folder of plugins."""

import asyncio
import json
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web

from gateway.contract.registry import discover
from gateway.testkit.laws.check import check
from gateway.testkit.scenarios import Canned, Scenario, Tokens
from tests.helpers.gateway import HAIKU, bedrock, gate
from tests.helpers.providers import provider
from tests.helpers.source_tree import ROOT

EXAMPLES = ROOT / "plugins" / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))


@asynccontextmanager
async def examples(state, bedrock_sim, plugins, **options):
    providers, more = {"b": bedrock(bedrock_sim.url)}, {"plugins": plugins}
    async with gate(state, providers, plugins=EXAMPLES, more=more, **options) as gw:
        yield gw


async def ask(gw, prompt, *, stream=False):
    body = {"model": HAIKU, "messages": [{"role": "user", "content": prompt}], "stream": stream}
    return await gw.post("/v1/chat/completions", body)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_guard_refuses_prompts_and_stars_out_replies(tmp_path, bedrock_sim, stream):
    async with examples(tmp_path, bedrock_sim, {"guard": {"word": "simulated"}}) as gw:
        assert (await ask(gw, "a simulated one", stream=stream)).status == 403
        assert b"simulated" not in (await ask(gw, "hello", stream=stream)).body


async def test_the_cap_refuses_calls_after_the_tokens_of_a_day(tmp_path, bedrock_sim):
    async with examples(tmp_path, bedrock_sim, {"daily_cap": {"tokens": 10}}) as gw:
        sys.modules["irisgate_folder.daily_cap"].USED.clear()
        assert (await ask(gw, "hello")).status == 200
        refused = await ask(gw, "hello")
        assert refused.status == 429
        assert 0 < int(refused.headers["retry-after"]) <= 24 * 60 * 60
        assert "you have used your 10 tokens of today" in await refused.text()


@pytest.mark.parametrize("kind", ["input", "output", "cache_read", "cache_write_5m", "cache_write_1h"])
async def test_the_cap_counts_the_tokens_of_every_kind(tmp_path, bedrock_sim, kind):
    """Check that the example `daily_cap` also counts cached tokens. A client such as Claude Code reads nearly all its
    input from a cache.
    """
    async with examples(tmp_path, bedrock_sim, {"daily_cap": {"tokens": 1000}}) as gw:
        sys.modules["irisgate_folder.daily_cap"].USED.clear()
        bedrock_sim.script(Scenario(Canned(("Hi",), tokens=replace(Tokens(0, 0), **{kind: 1000}))))
        assert (await ask(gw, "hello")).status == 200
        assert (await ask(gw, "hello")).status == 429


@pytest.mark.parametrize("stream", [False, True])
async def test_the_cache_answers_a_request_that_came_before(tmp_path, bedrock_sim, stream):
    async with examples(tmp_path, bedrock_sim, {"response_cache": {}}) as gw:
        first, second = [await ask(gw, f"again {stream}", stream=stream) for _ in range(2)]
        assert json.loads(first.body.split(b"\n")[0].removeprefix(b"data: ")) == json.loads(
            second.body.split(b"\n")[0].removeprefix(b"data: ")
        )
        assert len(bedrock_sim.requests) == 1
        assert (await ask(gw, f"another {stream}", stream=stream)).status == 200
        assert len(bedrock_sim.requests) == 2


async def test_the_header_names_a_user_without_the_name(tmp_path, bedrock_sim, monkeypatch):
    monkeypatch.setenv("USER_HASH_KEY", "k")
    async with examples(tmp_path, bedrock_sim, {"call_header": {"key": "env:USER_HASH_KEY"}}) as gw:
        await ask(gw, "hello")
        value = bedrock_sim.requests[0].headers["x-user-hash"]
        assert len(value) == 64


async def test_the_moderation_service_is_asked_about_each_prompt(tmp_path, bedrock_sim):
    async def judge(request):
        text = (await request.json())["text"]
        await asyncio.sleep(0)
        return web.json_response({"flagged": "bad" in text, "reason": "the service does not like it"})

    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(provider(judge))
        server = {"fetch": {"private_hosts": [url.removeprefix("http://")]}}
        moderation = {"moderation": {"url": url}}
        gw = await stack.enter_async_context(examples(tmp_path, bedrock_sim, moderation, server=server))
        assert (await ask(gw, "good")).status == 200
        refused = await ask(gw, "bad")
        assert (refused.status, "the service does not like it" in await refused.text()) == (403, True)


async def test_the_observer_prints_slow_calls(capsys):
    seen = discover(EXAMPLES).observers["slow_calls"]["seen"]
    call = {"id": "req_1", "identity": "ada", "model": "m", "duration_ms": 9_000}
    seen.call(call)
    seen.call({**call, "duration_ms": 12_300})
    assert capsys.readouterr().out == "req_1 ada m took 12 s\n"


LINES = (
    {"model": "qwen3", "message": {"role": "assistant", "content": "Hel"}, "done": False},
    {"model": "qwen3", "message": {"role": "assistant", "content": "lo"}, "done": False},
    {
        "model": "qwen3", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop",
        "prompt_eval_count": 5, "eval_count": 2,
    },
)  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
async def test_ollamas_clients_reach_ollama(tmp_path, stream):
    async def ollama(request):
        body = await request.json()
        if body.get("stream") is False:
            return web.json_response({**LINES[-1], "message": {"role": "assistant", "content": "Hello"}})
        data = b"".join(json.dumps(line).encode() + b"\n" for line in LINES)
        return web.Response(body=data, content_type="application/x-ndjson")

    async with provider(ollama) as url:
        servers = {"o": {"baseurl": url, "models": ["qwen3"], "compatibility": {"ollama_chat": True}}}
        more = {"plugins": {"guard": {"word": "ell"}}}
        async with gate(tmp_path, servers, plugins=EXAMPLES, more=more) as gw:
            body = {"model": "qwen3", "messages": [{"role": "user", "content": "hi"}]}
            reply = await gw.post("/api/chat", body if stream else {**body, "stream": False})
            lines = [json.loads(line) for line in reply.body.splitlines()]
            assert "".join(line["message"]["content"] for line in lines) == "H***o"
            assert reply.headers["content-type"].startswith("application/x-ndjson" if stream else "application/json")
            (record,) = await gw.calls()
            assert (record["tokens"]["input"], record["tokens"]["output"], record["outcome"]) == (5, 2, "ok")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "moderation"])
def test_every_example_passes_the_laws(name):
    """Check that all examples pass `irisgate plugins check`, except `moderation`, whose service does not run during
    this test.
    """
    report = check(name, discover(EXAMPLES))
    assert report.holds, report
