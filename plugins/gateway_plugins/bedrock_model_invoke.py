"""Bedrock's InvokeModel, InvokeModelWithResponseStream and CountTokens.

An envelope: for Claude it carries Anthropic's dialect, with the model in the path, the API version in the body, and
each event base64-encoded in a `chunk`. Bodies of other families are opaque: they pass as they are, and their tokens
are read from headers and `amazon-bedrock-invocationMetrics`. CountTokens also wraps requests of Converse; how it is
asked, and what stands in for it, is in `dialects/bedrock/counting.py`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Any, Final

import orjson

from gateway.contract import json_api
from gateway.contract.errors import BadFrame, Problem, Truncated
from gateway.contract.flag import (
    COUNT_TOKENS,
    OPAQUE,
    Caps,
    ClientRequest,
    Decoder,
    Drop,
    Event,
    Fetch,
    Head,
    HttpRequest,
    Members,
    Meter,
    StepResponse,
    Target,
    UpstreamRequest,
    Usage,
)
from gateway.contract.framing import eventstream
from gateway_plugins.dialects.anthropic_messages import betas as messages_betas
from gateway_plugins.dialects.anthropic_messages import text as messages_text
from gateway_plugins.dialects.anthropic_messages.facts import INVOCATION_METRICS
from gateway_plugins.dialects.anthropic_messages.facts import Meter as AnthropicMeter
from gateway_plugins.dialects.bedrock import claude_on_bedrock, counting, opaque_facts, runtime_api
from gateway_plugins.shared import lenient, remote_files

api = 1
dialects = ("anthropic_messages", OPAQUE)
routes = runtime_api.routes(
    ("invoke", "generate"), ("invoke-with-response-stream", "generate"), ("count-tokens", COUNT_TOKENS)
)
client_api = runtime_api.CLIENT_API
content_type = runtime_api.CONTENT_TYPE
problem = runtime_api.problem_for
error = runtime_api.error
texts = messages_text.texts
with_text = messages_text.with_text

CHUNK: Final = "chunk"
"""Also the kind of an opaque body's events."""
_OWN: Final = "bedrock_model_invoke"
_CLAUDES: Final = "anthropic_messages"
_TYPE: Final = re.compile(rb'\s*\{\s*"type"\s*:\s*"([a-z_]+)"')


def parse(request: HttpRequest) -> ClientRequest:
    if request.route.operation == COUNT_TOKENS:
        return counting.parse(_OWN, request)
    top = Members(request.body)
    dialect = _CLAUDES if "anthropic_version" in top else OPAQUE
    return runtime_api.parse(_OWN, dialect, request, top)


def dialect_for(caps: Caps) -> str:
    """Claude's bodies are known in this envelope; a chat's, which some others take, pass as they are."""
    return caps.invoke_dialect if caps.invoke_dialect == _CLAUDES else OPAQUE


def steps(
    ask: ClientRequest, target: Target, drop: Drop
) -> Generator[UpstreamRequest | Fetch, StepResponse, ClientRequest | StepResponse]:
    """Files are fetched; tokens are counted, since one refusal is not the end of it.

    A client's headers that its provider has no words for are lost aloud.
    """
    found = yield from remote_files.steps(ask, target, drop)
    if isinstance(found, StepResponse):
        return found
    if target.flag != _OWN:
        runtime_api.lose_headers(found.headers, target.flag, drop)
    elif found.operation == COUNT_TOKENS:
        return (yield from counting.steps(found, target, drop))
    return found


def build(ask: ClientRequest, target: Target, drop: Drop) -> UpstreamRequest:
    if ask.operation == COUNT_TOKENS:
        return counting.send(ask, target, drop)
    headers = runtime_api.request_headers(ask.headers)
    if ask.flag == _OWN:
        body = claude_on_bedrock.native_body(ask.top, target, drop)
    else:
        body = claude_on_bedrock.body(ask, target, drop)
        headers |= claude_on_bedrock.headers(ask)
    return runtime_api.send(target, "invoke-with-response-stream" if ask.stream else "invoke", body, headers)


def retry(ask: ClientRequest, target: Target, problem: Problem, drop: Drop) -> ClientRequest | None:
    """The body as it was sent, without its betas, where one of them is not known (claude-code#56595)."""
    if target.dialect == OPAQUE or not messages_betas.is_refusal(problem):
        return None
    sent = build(ask, target, drop)
    # from here on a body of this envelope, which nothing is put into any more; the client's header never went along
    return messages_betas.retry_without_betas(
        replace(ask, flag=_OWN, headers=sent.headers, top=Members(sent.body)), drop
    )


def limit(ask: ClientRequest) -> int | None:
    """Anthropic's and most others' member, or the one of the model's family; the largest of several."""
    found = (json_api.limit(ask), *(runtime_api.limit(ask, *path) for path in _LIMITS))
    return max((limit for limit in found if limit is not None), default=None)


_LIMITS: Final = (
    ("inferenceConfig", "maxTokens"),
    ("inferenceConfig", "max_new_tokens"),
    ("textGenerationConfig", "maxTokenCount"),
    ("max_gen_len",),
    ("maxTokens",),
)
"""Where Nova, Titan, Llama and Jamba have it (AWS user guide, inference parameters of each model)."""


def decoder(ask: ClientRequest, target: Target, head: Head) -> Decoder:
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
            if (failure := runtime_api.stream_failure(frame)) is not None:
                yield from self._release({})
                raise failure
            yield from self._event(_inner(frame.payload), frame.raw)

    def close(self) -> Iterator[Event]:
        yield from self._release({})
        if not self.done or self._frames.pending:
            raise Truncated

    def whole(self, body: bytes) -> bytes:
        if self._operation == COUNT_TOKENS:
            return orjson.dumps(counting.told(body))
        return body

    def _event(self, inner: bytes, raw: bytes) -> Iterator[Event]:
        metrics: dict[str, Any] = {}
        if INVOCATION_METRICS.encode() in inner:
            members = json_api.json_members(inner)
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


def output_bytes(event: Event) -> int:
    """What a model wrote; in an event that nobody here understands, all its texts."""
    return opaque_facts.output_bytes(event) if event.kind == CHUNK else messages_text.output_bytes(event)


def meter(ask: ClientRequest, target: Target, head: Head) -> Meter:
    _ = ask
    known = opaque_facts.usage_of_headers(head.headers)
    tier = opaque_facts.tier_of_headers(head.headers)
    return opaque_facts.Meter(known, tier) if target.dialect == OPAQUE else AnthropicMeter(known, tier)


class Encoder:
    """Events of Anthropic's dialect to chunks, with the metrics that Bedrock puts into the last one."""

    def __init__(self, ask: ClientRequest) -> None:
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
        return runtime_api.message(CHUNK, runtime_api.padded(orjson.dumps({"bytes": encoded})))

    def whole(self, body: bytes) -> bytes:
        if self._ask.operation == COUNT_TOKENS:
            return orjson.dumps({"inputTokens": json_api.json_object(body).get("input_tokens", 0)})
        return body

    def ping(self) -> bytes:
        return b""

    def fail(self, problem: Problem) -> bytes:
        return runtime_api.failure_frame(problem)

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


def reply_headers(request_id: str, usage: Usage | None) -> dict[str, str]:
    """The token counts too: LangChain reads them there, and nowhere else."""
    counts = {} if usage is None else opaque_facts.headers_of(usage)
    return {**runtime_api.reply_headers(request_id, usage), **counts}


def encoder(ask: ClientRequest) -> Encoder:
    return Encoder(ask)
