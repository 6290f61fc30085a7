"""Bedrock's InvokeModel, InvokeModelWithResponseStream and CountTokens.

- For Claude, InvokeModel is an envelope around Anthropic's dialect: the model is in the path, the API version in the
  body, and each event is base64-encoded in a `chunk`.
- Bodies of other families are opaque: they pass unchanged, and their tokens are read from headers and from
  `amazon-bedrock-invocationMetrics`.
- CountTokens wraps requests of InvokeModel and of Converse; `dialects/bedrock/counting.py` has its steps.
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
from gateway_plugins.dialects.anthropic_messages import facts as messages_facts
from gateway_plugins.dialects.anthropic_messages import text as messages_text
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
"""Type of InvokeModel's frames, and the kind of an opaque body's events."""
_OWN: Final = "bedrock_model_invoke"
_CLAUDE_DIALECT: Final = "anthropic_messages"
_TYPE: Final = re.compile(rb'\s*\{\s*"type"\s*:\s*"([a-z_]+)"')
_LIMITS: Final = (
    ("inferenceConfig", "maxTokens"),
    ("inferenceConfig", "max_new_tokens"),
    ("textGenerationConfig", "maxTokenCount"),
    ("max_gen_len",),
    ("maxTokens",),
)
"""Paths of output limits in bodies of Nova, Titan, Llama and Jamba (AWS user guide, inference parameters)."""


def parse(request: HttpRequest) -> ClientRequest:
    if request.route.operation == COUNT_TOKENS:
        return counting.parse(_OWN, request)
    top = Members(request.body)
    dialect = _CLAUDE_DIALECT if "anthropic_version" in top else OPAQUE
    return runtime_api.parse(_OWN, dialect, request, top)


def dialect_for(caps: Caps) -> str:
    """Return Anthropic's dialect for Claude. Bodies of other models are opaque, a chat's too, which some take."""
    return caps.invoke_dialect if caps.invoke_dialect == _CLAUDE_DIALECT else OPAQUE


def steps(
    request: ClientRequest, target: Target, drop: Drop
) -> Generator[UpstreamRequest | Fetch, StepResponse, ClientRequest | StepResponse]:
    """Fetch files, and count tokens, which takes several requests if Bedrock refuses the first.

    Headers of InvokeModel for which the provider has no words are reported as dropped.
    """
    result = yield from remote_files.steps(request, target, drop)
    if isinstance(result, StepResponse):
        return result
    if target.flag != _OWN:
        runtime_api.drop_headers(result.headers, target.flag, drop)
    elif result.operation == COUNT_TOKENS:
        return (yield from counting.steps(result, target, drop))
    return result


def build(request: ClientRequest, target: Target, drop: Drop) -> UpstreamRequest:
    if request.operation == COUNT_TOKENS:
        return counting.count_request(request, target, drop)
    headers = runtime_api.request_headers(request.headers)
    if request.flag == _OWN:
        body = claude_on_bedrock.native_body(request.top, target, drop)
    else:
        body = claude_on_bedrock.body(request, target, drop)
        headers |= claude_on_bedrock.headers(request)
    return runtime_api.upstream_request(
        target, "invoke-with-response-stream" if request.stream else "invoke", body, headers
    )


def retry(request: ClientRequest, target: Target, problem: Problem, drop: Drop) -> ClientRequest | None:
    """Return the request as it was sent, without betas, if Bedrock does not know one (claude-code#56595)."""
    if target.dialect == OPAQUE or not messages_betas.is_refusal(problem):
        return None
    sent = build(request, target, drop)
    # the body is one of this envelope now, to which nothing is added; the client's header was never sent
    return messages_betas.retry_without_betas(
        replace(request, flag=_OWN, headers=sent.headers, top=Members(sent.body)), drop
    )


def limit(request: ClientRequest) -> int | None:
    """Return the largest output limit, of the common member or of a family's own."""
    limits = (json_api.limit(request), *(runtime_api.limit(request, *path) for path in _LIMITS))
    return max((limit for limit in limits if limit is not None), default=None)


def decoder(request: ClientRequest, target: Target, _head: Head) -> Decoder:
    return InvokeDecoder(request.operation, target.dialect)


class InvokeDecoder:
    """Decodes chunks to the events inside them.

    Claude's `message_delta` waits for the next event: if cache tokens are reported only by the metrics at the very end
    (GovCloud, litellm), clients find them in `message_delta` all the same, as with Anthropic. Its count of the output
    goes to the meter at once, as an event of metrics that no client receives.
    """

    def __init__(self, operation: str, dialect: str) -> None:
        self.done = False
        self._operation = operation
        self._claude = dialect != OPAQUE
        self._frames = eventstream.Decoder()
        self._start: dict[str, Any] = {}
        self._waiting: Event | None = None

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
            return orjson.dumps(counting.neutral_count(body))
        return body

    def _event(self, inner: bytes, raw: bytes) -> Iterator[Event]:
        metrics: dict[str, Any] = {}
        if messages_facts.INVOCATION_METRICS.encode() in inner:
            members = json_api.json_members(inner)
            metrics = lenient.mapping(members.decode(messages_facts.INVOCATION_METRICS))
            inner = members.spliced({messages_facts.INVOCATION_METRICS: None})
        event = Event(_kind(inner) if self._claude else CHUNK, inner, raw)
        yield from self._release(metrics)
        if metrics:
            yield Event(messages_facts.INVOCATION_METRICS, orjson.dumps(metrics), b"")
        if event.kind == "message_start":
            message = lenient.mapping(lenient.mapping(event.data).get("message"))
            self._start = lenient.mapping(message.get("usage"))
        self.done = self.done or event.kind == "message_stop" or (not self._claude and bool(metrics))
        if event.kind == "message_delta":
            self._waiting = event
            # a client that leaves before the last event has received the whole output
            yield Event(messages_facts.INVOCATION_METRICS, orjson.dumps(_output_metrics(event)), b"")
        else:
            yield event

    def _release(self, metrics: dict[str, Any]) -> Iterator[Event]:
        delta, self._waiting = self._waiting, None
        if delta is not None:
            yield claude_on_bedrock.with_counts(delta, self._start, metrics)


def _output_metrics(delta: Event) -> dict[str, Any]:
    """Return the output tokens of a `message_delta` in the form of metrics."""
    return {"outputTokenCount": lenient.mapping(lenient.mapping(delta.data).get("usage")).get("output_tokens")}


def _inner(payload: bytes) -> bytes:
    try:
        return base64.b64decode(orjson.loads(payload)["bytes"], validate=True)
    except (orjson.JSONDecodeError, KeyError, TypeError, binascii.Error):
        raise BadFrame("the provider's stream has a chunk without its bytes") from None


def _kind(inner: bytes) -> str:
    if match := _TYPE.match(inner):
        return match[1].decode()
    return lenient.text(lenient.mapping(Event("", inner).data).get("type"))


def output_bytes(event: Event) -> int:
    """Return the bytes of the model's output; in an opaque event, those of all its texts."""
    return opaque_facts.output_bytes(event) if event.kind == CHUNK else messages_text.output_bytes(event)


def meter(_request: ClientRequest, target: Target, head: Head) -> Meter:
    known = opaque_facts.usage_of_headers(head.headers)
    tier = opaque_facts.tier_of_headers(head.headers)
    return opaque_facts.Meter(known, tier) if target.dialect == OPAQUE else messages_facts.Meter(known, tier)


class Encoder:
    """Encodes events of Anthropic's dialect to chunks, with Bedrock's metrics in the last one."""

    def __init__(self, request: ClientRequest) -> None:
        self._request = request
        self._meter = messages_facts.Meter()

    def feed(self, event: Event) -> bytes:
        self._meter.feed(event)
        if event.kind == messages_facts.INVOCATION_METRICS or not event.payload or event.kind == "ping":
            return b""
        payload = event.payload
        if event.kind == "message_stop":
            payload = orjson.dumps({**lenient.mapping(event.data), messages_facts.INVOCATION_METRICS: self._metrics()})
        encoded = base64.b64encode(payload).decode()
        return runtime_api.message(CHUNK, runtime_api.padded(orjson.dumps({"bytes": encoded})))

    def whole(self, body: bytes) -> bytes:
        if self._request.operation == COUNT_TOKENS:
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
    """Return the headers with the token counts too, which LangChain reads nowhere else."""
    counts = {} if usage is None else opaque_facts.headers_of(usage)
    return {**runtime_api.reply_headers(request_id, usage), **counts}


def encoder(request: ClientRequest) -> Encoder:
    return Encoder(request)
