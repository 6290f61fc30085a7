"""Bedrock's InvokeModel, InvokeModelWithResponseStream and CountTokens.

An envelope: for Claude it carries Anthropic's dialect, with the model in the path, the API version in the body, and
each event base64-encoded in a `chunk`. Bodies of other families are opaque: they pass as they are, and their tokens
are read from headers and `amazon-bedrock-invocationMetrics`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import orjson

from gateway import plain
from gateway.caps import base_id
from gateway.errors import BadFrame, Problem, Truncated
from gateway.flag import OPAQUE, Ask, Caps, Decoder, Drop, Event, Head, Members, Meter, Request, Send, Target
from gateway.framing import eventstream
from gateway_plugins.parts import anthropic_text, bedrock, claude_on_bedrock, lenient, opaque_facts
from gateway_plugins.parts.anthropic_facts import INVOCATION_METRICS
from gateway_plugins.parts.anthropic_facts import Meter as AnthropicMeter

api = 1
dialects = ("anthropic_messages", OPAQUE)
routes = bedrock.routes(
    ("invoke", "generate"), ("invoke-with-response-stream", "generate"), ("count-tokens", "count_tokens")
)
content_type = bedrock.CONTENT_TYPE
problem = bedrock.problem
error = bedrock.error
texts = anthropic_text.texts
with_text = anthropic_text.with_text

CHUNK: Final = "chunk"
"""Also the kind of an opaque body's events."""
_TYPE: Final = re.compile(rb'\s*\{\s*"type"\s*:\s*"([a-z_]+)"')
_PADDING: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def parse(request: Request) -> Ask:
    top = Members(request.body)
    dialect = "anthropic_messages" if "anthropic_version" in top else OPAQUE
    return bedrock.parse("bedrock_model_invoke", dialect, request, top)


def dialect_for(caps: Caps) -> str:
    return caps.invoke_dialect


def build(ask: Ask, target: Target, drop: Drop) -> Send:
    headers = bedrock.request_headers(ask.headers)
    own = ask.flag == "bedrock_model_invoke"
    if ask.operation == "count_tokens":
        if own:
            return bedrock.send(target, "count-tokens", ask.top.body, headers)
        # the operation refuses ids of inference profiles, which is what Claude is called by (litellm#32683)
        base = replace(target, model=base_id(target.model))
        return bedrock.send(base, "count-tokens", claude_on_bedrock.count_tokens_body(ask, target, drop), headers)
    operation = "invoke-with-response-stream" if ask.stream else "invoke"
    if own:
        body = claude_on_bedrock.with_version(ask.top, target)
    else:
        body = claude_on_bedrock.body(ask, target, drop)
        headers |= claude_on_bedrock.headers(ask, drop)
    return bedrock.send(target, operation, body, headers)


def limit(ask: Ask) -> int | None:
    """Anthropic's and most others' member, or the one of the model's family; the largest of several."""
    found = (plain.limit(ask), *(bedrock.limit(ask, *path) for path in _LIMITS))
    return max((limit for limit in found if limit is not None), default=None)


_LIMITS: Final = (
    ("inferenceConfig", "maxTokens"),
    ("inferenceConfig", "max_new_tokens"),
    ("textGenerationConfig", "maxTokenCount"),
    ("max_gen_len",),
    ("maxTokens",),
)
"""Where Nova, Titan, Llama and Jamba have it (AWS user guide, inference parameters of each model)."""


def decoder(ask: Ask, target: Target, head: Head) -> Decoder:
    _ = head
    return InvokeDecoder(ask.operation, target.dialect)


class InvokeDecoder:
    """Chunks to the events inside them.

    Claude's `message_delta` is held back until the next event: where cache tokens are reported only by the metrics at
    the very end (GovCloud, litellm), clients still find them where Anthropic puts them. Its count of the output goes
    on at once, as metrics that no client is shown.
    """

    def __init__(self, operation: str, dialect: str) -> None:
        self.done = False
        self._operation = operation
        self._claude = dialect != OPAQUE
        self._frames = eventstream.Decoder()
        self._start: dict[str, Any] = {}
        self._held: Event | None = None

    def feed(self, data: bytes) -> Iterator[Event]:
        for frame in self._frames.feed(data):
            if (failure := bedrock.stream_failure(frame)) is not None:
                yield from self._release({})
                raise failure
            yield from self._event(_inner(frame.payload), frame.raw)

    def close(self) -> Iterator[Event]:
        yield from self._release({})
        if not self.done or self._frames.pending:
            raise Truncated

    def whole(self, body: bytes) -> bytes:
        if self._operation == "count_tokens":
            return orjson.dumps({"input_tokens": plain.decoded(body).get("inputTokens", 0)})
        return body

    def _event(self, inner: bytes, raw: bytes) -> Iterator[Event]:
        metrics: dict[str, Any] = {}
        if INVOCATION_METRICS.encode() in inner:
            members = plain.members(inner)
            metrics = lenient.mapping(members.decode(INVOCATION_METRICS))
            inner = members.spliced({INVOCATION_METRICS: None})
        event = Event(_kind(inner) if self._claude else CHUNK, inner, raw)
        yield from self._release(metrics)
        if metrics:
            yield Event(INVOCATION_METRICS, orjson.dumps(metrics), b"")
        if event.kind == "message_start":
            message = lenient.mapping(lenient.mapping(event.data).get("message"))
            self._start = lenient.mapping(message.get("usage"))
        self.done = self.done or event.kind == "message_stop" or (not self._claude and bool(metrics))
        if event.kind == "message_delta":
            self._held = event
            # who leaves before the last event has had all of the output
            yield Event(INVOCATION_METRICS, orjson.dumps(_counted(event)), b"")
        else:
            yield event

    def _release(self, metrics: dict[str, Any]) -> Iterator[Event]:
        held, self._held = self._held, None
        if held is not None:
            yield claude_on_bedrock.completed(held, self._start, metrics)


def _counted(delta: Event) -> dict[str, Any]:
    """The output of a `message_delta` as metrics have it, for the meter."""
    return {"outputTokenCount": lenient.mapping(lenient.mapping(delta.data).get("usage")).get("output_tokens")}


def _inner(payload: bytes) -> bytes:
    try:
        return base64.b64decode(orjson.loads(payload)["bytes"], validate=True)
    except (orjson.JSONDecodeError, KeyError, TypeError, binascii.Error):
        raise BadFrame("the provider's stream has a chunk without its bytes") from None


def _kind(inner: bytes) -> str:
    if found := _TYPE.match(inner):
        return found[1].decode()
    return lenient.text(lenient.mapping(Event("", inner).data).get("type"))


def written(event: Event) -> int:
    """What a model wrote; in an event that nobody here understands, all its texts."""
    return opaque_facts.written(event) if event.kind == CHUNK else anthropic_text.written(event)


def meter(ask: Ask, target: Target, head: Head) -> Meter:
    _ = ask
    known = opaque_facts.usage_of_headers(head.headers)
    tier = opaque_facts.tier_of_headers(head.headers)
    return opaque_facts.Meter(known, tier) if target.dialect == OPAQUE else AnthropicMeter(known, tier)


class Encoder:
    """Events of Anthropic's dialect to chunks, with the metrics that Bedrock puts into the last one."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._meter = AnthropicMeter()

    def feed(self, event: Event) -> bytes:
        self._meter.feed(event)
        if event.kind == INVOCATION_METRICS or not event.payload or event.kind == "ping":
            return b""
        payload = event.payload
        if event.kind == "message_stop":
            payload = orjson.dumps({**lenient.mapping(event.data), INVOCATION_METRICS: self._metrics()})
        encoded = base64.b64encode(payload).decode()
        # padding hides the length of a token from who sees only the lengths of frames; Bedrock does the same
        padding = _PADDING[: 1 + hash(encoded) % len(_PADDING)]
        return bedrock.message(CHUNK, orjson.dumps({"bytes": encoded, "p": padding}))

    def whole(self, body: bytes) -> bytes:
        if self._ask.operation == "count_tokens":
            return orjson.dumps({"inputTokens": plain.decoded(body).get("input_tokens", 0)})
        return body

    def ping(self) -> bytes:
        return b""

    def fail(self, problem: Problem) -> bytes:
        return bedrock.failure_frame(problem)

    def close(self) -> bytes:
        return b""

    def _metrics(self) -> dict[str, int]:
        usage = self._meter.facts().usage
        return {
            "inputTokenCount": usage.input,
            "outputTokenCount": usage.output,
            "cacheReadInputTokenCount": usage.cache_read,
            "cacheWriteInputTokenCount": usage.cache_write_5m + usage.cache_write_1h,
        }


def encoder(ask: Ask) -> Encoder:
    return Encoder(ask)
