"""The hooks of plugins are called in the order of `plugins/reference.md`, in a stream and in a whole reply.

Two flags, a translator, a filter and an observer have every hook. A profile function notes the calls of their code.
"""

import re
import sys
import threading

import pytest

from tests.helpers.acme_api import acme_api
from tests.helpers.gateway import gate
from tests.helpers.waiting import eventually
from tests.tools.reference_chapters import STEPS

FLAG = """
import orjson
from gateway.contract import json_api, openings, provider_errors, sse_api
from gateway.contract.flag import *
api = 1
dialects = ("NAME",)
routes = (Route("POST", "/NAME/v1/text", "generate"),)
def parse(request): return json_api.parse("NAME", "NAME", request)
def opening(request): return "", openings.text_of(request.top, "prompt")
def dialect_for(caps): return "NAME"
def limit(request): return json_api.limit(request)
def steps(request, target, drop): return request
def build(request, target, drop): return UpstreamRequest("POST", "/v1/text", request.top.body)
def meter(request, target, head): return Meter()
def problem(head, body): return provider_errors.problem_of(head, body)
def stream_type(request): return "text/event-stream"
def decoder(request, target, head): return Decoder(lambda name, payload: "text", lambda event: event.payload == b"[DONE]")
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
"""
TRANSLATOR = """
api = 1
operations = ("generate",)
loses = 1
def open(request, target, drop): return Translation(request)
class Translation:
    def __init__(self, request): self.request = request.with_body("beta_text", {"prompt": "hi", "stream": request.stream})
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


class Calls:
    """The first calls of hooks, in their order, as pairs of the hook and the plugin that has it."""

    def __init__(self, folder):
        self._folder = str(folder)
        self.hooks = []

    def __call__(self, frame, event, _argument):
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(self._folder):
            return
        plugin = re.split(r"[/.]", code.co_filename)[-2]
        owner, _, name = code.co_qualname.rpartition(".")
        hook = f"{owner or PROTOCOLS.get(WHOSE[plugin], 'Flag')}.{name}", WHOSE[plugin]
        if hook not in self.hooks and name.isidentifier() and not name.startswith("_") and name != "places":
            self.hooks.append(hook)


def on_page(*titles):
    """Return the hooks of tables of the page."""
    return [(step.hook, step.whose) for title in titles for step in STEPS[title] if step.hook != "Flag.retry"]


@pytest.mark.parametrize("stream", [False, True])
async def test_hooks_are_called_in_the_order_of_the_page(tmp_path, stream):
    folder = tmp_path / "plugins"
    folder.mkdir()
    for name, source in PLUGINS.items():
        (folder / f"{name}.py").write_text(source)
    calls = Calls(folder)
    threading.setprofile(calls)
    async with acme_api() as url:
        provider = {"baseurl": url, "apikey": "k", "models": ["m"], "compatibility": {"beta_text": True}}
        async with gate(tmp_path, {"p": provider}, plugins=folder, more={"plugins": {"middle": {}}}) as gateway:
            sys.setprofile(calls)
            try:
                reply = await gateway.post("/alpha_text/v1/text", {"model": "m", "prompt": "hi", "stream": stream})
                assert reply.status == 200
                after = on_page("After the call")
                await eventually(lambda: {*after} <= {*calls.hooks})
            finally:
                sys.setprofile(None)
                threading.setprofile(None)
    in_call = [hook for hook in calls.hooks if hook not in after]
    assert in_call == on_page("The request", "A stream" if stream else "A whole reply")
