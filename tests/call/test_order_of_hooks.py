"""Tests that the hooks of plugins are called in the order of `plugins/reference.md`, and that every hook is called.

The plugins of the tests are two compatibility flags (API formats), a translator, a filter and an observer. Together
they have every hook. A profile function records the calls of their code.
"""

import inspect
import re
import sys
import threading
from collections import Counter

import pytest
from aiohttp import web

from gateway.contract.filter import Filter, FilterModule
from gateway.contract.flag import Decoder, Encoder, Flag, Meter, Observer, Translation, Translator
from gateway.contract.plugin_functions import members_of
from tests.helpers.acme_api import text as acme_text
from tests.helpers.gateway import gate
from tests.helpers.providers import provider
from tests.helpers.waiting import eventually
from tests.tools.reference_chapters import STEPS

FLAG = """
from dataclasses import replace

from gateway.contract import json_api, model_lists as lists, openings, provider_errors, sse_api
from gateway.contract.flag import *
api = 1
dialects = ("NAME",)
routes = (Route("POST", "/NAME/v1/text", "generate"),)
def parse(request): return json_api.parse("NAME", "NAME", request)
def session_ids(request): return SessionIds()
def opening(request): return "", openings.text_of(request.top, "prompt")
def dialect_for(caps): return "NAME"
def limit(request): return json_api.limit(request)
def steps(request, target, drop): return request
has_cache_marks = True
def mark_cache(request, target, lifetime): return None
def build(request, target, drop): return UpstreamRequest("POST", "/v1/text", request.top.body)
def meter(request, target, head): return Meter()
def advice(problem, target, offers): return "ask for less"
def retry(request, target, problem, drop): return None if request.without else replace(request, without=("a",))
def problem(head, body): return provider_errors.problem_of(head, body)
def stream_type(request): return "text/event-stream"
def decoder(request, target, head): return Decoder(lambda name, payload: "text", lambda event: event.payload == b"[DONE]", failure)
def failure(event): return provider_errors.problem_in_event(event.payload) if b"error" in event.payload else None
def error(problem): return json_api.error(problem)
model_lists = (ModelList("/NAME/v1/models"),)
def model_list(models, query): return lists.model_list(models)
def model_entry(model): return lists.model_entry(model)
def encoder(request): return Encoder()
def output_bytes(event): return len(event.payload)
def reply_headers(request_id, usage): return {}
def places(event):
    if event.payload != b"[DONE]":
        name = "prompt" if event.kind == "request" else "text"
        if name in event.data:
            yield Place((name,))
class Meter:
    def feed(self, event): pass
    def whole(self, body): pass
    def facts(self): return Facts()
class Decoder(sse_api.SseDecoder):
    def feed(self, data): return super().feed(data)
    def close(self): return super().close()
    def whole(self, body): return super().whole(body)
class Encoder(sse_api.SseEncoder):
    def feed(self, event): return super().feed(event)
    def whole(self, body): return super().whole(body)
    def close(self): return super().close()
    def ping(self): return super().ping()
    def fail(self, problem): return super().fail(problem)
"""
TRANSLATOR = """
api = 1
operations = ("generate",)
loses = 1
def open(request, target, drop): return Translation(request)
class Translation:
    def __init__(self, request): self.request = request.with_body("beta_text", {"prompt": request.top.decode("prompt"), "stream": request.stream})
    def feed(self, event): return [type(event)(event.kind, event.payload)]
    def whole(self, body): return body
    def close(self): return []
"""
FILTER = """
api = 1
def open(call, settings): return Filter()
class Filter:
    def request(self, asked): pass
    def headers(self): return {}
    def text(self, kind, piece, last): return piece
    def replied(self, reply): pass
    def done(self, record): pass
"""
OBSERVER = """
api = 1
def seen(record): pass
"""
PLUGINS = {
    "alpha_text": FLAG.replace("NAME", "alpha_text"),
    "beta_text": FLAG.replace("NAME", "beta_text"),
    "alpha_text__beta_text": TRANSLATOR,
    "middle": FILTER,
    "watcher": OBSERVER,
}
WHOSE = {
    "alpha_text": "client's flag",
    "beta_text": "provider's flag",
    "alpha_text__beta_text": "translator",
    "middle": "filters",
    "watcher": "observers",
}
PROTOCOLS = {"translator": "Translator", "filters": "FilterModule", "observers": "Observer"}


PROTOCOL_CLASSES = (Flag, Decoder, Encoder, Meter, Translator, Translation, FilterModule, Filter, Observer)
HOOKS = {
    f"{protocol.__name__}.{name}"
    for protocol in PROTOCOL_CLASSES
    for name, member in members_of(protocol).items()
    if inspect.isfunction(member)
}
NOT_IN_CALLS = {
    "Flag.base_url_fault",
    "Flag.discover_models",
    "Flag.samples",
    "FilterModule.samples",
    "Translator.samples",
    "Observer.seen_event",
}
"""Hooks that are not called during a client's call.

`Observer.seen_event` is called for events that are not calls (`tests/telemetry/test_observers.py`). The others are
called when plugins or a configuration are checked.
"""


class Calls:
    """The recorded calls of hooks, in order. Each is a pair of the hook and the plugin that has it."""

    def __init__(self, folder):
        self._folder = str(folder)
        self.all = []

    def __call__(self, frame, event, _argument):
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(self._folder):
            return
        plugin = re.split(r"[/.]", code.co_filename)[-2]
        owner, _, name = code.co_qualname.rpartition(".")
        hook = f"{owner or PROTOCOLS.get(WHOSE[plugin], 'Flag')}.{name}"
        if hook in HOOKS:
            self.all.append((hook, WHOSE[plugin]))

    def names(self, *hooks):
        return [name for name, _ in self.all if name in hooks]


async def answer(request):
    """Answer a request as the API of Acme does. The prompt "refuse" gets an error with status 400. The prompt "break"
    gets a stream with an error in it.
    """
    prompt = (await request.json())["prompt"]
    if prompt == "refuse":
        return web.json_response({"error": {"message": "no"}}, status=400)
    if prompt == "break":
        error = b'data: {"text": "Hel"}\n\ndata: {"error": {"message": "busy"}}\n\n'
        return web.Response(body=error, content_type="text/event-stream")
    return await acme_text(request)


@pytest.fixture
async def running(tmp_path):
    """Yield a gateway with the plugins, and the recorded calls of their hooks."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    for name, source in PLUGINS.items():
        (folder / f"{name}.py").write_text(source)
    calls = Calls(folder)
    async with provider(answer) as url:
        config = {"baseurl": url, "apikey": "k", "models": ["m"], "compatibility": {"beta_text": True}}
        config |= {"auto_cache": "all", "capabilities": {"m": {"cache_points": True}}}
        threading.setprofile(calls)
        try:
            async with gate(tmp_path, {"p": config}, plugins=folder, more={"plugins": {"middle": {}}}) as gateway:
                sys.setprofile(calls)
                yield gateway, calls
        finally:
            sys.setprofile(None)
            threading.setprofile(None)


def on_page(*titles):
    """Return the hooks of the tables in `plugins/reference.md` with these titles, as pairs of the hook and the plugin
    that has it.

    Hooks that run only after errors are left out.
    """
    after_errors = {"Flag.retry", "Flag.advice"}
    return [(step.hook, step.whose) for title in titles for step in STEPS[title] if step.hook not in after_errors]


async def ask(gateway, prompt, *, stream=False):
    return await gateway.post("/alpha_text/v1/text", {"model": "m", "prompt": prompt, "stream": stream})


@pytest.mark.parametrize("stream", [False, True])
async def test_hooks_are_called_in_the_order_of_the_page(running, stream):
    gateway, calls = running
    after = on_page("After the call")
    await ask(gateway, "hi", stream=stream)
    await eventually(lambda: {*after} <= {*calls.all})
    calls.all.clear()
    gateway.running.gateway.runtime.plans.cache_clear()  # otherwise `dialect_for` is called only for the first call
    reply = await ask(gateway, "hi", stream=stream)  # the second call of its session, which `mark_cache` needs
    assert reply.status == 200
    await eventually(lambda: {*after} <= {*calls.all})
    in_call = dict.fromkeys(hook for hook in calls.all if hook not in after)
    assert [*in_call] == on_page("The request", "A stream" if stream else "A whole reply")


async def test_a_changed_request_goes_on_with_build(running):
    gateway, calls = running
    reply = await ask(gateway, "refuse")
    assert reply.status == 400
    assert (await reply.json())["error"]["message"].endswith(" (gateway: ask for less)")
    attempt = ["Flag.build", "Flag.meter", "Flag.problem", "Flag.retry"]
    once = ["FilterModule.open", "Filter.request", "Filter.headers", "Translator.open"]
    last = ["Flag.advice", "Flag.error"]
    assert calls.names(*once, *attempt, *last) == [*once, *attempt, *attempt, *last]


async def test_every_hook_of_the_contract_is_called(running):
    gateway, calls = running
    for prompt, stream in (("hi", False), ("hi", True), ("refuse", False), ("break", True)):
        await ask(gateway, prompt, stream=stream)
    for path in ("/alpha_text/v1/models", "/alpha_text/v1/models/m"):
        assert (await gateway.get(path)).status == 200
    await eventually(lambda: {*calls.names(*HOOKS)} >= HOOKS - NOT_IN_CALLS)


async def test_filters_and_observers_are_told_of_each_call_once(running):
    gateway, calls = running
    prompts = [("hi", False), ("hi", True), ("refuse", False), ("break", True)]
    for prompt, stream in prompts:
        await ask(gateway, prompt, stream=stream)
    once = ["FilterModule.open", "Filter.request", "Filter.headers", "Filter.done", "Observer.seen"]
    await eventually(lambda: len(calls.names("Observer.seen")) == len(calls.names("Filter.done")) == len(prompts))
    assert Counter(calls.names(*once, "Filter.replied")) == {**dict.fromkeys(once, len(prompts)), "Filter.replied": 2}
