"""Test plugins whose hooks fail in a way that the test chooses, and the folder in which the gateway finds them.

The plugins' API format is Chat Completions under other names. The clients use the format `acme`. Calls to a provider of
`acme` are passed on unchanged. For a provider of `acme_envelope`, only paths and headers are changed. For a provider of
`acme_upstream`, the translator `acme__acme_upstream` translates the calls.
"""

import asyncio
import json
from dataclasses import replace

from gateway.contract import errors
from gateway.contract.flag import UpstreamRequest
from gateway.contract.json_api import parse
from gateway.contract.registry import load_plugin
from gateway_plugins import openai_chat

REAL = load_plugin("openai_chat", openai_chat)
FLAG = """
from gateway.contract.flag import Route
from tests.helpers.plugin_faults import FAULTS, Flag

api = 1
dialects = ("{dialect}",)
routes = {routes}


def called(hook, function, *args):
    return FAULTS.answer("{name}", hook, function, *args)


flag = Flag("{name}", "{dialect}", called)
parse, dialect_for, build, steps, retry, limit, problem, decoder, meter, encoder, output_bytes, error, reply_headers = (
    flag.hooks()
)
"""
TRANSLATOR = """
from tests.helpers.plugin_faults import FAULTS, Translation

api = 1
loses = 10
operations = ("generate",)


def called(hook, function, *args):
    return FAULTS.answer("acme__acme_upstream", hook, function, *args)


def open(request, target, drop):
    return called("open", Translation, called, request)
"""
WAYS = {"native": "acme", "envelope": "acme_envelope", "translated": "acme_upstream"}
"""The provider's compatibility flag, by the kind of conversion."""
HOOKS = (
    "parse", "dialect_for", "build", "steps", "retry", "limit", "problem", "decoder", "meter", "encoder",
    "output_bytes", "error", "reply_headers",
)  # fmt: skip


class Faults:
    """Makes one hook fail in a chosen way. Every call of a hook goes through `answer`."""

    def __init__(self):
        self.clear()

    def clear(self):
        self.plugin = self.hook = self.fault = None
        self.failed = 0

    def set(self, plugin, hook, fault):
        self.plugin, self.hook, self.fault, self.failed = plugin, hook, fault, 0

    def answer(self, plugin, hook, function, *args):
        if (plugin, hook) != (self.plugin, self.hook):
            return function(*args)
        self.failed += 1
        return self.fault()


FAULTS = Faults()


def raises(error):
    def fault():
        raise error

    return fault


def recurses():
    return recurses()


async def coroutine():
    pass


def fails_to_speak():
    class Mute(Exception):
        def __str__(self):
            raise ValueError

    raise Mute


USUAL = {
    "exception": raises(ValueError("a plugin may fail")),
    "exit": raises(SystemExit(3)),
    "type": object,
    "coroutine": coroutine,
}
UNUSUAL = {
    "interrupt": raises(KeyboardInterrupt()),
    "recursion": recurses,
    "memory": raises(MemoryError()),
    "cancelled": raises(asyncio.CancelledError()),
    "stop": raises(StopIteration()),
    "connection": raises(ConnectionResetError()),
    "generator": raises(GeneratorExit()),
    "mute": fails_to_speak,
    "no problem": raises(errors.Refused(errors.Problem("no such code", 5))),
    "none": lambda: None,
    "generated": lambda: (value for value in (1, 2)),
    "text": lambda: "a text",
}


class Object:
    """An object that a plugin has made. Its methods are hooks."""

    def __init__(self, name, called, real):
        self._name, self._called, self._real = name, called, real

    def __getattr__(self, method):
        real = getattr(self._real, method)
        return (lambda *args: self._called(f"{self._name}.{method}", real, *args)) if callable(real) else real


class Flag:
    """A compatibility flag with the hooks of Chat Completions, but with a name of its own."""

    def __init__(self, name, dialect, called):
        self._name, self._dialect, self._called = name, dialect, called

    def hooks(self):
        return [self._hook(name, getattr(self, f"_{name}", None) or getattr(REAL, name)) for name in HOOKS]

    def _hook(self, name, function):
        return lambda *args: self._called(name, function, *args)

    def _parse(self, request):
        return parse(self._name, self._dialect, request)

    def _dialect_for(self, _caps):
        return self._dialect

    def _build(self, request, target, drop):
        return UpstreamRequest("POST", "/chat", request.top.body, headers={"content-type": "application/json"})

    def _decoder(self, *args):
        return Object("decoder", self._called, REAL.decoder(*args))

    def _meter(self, *args):
        return Object("meter", self._called, REAL.meter(*args))

    def _encoder(self, *args):
        return Object("encoder", self._called, REAL.encoder(*args))


class Translation:
    """A translation that changes nothing but the name of the request's dialect."""

    def __init__(self, called, request):
        self._called = called
        self.request = replace(request, dialect="acme_upstream")

    def feed(self, event):
        return self._called("translation.feed", lambda: [event])

    def whole(self, body):
        return self._called("translation.whole", lambda: body)

    def close(self):
        return self._called("translation.close", list)


def write(folder):
    """Write the plugins into a new folder, and return it."""
    folder.mkdir()
    for name, dialect in (("acme", "acme"), ("acme_envelope", "acme"), ("acme_upstream", "acme_upstream")):
        routes = '(Route("POST", "/acme/chat", "generate"),)' if name == "acme" else "()"
        (folder / f"{name}.py").write_text(FLAG.format(name=name, dialect=dialect, routes=routes))
    (folder / "acme__acme_upstream.py").write_text(TRANSLATOR)
    return folder


def providers(url):
    """Return a provider for each kind of conversion (native, envelope, translated).

    Its model has the name of the kind.
    """
    return {
        way: {
            "baseurl": url, "apikey": "k", "models": [way], "compatibility": {flag: True}, "cost_basis": "openai",
            "model_cost_map": [{"match": "**", "as": "openai/gpt-4o"}],
        }
        for way, flag in WAYS.items()
    }  # fmt: skip


CHUNKS = (
    {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [
        {"index": 0, "delta": {"role": "assistant", "content": "hello"}, "finish_reason": None}]},
    {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [
        {"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [],
     "usage": {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}},
)  # fmt: skip
STREAM = b"".join(b"data: %s\n\n" % json.dumps(chunk).encode() for chunk in CHUNKS) + b"data: [DONE]\n\n"
WHOLE = json.dumps({
    "id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8},
}).encode()  # fmt: skip
REFUSAL = json.dumps({"error": {"message": "no", "type": "invalid_request_error"}}).encode()
