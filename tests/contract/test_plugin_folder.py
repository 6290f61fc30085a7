"""Tests of two things that a plugin may have: observers, and the function `steps`, which sends requests to the provider
before the call's main request.
"""

import json

import pytest

from gateway.call.middleware.steps import MAX_STEPS, drive
from tests.helpers import hooks
from tests.helpers.gateway import HAIKU, NOVA, bedrock, gate

STEPPING = """
from gateway.contract.flag import UpstreamRequest
from gateway_plugins.openai_chat import *


routes = ()
dialects = ("openai_chat",)


def steps(ask, target, drop):
    reply = yield UpstreamRequest("POST", "/model/amazon.nova-lite-v1%3A0/count-tokens", COUNT)
    return ask.with_body(ask.dialect, {"model": ask.model, "messages": [{"role": "user", "content": reply.body.decode()}]})


COUNT = b'{"input":{"converse":{"messages":[{"role":"user","content":[{"text":"hi"}]}]}}}'
"""
OWN_ROUTE = f"""{STEPPING}
from gateway.contract import json_api
from gateway.contract.flag import Route

routes = (Route("POST", "/own/chat", "generate"),)
model_lists = ()


def parse(request):
    return json_api.parse("stepping", "openai_chat", request)
"""
CHANGING = """
from gateway_plugins.openai_chat import *

routes = ()
dialects = ("openai_chat",)


def steps(ask, target, drop):
    return ask.with_body(ask.dialect, {"model": ask.model, "messages": [{"role": "user", "content": "changed"}]})
"""
OBSERVING = """
import json
from pathlib import Path

api = 1


def seen(record):
    with Path(__file__).with_suffix(".seen").open("a") as file:
        file.write(json.dumps(record) + "\\n")
"""
FAILING = """
api = 1


def seen(record):
    raise ValueError("observers may fail")
"""
CHAT = {"messages": [{"role": "user", "content": "hello"}]}


async def test_a_plugins_steps_are_sent_to_its_provider_before_the_request(tmp_path, bedrock_sim):
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "stepping.py").write_text(STEPPING)
    provider = bedrock(bedrock_sim.url, flags=["stepping"])
    async with gate(tmp_path, {"b": provider}, plugins=plugins) as gw:
        await gw.post("/v1/chat/completions", {"model": NOVA, **CHAT})
        counted, request = bedrock_sim.requests
        assert counted.path.endswith("/count-tokens")
        assert "inputTokens" in request.json["messages"][0]["content"]
        assert request.headers["authorization"] == counted.headers["authorization"]


async def test_steps_of_a_flag_of_client_and_provider_run_once(tmp_path, bedrock_sim):
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "stepping.py").write_text(OWN_ROUTE)
    provider = bedrock(bedrock_sim.url, flags=["stepping"], apikey="k")
    async with gate(tmp_path, {"b": provider}, plugins=plugins) as gw:
        await gw.post("/own/chat", {"model": NOVA, **CHAT})
        assert [request.path.rpartition("/")[2] for request in bedrock_sim.requests] == ["count-tokens", "completions"]


async def test_steps_may_return_a_request_without_yielding(tmp_path, bedrock_sim):
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "changing.py").write_text(CHANGING)
    provider = bedrock(bedrock_sim.url, flags=["changing"], apikey="k")
    async with gate(tmp_path, {"b": provider}, plugins=plugins) as gw:
        await gw.post("/v1/chat/completions", {"model": NOVA, **CHAT})
        assert bedrock_sim.requests[0].json["messages"] == [{"role": "user", "content": "changed"}]


async def test_steps_without_an_end_are_stopped():
    from gateway.contract.errors import PluginFailed
    from gateway.contract.flag import StepResponse, UpstreamRequest

    sent = []

    def endless():
        while True:
            yield UpstreamRequest("POST", "/", b"")

    async def sender(send):
        sent.append(send)
        return StepResponse(200, {}, b"")

    with pytest.raises(PluginFailed) as failure:
        await drive(endless(), sender, None, hooks.of_flag())
    assert "more than" in failure.value.cause
    assert len(sent) == MAX_STEPS


async def test_a_url_that_a_plugin_wants_fetched_comes_back_as_a_reply():
    from gateway.contract.flag import Fetch, StepResponse

    def fetching():
        reply = yield Fetch("https://images.example.com/cat.png", 1000)
        return reply

    async def getter(fetch):
        return StepResponse(200, {}, fetch.url.encode())

    result = await drive(fetching(), None, getter, hooks.of_flag())
    assert result.body == b"https://images.example.com/cat.png"


async def test_an_observer_sees_every_call_once_whatever_another_one_does(tmp_path, bedrock_sim):
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "watching.py").write_text(OBSERVING)
    (plugins / "another.py").write_text(FAILING)
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, plugins=plugins) as gw:
        for model in (HAIKU, "unknown"):
            await gw.post("/v1/chat/completions", {"model": model, **CHAT})
        ids = [record["id"] for record in await gw.calls(2)]
        failed = await gw.lines.until("plugin.failed", 2)
    seen = [json.loads(line) for line in (plugins / "watching.seen").read_text().splitlines()]
    assert [record["id"] for record in seen] == ids
    assert [record["outcome"] for record in seen] == ["ok", "refused"]
    assert [(line["plugin"], line["hook"], line["request_id"]) for line in failed] == [
        ("another", "seen", call) for call in ids
    ]
    assert all(line["at"] == f"{plugins}/another.py:6" for line in failed)
