"""Runs a call through a whole conversion, without sockets: the plugins of the client's and the provider's API, and the
translator between them.

- The plugins' functions are called in the same order as by the gateway (`gateway/call/server.py`, `middleware/`). This
  includes the function `steps`. Every file that `steps` fetches is an image of one pixel. Every loss is recorded.
- The registry lists the conversions. For each dialect, this module adds the path, the model and the rules for a
  request.
- Tests of a translator alone use `translation.py`.
- The expected replies are in the tests.
"""

import base64
import json
import re
from dataclasses import dataclass, field
from functools import cached_property

import orjson

from gateway.contract import lenient_json
from gateway.contract.capabilities import Caps, capabilities
from gateway.contract.conversions import GENERATE, conversions
from gateway.contract.errors import Refused
from gateway.contract.flag import (
    OPAQUE,
    ClientRequest,
    Event,
    Fetch,
    Head,
    HttpRequest,
    Members,
    StepResponse,
    Target,
)
from gateway.contract.registry import Plugin
from gateway.testkit.judge import judge
from gateway.testkit.rules.chat import chat_fault
from gateway.testkit.rules.claude import claude_fault
from gateway.testkit.rules.converse import converse_fault
from gateway.testkit.rules.gemini import gemini_fault
from gateway.testkit.rules.responses import responses_fault
from tests.helpers.own_plugins import discover_own

REGISTRY = discover_own()
CLAUDE = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
GPT = "gpt-4o"
GEMINI = "gemini-3-pro-preview"
MODELS = {"openai_chat": GPT, "openai_responses": GPT, "gemini_generate_content": GEMINI}
"""The model by upstream dialect. Other dialects get a Claude model."""
BASES = {
    "openai_chat": {"messages": [{"role": "user", "content": "Hi"}]},
    "openai_responses": {"input": "Hi"},
    "anthropic_messages": {"max_tokens": 2000, "messages": [{"role": "user", "content": "Hi"}]},
    "bedrock_converse": {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]},
    "gemini_generate_content": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
}
"""The smallest request that makes sense, by the client's dialect. `request_of` adds the model."""
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""An image of one pixel, in base64. Every URL in these tests leads to this image."""
IN_PATH = {
    "bedrock_converse": ("/model/{model:.+}/converse", "/model/{model:.+}/converse-stream"),
    "bedrock_model_invoke": ("/model/{model:.+}/invoke", "/model/{model:.+}/invoke-with-response-stream"),
    "gemini_generate_content": ("/models/{model:.+}:generateContent", "/models/{model:.+}:streamGenerateContent"),
}
"""Paths of the APIs whose clients name the model in the path: one for unstreamed and one for streamed replies."""


def _claudes(bedrock):
    return lambda body, caps: claude_fault(body, caps, bedrock=bedrock)


JUDGES = {
    "anthropic_messages": _claudes(False),
    "bedrock_model_invoke": _claudes(True),
    "bedrock_converse": lambda body, caps: judge("Converse", body) or converse_fault(body, caps),
    "openai_chat": lambda body, _: chat_fault(body),
    "openai_responses": lambda body, _: responses_fault(body),
    "gemini_generate_content": lambda body, _: gemini_fault(body, GEMINI),
}
"""Maps a provider's compatibility flag to a function that checks a request body by the simulated provider's rules."""


@dataclass(frozen=True)
class Conversion:
    """A conversion: a translation, a change of paths and headers only (envelope), or neither (native)."""

    client: Plugin
    dialect: str
    provider: Plugin
    upstream: str
    way: str

    @property
    def name(self):
        return f"{self.client.name}__{self.provider.name}"

    @property
    def translator(self):
        return REGISTRY.translators.get((self.dialect, self.upstream)) if self.way == "translated" else None

    @property
    def model(self):
        return MODELS.get(self.upstream, CLAUDE)

    def target(self, caps=None):
        return Target("p", self.provider.name, self.model, self.upstream, caps or capabilities(self.model))

    def fault(self, body, caps=None):
        return JUDGES[self.provider.name](body, caps or capabilities(self.model))

    def call(self, body, *, stream=False, caps=None, headers=None):
        """Convert a client's request body, and return the converted call. Raises `Refused` if the gateway refuses the
        request.
        """
        return ConvertedCall(self, body, stream, caps, headers or {})


ALL_CONVERSIONS = {
    conversion.name: conversion
    for listed in conversions(REGISTRY)
    if GENERATE in listed.operations and listed.dialect != OPAQUE
    for conversion in [
        Conversion(
            REGISTRY.flags[listed.client],
            listed.dialect,
            REGISTRY.flags[listed.provider],
            listed.upstream,
            listed.way,
        )
    ]
}
"""Every conversion of calls that generate a reply, by name. Requests in an unknown dialect are not among them."""
CONVERSIONS = {name: conversion for name, conversion in ALL_CONVERSIONS.items() if conversion.way != "native"}
"""Every conversion that changes the request, by name."""


def request_of(flag, body, *, stream=False, model=CLAUDE, headers=None):
    """Return a client's request with this body.

    `model` and `stream` are put at the place where the API expects them.
    """
    path = flag.routes[0].path
    params = {}
    if flag.name in IN_PATH:
        path = IN_PATH[flag.name][stream]
        params = {"model": model}
    else:
        body = {"model": model, **body} | ({"stream": True} if stream else {})
    if flag.name == "bedrock_model_invoke":
        body = {"anthropic_version": "bedrock-2023-05-31", **body}
    route = next(route for route in flag.routes if route.path.endswith(path))
    # not orjson, which writes no halves of characters
    return HttpRequest(route, path, "", headers or {}, params, json.dumps(body, separators=(",", ":")).encode())


@dataclass
class ConvertedCall:
    """A converted request, with methods that convert the provider's reply."""

    conversion: Conversion
    body: dict
    stream: bool
    caps: Caps | None
    headers: dict
    dropped: list = field(default_factory=list)
    reply_dropped: list = field(default_factory=list)

    def __post_init__(self):
        self._dropping = self.dropped
        self.target = self.conversion.target(self.caps)
        request = request_of(
            self.conversion.client, self.body, stream=self.stream, model=self.conversion.model, headers=self.headers
        )
        self.client_request = self.conversion.client.parse(request)
        ask = self._stepped(self.conversion.client, self.client_request)
        self.translation = None
        if self.conversion.translator is not None:
            self.translation = self.conversion.translator.open(ask, self.target, self._drop)
            ask = self.translation.request
        self.request = self._stepped(self.conversion.provider, ask)
        self.upstream_request = self.conversion.provider.build(self.request, self.target, self._drop)
        self.meter = self.conversion.provider.meter(self.request, self.target, HEAD)
        self._dropping = self.reply_dropped  # all later losses are those of the reply

    def _drop(self, path):
        if path not in self._dropping:
            self._dropping.append(path)

    def _stepped(self, flag, ask):
        steps = flag.steps(ask, self.target, self._drop)
        if isinstance(steps, ClientRequest):
            return steps
        try:
            wanted = next(steps)
            while True:
                assert isinstance(wanted, Fetch)
                wanted = steps.send(StepResponse(200, {"content-type": "image/png"}, base64.b64decode(PNG)))
        except StopIteration as end:
            return end.value

    @cached_property
    def sent(self):
        return lenient_json.loads(self.upstream_request.body)

    @property
    def fault(self):
        return self.conversion.fault(self.sent, self.caps)

    def whole(self, body):
        """Return the body that the client gets for an unstreamed reply of the provider."""
        body = orjson.dumps(body) if isinstance(body, dict) else body
        body = self.conversion.provider.decoder(self.request, self.target, HEAD).whole(body)
        self.meter.whole(body)
        if self.translation is not None:
            body = self.translation.whole(body)
        return lenient_json.loads(self.conversion.client.encoder(self.client_request).whole(body))

    def streamed(self, *chunks):
        """Return the bytes that the client gets if the provider streams `chunks`.

        Raises `UpstreamFailed` if the stream fails.
        """
        decoder = self.conversion.provider.decoder(self.request, self.target, HEAD)
        encoder = self.conversion.client.encoder(self.client_request)
        out = []
        for chunk in chunks:
            for event in decoder.feed(chunk):
                self.meter.feed(event)
                out += [encoder.feed(each) for each in self._translated(event)]
        out += [encoder.feed(each) for event in decoder.close() for each in self._translated(event)]
        if self.translation is not None:
            out += [encoder.feed(each) for each in self.translation.close()]
        return b"".join([*out, encoder.close()])

    def _translated(self, event):
        return [event] if self.translation is None else self.translation.feed(event)

    def events(self, *chunks):
        """Return the client's events for a provider's stream. Raises `UpstreamFailed` if the stream fails."""
        return read_events(self.conversion.client, self.conversion.dialect, self.streamed(*chunks))


HEAD = Head(200, {})


def _own_ask(flag, dialect, query=""):
    top = Members(b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}')
    return ClientRequest(flag.name, dialect, GENERATE, "POST", "/", query, {}, top, "m", True)


def read_events(flag, dialect, data):
    """Decode the bytes of a stream in an API's format. Return its events, without those that the gateway does not pass
    on to a client.
    """
    decoder = flag.decoder(_own_ask(flag, dialect), Target("p", flag.name, "m", dialect, Caps()), HEAD)
    events = [*decoder.feed(data), *decoder.close()]
    return [event for event in events if event.raw != b"" and event.kind and event.payload.startswith(b"{")]


def encoded(flag, dialect, events):
    """Return the bytes in which a provider streams the given events.

    Each event is given as (event type, data), where data may be bytes of JSON.
    """
    encoder = flag.encoder(_own_ask(flag, dialect, "alt=sse"))  # Gemini's form of a stream for other dialects
    payloads = [(kind, data if isinstance(data, bytes) else orjson.dumps(data)) for kind, data in events]
    return b"".join(encoder.feed(Event(kind, payload)) for kind, payload in payloads) + encoder.close()


_OURS = re.compile(r'("p": ?")[^"]*|("latencyMs": ?)\d+')


def without_padding(text):
    """Return the text without the padding of Bedrock's events and without latencies."""
    return _OURS.sub(lambda match: match[1] or f"{match[2]}0", text)


def refusal(error: Refused):
    problem = error.problem
    return {"code": problem.code, "param": problem.param, "message": problem.message}
