"""Tests of filters, with every pair of the client's and the provider's format. Filters see each call, and may change
its text, block it or answer it.
"""

import asyncio
import json
import re
import subprocess
import sys
from contextlib import suppress

import pytest

from gateway.call import filters
from tests.helpers.gateway import CAP, HAIKU, bedrock, gate
from tests.helpers.plugin_faults import STREAM, WHOLE
from tests.helpers.scripted import scripted
from tests.helpers.waiting import eventually

GUARD = """
from gateway.contract import filter
from gateway.contract.filter import blocked, hold

api = 1
blocks = True


class Settings(filter.Settings):
    word: str
    instead: str = "***"


def open(call, settings):
    return Guard(settings)


class Guard:
    def __init__(self, settings):
        self.settings = settings

    def request(self, asked):
        if any("forbidden" in text.text for text in asked.texts):
            raise blocked("forbidden_word", "the prompt has a word that is not allowed here")
        return asked.with_texts([text.text.replace("secret", "public") for text in asked.texts])

    async def headers(self):
        return {"X-Guard": "seen"}

    def text(self, kind, piece, last):
        return hold(piece.replace(self.settings.word, self.settings.instead), len(self.settings.word) - 1, last)
"""
GPT = "gpt-4o"
CHARGED = [{"src": ["*"], "app": {CAP: [{"role": "admin"}, {"models": "**", "quotas": [{"bucket": "all"}]}]}}]
"""Grants with which every call is charged to the quota `all`."""
CHAT = ("/v1/chat/completions", {})
MESSAGES = ("/v1/messages", {"max_tokens": 100})
CLIENTS = {"chat": CHAT, "messages": MESSAGES}


def body(client, prompt, *, stream):
    path, more = CLIENTS[client]
    return path, {"model": HAIKU, "messages": [{"role": "user", "content": prompt}], "stream": stream, **more}


@pytest.fixture
def plugins(tmp_path):
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "guard.py").write_text(GUARD)
    return folder


@pytest.fixture
async def gw(tmp_path, bedrock_sim, plugins):
    more = {"plugins": {"guard": {"word": "simulated"}}}
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, plugins=plugins, more=more) as gw:
        yield gw


def shown(client, reply, *, stream):
    """Return the text that the client shows to its user."""
    if not stream:
        data = json.loads(reply)
        return data["choices"][0]["message"]["content"] if client == "chat" else data["content"][0]["text"]
    events = [json.loads(line[6:]) for line in reply.split(b"\n") if line.startswith(b"data: {")]
    if client == "chat":
        return "".join(event["choices"][0]["delta"].get("content") or "" for event in events)
    return "".join(event.get("delta", {}).get("text", "") for event in events)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_filter_replaces_text_across_the_pieces_of_a_stream(gw, bedrock_sim, client, stream):
    path, sent = body(client, "a secret", stream=stream)
    reply = await gw.post(path, sent)
    assert shown(client, reply.body, stream=stream) == "Hello from a *** model. You said: a public"
    (request,) = bedrock_sim.requests
    assert request.headers["x-guard"] == "seen"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_blocked_call_reaches_no_provider(gw, bedrock_sim, client, stream):
    path, sent = body(client, "forbidden", stream=stream)
    reply = await gw.post(path, sent)
    assert reply.status == 403
    assert "the prompt has a word that is not allowed here" in await reply.text()
    assert not bedrock_sim.requests
    (record,) = await gw.calls()
    assert (record["error"], record["error_native"], record["cost_usd"]) == ("blocked", "forbidden_word", 0)


COUNTER = """
from gateway.contract.filter import blocked

api = 1
DONE = []


def open(call, settings):
    return Counter()


class Counter:
    def request(self, asked):
        if any("forbidden" in text.text for text in asked.texts):
            raise blocked("forbidden_word", "the prompt has a word that is not allowed here")

    def done(self, record):
        DONE.append((record["id"], record["error"]))
"""


async def test_done_runs_once_for_a_call_that_is_refused_after_request(tmp_path, bedrock_sim, plugins):
    (plugins / "counter.py").write_text(COUNTER)
    more = {"plugins": {"counter": {}}, "quotas": {"all": {"capacity": "$0.000001", "rate": "$0.000001/day"}}}
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, grants=CHARGED, plugins=plugins, more=more) as gw:
        paid = await gw.post(*body("messages", "hello", stream=True))  # takes the whole quota
        over = await gw.post(*body("messages", "hello", stream=True))
        blocked = await gw.post(*body("messages", "forbidden", stream=True))
        records = await gw.calls(3)
        done = sys.modules[gw.running.gateway.runtime.filters[0].hooks["filter.open"].function.__module__].DONE
        await eventually(lambda: len(done) == 3)
    assert (paid.status, over.status, blocked.status) == (200, 429, 403)
    assert sorted(done) == sorted((record["id"], record["error"]) for record in records)
    assert len(bedrock_sim.requests) == 1


PLAIN = """
from gateway.contract.flag import Route, UpstreamRequest
from gateway_plugins import openai_chat

api = 1
dialects = ("plain",)
routes = (Route("POST", "/plain", "generate"),)
meter = openai_chat.meter


def build(request, target, drop):
    return UpstreamRequest("POST", "/plain", request.top.body, headers={"content-type": "application/json"})
"""
READER = """
api = 1


def open(call, settings):
    return Reader()


class Reader:
    def text(self, kind, piece, last):
        return piece.upper()
"""


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("on_error", ["refuse", "pass"])
async def test_text_that_no_filter_can_read_is_refused_unsent(tmp_path, plugins, on_error, stream):
    (plugins / "plain.py").write_text(PLAIN)
    (plugins / "reader.py").write_text(READER)
    more = {"plugins": {"reader": {"on_error": on_error}}, "quotas": {"all": {"capacity": "$100", "rate": "$1/day"}}}
    async with scripted() as provider:
        provider.answer(STREAM if stream else WHOLE, "text/event-stream" if stream else "application/json")
        offer = {"baseurl": provider.url, "models": [GPT], "cost_basis": "openai", "compatibility": {"plain": True}}
        async with gate(tmp_path, {"p": offer}, grants=CHARGED, plugins=plugins, more=more) as gw:
            reply = await gw.post("/plain", {"model": GPT, "stream": stream})
            (record,) = await gw.calls()
            (bucket,) = (await (await gw.get("/api/quotas")).json())["quotas"]
    if on_error == "pass":
        assert (reply.status, reply.body, len(provider.requests)) == (200, provider.body, 1)
    else:
        assert "failed in places" in await reply.text()
        assert (reply.status, provider.requests, record["error"]) == (500, [], "plugin")
        assert (record["cost_usd"], bucket["balance_usd"], bucket["reserved_usd"]) == (0, 100, 0)


async def test_a_done_that_ignores_its_cancellation_does_not_hold_the_end(monkeypatch):
    monkeypatch.setattr(filters, "CLOSE_SECONDS", 0.01)
    monkeypatch.setattr(filters, "CANCEL_SECONDS", 0.01)
    begun, free = asyncio.Event(), asyncio.Event()

    async def stubborn():
        begun.set()
        while not free.is_set():
            with suppress(asyncio.CancelledError):
                await free.wait()

    after = filters.AfterCalls()
    after.start(stubborn())
    await begun.wait()
    async with asyncio.timeout(5):
        await after.close()
    free.set()


def main(*arguments):
    return subprocess.run([sys.executable, "-m", "gateway", *arguments], capture_output=True, text=True, check=False)


def test_the_list_of_plugins_shows_the_filters_of_each_route(tmp_path, plugins):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"plugins": {"guard": {"word": "x"}}}))
    listed = main("plugins", "list", "--plugins", plugins, "--config", file)
    assert re.search(r"^POST /v1/messages +guard \(on_error: refuse\)$", listed.stdout, re.MULTILINE)
    without = main("plugins", "list", "--plugins", plugins, "--config", file, "--without", "guard")
    assert re.search(r"^POST /v1/messages +none$", without.stdout, re.MULTILINE)
    assert "Switched off by --without: guard" in without.stdout


def test_a_name_that_is_no_plugin_cannot_be_switched_off(plugins):
    refused = main("plugins", "list", "--plugins", plugins, "--without", "gard")
    assert refused.returncode == 2
    assert 'irisgate: --without: there is no plugin "gard"; see irisgate plugins list' in refused.stderr
