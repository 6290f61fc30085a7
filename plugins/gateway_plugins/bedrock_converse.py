"""Bedrock's Converse and ConverseStream: one dialect for all its models.

Source: botocore's service model of bedrock-runtime; the order of a stream's events from recorded traffic. `metadata`,
with the usage, comes after `messageStop`. CountTokens has its route in `bedrock_model_invoke.py` and is taken here too.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Any, Final

import orjson

from gateway.contract import json_api
from gateway.contract.errors import Problem, Truncated
from gateway.contract.flag import (
    COUNT_TOKENS,
    ClientRequest,
    Decoder,
    Drop,
    Event,
    Facts,
    Fetch,
    Head,
    HttpRequest,
    Members,
    Meter,
    StepResponse,
    Target,
    UpstreamRequest,
)
from gateway.contract.framing import eventstream
from gateway_plugins.dialects.anthropic_messages import betas as messages_betas
from gateway_plugins.dialects.bedrock import counting, runtime_api, tagged_history
from gateway_plugins.dialects.bedrock_converse.facts import has_tokens, tier_of, usage_of
from gateway_plugins.shared import lenient

_OWN: Final = "bedrock_converse"
_MORE: Final = "additionalModelRequestFields"

api = 1
dialects = (_OWN,)
routes = runtime_api.routes(("converse", "generate"), ("converse-stream", "generate"))
accepts = (("bedrock_model_invoke", COUNT_TOKENS),)
client_api = runtime_api.CLIENT_API
content_type = runtime_api.CONTENT_TYPE
problem = runtime_api.problem_for
error = runtime_api.error
reply_headers = runtime_api.reply_headers


def parse(request: HttpRequest) -> ClientRequest:
    return runtime_api.parse("bedrock_converse", "bedrock_converse", request, Members(request.body))


def steps(
    ask: ClientRequest, target: Target, drop: Drop
) -> Generator[UpstreamRequest | Fetch, StepResponse, ClientRequest | StepResponse]:
    if ask.operation == COUNT_TOKENS and target.flag == _OWN:
        return counting.steps(ask, target, drop)
    return json_api.no_steps(ask, target, drop)


def build(ask: ClientRequest, target: Target, drop: Drop) -> UpstreamRequest:
    if ask.operation == COUNT_TOKENS:
        return counting.send(ask, target, drop)
    changes = tagged_history.of_converse(ask.top, target.caps.family, drop)
    headers = runtime_api.request_headers(ask.headers)
    if ask.flag != _OWN:
        headers, more = runtime_api.as_members(headers, ask.top)
        changes |= more
    changes |= _betas(ask, target, drop)
    body = ask.top.spliced(changes) if changes else ask.top.body
    return runtime_api.send(target, "converse-stream" if ask.stream else "converse", body, headers)


def _betas(ask: ClientRequest, target: Target, drop: Drop) -> dict[str, bytes | None]:
    """Changes where the configuration drops a beta that the body names."""
    if not messages_betas.drops_any(target.options) or messages_betas.MEMBER.encode() not in ask.top.get(_MORE, b""):
        return {}
    more = _more(ask.top)
    given = messages_betas.body_betas(more)
    kept = messages_betas.remove_dropped(given, target.options, drop)
    if kept == given:
        return {}
    return {_MORE: more.spliced({messages_betas.MEMBER: orjson.dumps(kept) if kept else None})}


def retry(ask: ClientRequest, target: Target, problem: Problem, drop: Drop) -> ClientRequest | None:
    """The request without betas, where one of them is not known; they stand among the fields of the model's own."""
    _ = target
    if not messages_betas.is_refusal(problem) or _MORE not in ask.top:
        return None
    inner = messages_betas.retry_without_betas(replace(ask, headers={}, top=_more(ask.top)), drop)
    return inner and replace(ask, top=Members(ask.top.spliced({_MORE: inner.top.body})))


def _more(top: Members) -> Members:
    """The fields of the model's own. Raises `Refused` for what is no object."""
    return Members(top.get(_MORE, b"{}"))


def limit(ask: ClientRequest) -> int | None:
    """Converse's own, or one that is handed to the model past it; the largest of several."""
    found = (runtime_api.limit(ask, *path) for path in _LIMITS)
    return max((limit for limit in found if limit is not None), default=None)


_LIMITS: Final = (
    ("inferenceConfig", "maxTokens"),
    *(("additionalModelRequestFields", name) for name in ("max_tokens", "max_completion_tokens", "max_gen_len")),
    ("additionalModelRequestFields", "inferenceConfig", "max_new_tokens"),
)


def decoder(ask: ClientRequest, target: Target, head: Head) -> Decoder:
    _ = target, head
    return ConverseDecoder(ask.operation)


class ConverseDecoder:
    """Frames to events; the kind is the frame's event type.

    With `messageStop` the message is complete: if the stream breaks off behind it, only the usage is unknown.
    """

    def __init__(self, operation: str = "") -> None:
        self.done = False
        self._operation = operation
        self._frames = eventstream.Decoder()

    def feed(self, data: bytes) -> Iterator[Event]:
        for frame in self._frames.feed(data):
            if (failure := runtime_api.stream_failure(frame)) is not None:
                raise failure
            kind = frame.headers.get(":event-type", "")
            self.done = self.done or kind == "messageStop"
            yield Event(kind, frame.payload, frame.raw)

    def close(self) -> Iterator[Event]:
        # half a frame is a fault wherever it stands; without any frame after the last event only the usage is missing
        if not self.done or self._frames.pending:
            raise Truncated
        return iter(())

    def whole(self, body: bytes) -> bytes:
        return orjson.dumps(counting.told(body)) if self._operation == COUNT_TOKENS else body


class ConverseMeter:
    """Usage comes with `metadata`, tools with `contentBlockStart`, the stop reason with `messageStop`."""

    def __init__(self, model: str) -> None:
        self._facts = Facts(model=model)

    def feed(self, event: Event) -> None:
        if (read := _READERS.get(event.kind)) is not None:
            read(self, lenient.mapping(event.data))

    def whole(self, body: bytes) -> None:
        data = json_api.json_object(body)
        self._metadata(data)
        self._stop(data)
        message = lenient.mapping(lenient.mapping(data.get("output")).get("message"))
        for block in lenient.sequence(message.get("content")):
            self._tool(block)

    def facts(self) -> Facts:
        return self._facts

    def _start(self, data: Any) -> None:
        self._tool(data.get("start"))

    def _tool(self, block: Any) -> None:
        if tool := lenient.mapping(lenient.mapping(block).get("toolUse")):
            self._facts.tools.append(lenient.text(tool.get("name")))

    def _stop(self, data: Any) -> None:
        self._facts.stop = lenient.text(data.get("stopReason")) or self._facts.stop

    def _metadata(self, data: Any) -> None:
        usage = lenient.mapping(data.get("usage"))
        if has_tokens(usage):
            self._facts.usage.merge(usage_of(usage))
            self._facts.reported = True
        self._facts.tier = tier_of(data) or self._facts.tier


_READERS: Final = {
    "contentBlockStart": ConverseMeter._start,  # noqa: SLF001 (its own table)
    "messageStop": ConverseMeter._stop,  # noqa: SLF001
    "metadata": ConverseMeter._metadata,  # noqa: SLF001
}


def meter(ask: ClientRequest, target: Target, head: Head) -> Meter:
    _ = ask, head
    return ConverseMeter(target.model)


class Encoder:
    """Events of the dialect to frames."""

    def feed(self, event: Event) -> bytes:
        return runtime_api.message(event.kind, runtime_api.padded(event.payload))

    def whole(self, body: bytes) -> bytes:
        return body

    def ping(self) -> bytes:
        return b""

    def fail(self, problem: Problem) -> bytes:
        return runtime_api.failure_frame(problem, converse=True)

    def close(self) -> bytes:
        return b""


def encoder(ask: ClientRequest) -> Encoder:
    _ = ask
    return Encoder()


def texts(event: Event) -> str:
    if event.kind != "contentBlockDelta":
        return ""
    return lenient.text(lenient.mapping(lenient.mapping(event.data).get("delta")).get("text"))


def output_bytes(event: Event) -> int:
    """Text, thinking and arguments of tools."""
    if event.kind != "contentBlockDelta":
        return 0
    delta = lenient.mapping(lenient.mapping(event.data).get("delta"))
    tool, thinking = lenient.mapping(delta.get("toolUse")), lenient.mapping(delta.get("reasoningContent"))
    return json_api.text_bytes(delta.get("text"), tool.get("input"), thinking.get("text"))


def with_text(event: Event, text: str) -> Event:
    data = event.data
    return Event(event.kind, orjson.dumps({**data, "delta": {**data["delta"], "text": text}}))
