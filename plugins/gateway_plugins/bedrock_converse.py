"""The plugin of Bedrock's Converse and ConverseStream, which have one dialect for all models on Bedrock.

In a stream, the event `messageStop` comes before the event `metadata`, which has the usage. Source: botocore's service
model of bedrock-runtime, and recorded traffic for the order of a stream's events.

The route of CountTokens is defined in `bedrock_model_invoke.py`. The gateway sends CountTokens requests to providers
that have the compatibility flag `bedrock_converse` or `bedrock_model_invoke`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from gateway.contract import billing, json_api
from gateway.contract.billing import BilledPart
from gateway.contract.errors import BadFrame, Problem, Truncated
from gateway.contract.flag import (
    BY_REGION,
    COUNT_TOKENS,
    ClientRequest,
    Decoder,
    Drop,
    Event,
    Facts,
    Frame,
    Head,
    HttpRequest,
    Members,
    Meter,
    Steps,
    Target,
    UpstreamRequest,
)
from gateway_plugins.dialects.anthropic_messages import beta_members, beta_refusals
from gateway_plugins.dialects.anthropic_messages import betas as messages_betas
from gateway_plugins.dialects.anthropic_messages import billing as messages_billing
from gateway_plugins.dialects.bedrock import (
    availability,
    counting,
    invoke_headers,
    model_search,
    runtime_api,
    tagged_history,
)
from gateway_plugins.dialects.bedrock.request_metadata import METADATA, metadata_member
from gateway_plugins.dialects.bedrock_converse import auto_cache as converse_auto_cache
from gateway_plugins.dialects.bedrock_converse import billing as converse_billing
from gateway_plugins.dialects.bedrock_converse import places as converse_places
from gateway_plugins.dialects.bedrock_converse.facts import Reports
from gateway_plugins.shared import auto_cache, lenient
from gateway_plugins.shared.cache_marks import Marks
from gateway_plugins.shared.pieces import piece_bytes, piece_pattern

_OWN: Final = "bedrock_converse"
_MODEL_FIELDS: Final = "additionalModelRequestFields"

_PIECE: Final = piece_pattern("text")
_LIMITS: Final = (
    ("inferenceConfig", "maxTokens"),
    *((_MODEL_FIELDS, name) for name in ("max_tokens", "max_completion_tokens", "max_gen_len")),
    (_MODEL_FIELDS, "inferenceConfig", "max_new_tokens"),
)
"""Paths of the fields that limit the output: first Converse's own field, then fields that only some models have."""

api = 1
dialects = (_OWN,)
routes = runtime_api.routes(("converse", "generate"), ("converse-stream", "generate"))
accepts = (("bedrock_model_invoke", COUNT_TOKENS),)
places = converse_places.places
client_api = runtime_api.CLIENT_API
price_list = BY_REGION
Options = messages_betas.BetaOptions
content_type = runtime_api.CONTENT_TYPE
has_cache_marks = True
mark_cache = converse_auto_cache.mark_cache
slow_marks = tagged_history.MARKS
problem = runtime_api.problem_for
advice = availability.advice
base_url_fault = runtime_api.base_url_fault
discover_models = model_search.discover_models
error = runtime_api.error
reply_headers = runtime_api.reply_headers


@billing.lazy
def billed_parts(body: Mapping[str, Any]) -> Iterator[BilledPart]:
    """Yield the parts of a request that are not billed as text: images, and Anthropic's tools in
    `additionalModelRequestFields`.
    """
    yield from converse_billing.billed_parts(body)
    yield from messages_billing.of_tools(body.get(_MODEL_FIELDS))


def parse(request: HttpRequest) -> ClientRequest:
    return runtime_api.parse("bedrock_converse", "bedrock_converse", request, Members(request.body))


def steps(request: ClientRequest, target: Target, drop: Drop) -> Steps | ClientRequest:
    if request.operation == COUNT_TOKENS and target.flag == _OWN:
        return counting.steps(request, target, drop, billed_parts)
    return request


def build(request: ClientRequest, target: Target, drop: Drop) -> UpstreamRequest:
    if request.operation == COUNT_TOKENS:
        return counting.count_request(request, target, drop)
    changes = tagged_history.of_converse(request.top, target, drop)
    headers = runtime_api.request_headers(request.headers)
    if request.flag != _OWN:
        headers, members = invoke_headers.as_members(headers, request.top)
        changes |= members
    elif METADATA in headers:
        changes |= metadata_member(headers.pop(METADATA), request.top)
    changes |= _betas(request, target, drop)
    body = request.top.spliced(changes) if changes else request.top.body
    return runtime_api.upstream_request(target, "converse-stream" if request.stream else "converse", body, headers)


def _betas(request: ClientRequest, target: Target, drop: Drop) -> dict[str, bytes | None]:
    """Return the new `additionalModelRequestFields` without the betas that must not be sent, or {} if nothing changes.

    A beta is an optional feature of Claude that the request names. A beta is removed if the provider's options drop it,
    or if the model has refused it. Fields that need a removed beta are removed too.
    """
    if _MODEL_FIELDS not in request.top or not messages_betas.drops_any(target.options, request.without):
        return {}
    fields = _model_fields(request.top)
    changes = beta_members.native_changes(fields, target.options, request.without, drop, f"/{_MODEL_FIELDS}")
    return {_MODEL_FIELDS: fields.spliced(changes)} if changes else {}


def retry(request: ClientRequest, target: Target, problem: Problem, _drop: Drop) -> ClientRequest | None:
    """Return the request for a retry, without the part that the model refused.

    This part is either the cache points (`cachePoint`) that the gateway added, or the refused betas. Returns None if
    the request was refused for another reason.
    """
    if (changed := auto_cache.retried(request, problem, converse_auto_cache.unmarked)) is not None:
        return changed
    if _MODEL_FIELDS not in request.top or not beta_refusals.is_refusal(problem):
        return None
    sent = _model_fields(Members(build(request, target, lambda _: None).body))
    return beta_refusals.retry(request, messages_betas.body_betas(sent), "converse", problem)


def _model_fields(top: Members) -> Members:
    """Return the fields of `additionalModelRequestFields`. Raises `Refused` if its value is not an object."""
    return Members(top.get(_MODEL_FIELDS, b"{}"))


def limit(request: ClientRequest) -> int | None:
    """Return the largest of the output limits in the request (`_LIMITS`), or None if there is none."""
    limits = [runtime_api.limit(request, *path) for path in _LIMITS if path[0] in request.top]
    return max([limit for limit in limits if limit is not None], default=None)


def decoder(request: ClientRequest, _target: Target, _head: Head) -> Decoder:
    return ConverseDecoder(request.operation)


class ConverseDecoder(runtime_api.EventStreamReader):
    """Decodes frames to events. An event's kind is the event type of its frame.

    - A stream is complete when both `messageStop` and `metadata` have come, in any order. Bedrock always sends both, so
      a stream without `metadata` was cut.
    - A frame after `messageStop` and `metadata` is ignored: it is no error, and the client does not get it.
    """

    def __init__(self, operation: str = "") -> None:
        super().__init__()
        self._missing = {"messageStop", "metadata"}
        self._operation = operation

    def events(self, frame: Frame) -> tuple[Event]:
        kind = frame.headers.get(":event-type", "")
        raw = b"" if self.done else frame.raw
        self._missing.discard(kind)
        self.done = not self._missing
        return (Event(kind, frame.payload, raw),)

    def close(self) -> Iterator[Event]:
        if not self.done:
            raise Truncated
        return iter(())

    def whole(self, body: bytes) -> bytes:
        if self._operation == COUNT_TOKENS:
            return orjson.dumps(counting.neutral_count(body))
        output = lenient.mapping(json_api.json_object(body).get("output"))
        if not lenient.mapping(output.get("message")):
            raise BadFrame("the provider's reply has no output.message")
        return body


class ConverseMeter:
    """Reads usage from `metadata`, tool names from `contentBlockStart`, and the stop reason from `messageStop`."""

    def __init__(self, request: ClientRequest | None = None) -> None:
        self._marks = Marks(request)
        self._facts = Facts()
        self._reports = Reports()

    def feed(self, event: Event) -> None:
        match event.kind:
            case "contentBlockStart":
                self._tool(lenient.mapping(event.data).get("start"))
            case "messageStop":
                self._stop(lenient.mapping(event.data))
            case "metadata":
                self._reports.add(lenient.mapping(event.data))

    def whole(self, body: bytes) -> None:
        data = json_api.json_object(body)
        self._reports.add(data)
        self._stop(data)
        message = lenient.mapping(lenient.mapping(data.get("output")).get("message"))
        for block in lenient.sequence(message.get("content")):
            self._tool(block)

    def facts(self) -> Facts:
        self._facts.parts = (self._reports.part(self._marks),)
        self._facts.reported = self._reports.reported
        self._facts.inexact = not self._reports.is_exact(self._marks)
        return self._facts

    def _tool(self, block: Any) -> None:
        if tool := lenient.mapping(lenient.mapping(block).get("toolUse")):
            self._facts.tools.append(lenient.text(tool.get("name")))

    def _stop(self, data: dict[str, Any]) -> None:
        self._facts.stop = self._facts.stop or lenient.text(data.get("stopReason"))


def meter(request: ClientRequest, _target: Target, _head: Head) -> Meter:
    return ConverseMeter(request)


class Encoder:
    """Encodes events of Converse to frames."""

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


def encoder(_request: ClientRequest) -> Encoder:
    return Encoder()


def output_bytes(event: Event) -> int:
    """Return the number of bytes of text, thinking and tool arguments in an event."""
    if event.kind != "contentBlockDelta":
        return 0
    if (size := piece_bytes(_PIECE, event.payload)) is not None:
        return size
    delta = lenient.mapping(lenient.mapping(event.data).get("delta"))
    tool, thinking = lenient.mapping(delta.get("toolUse")), lenient.mapping(delta.get("reasoningContent"))
    return json_api.text_bytes(delta.get("text"), tool.get("input"), thinking.get("text"))
