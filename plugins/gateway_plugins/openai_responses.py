"""The plugin of OpenAI's Responses API: POST /v1/responses, server-sent events with names and sequence numbers.

A stream ends with `response.completed`, `response.incomplete` or `response.failed`. An event `error` with the same
problem may come before `response.failed`. Source: OpenAI's API reference (Responses, Streaming events, Errors) and the
openai SDK's types.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import orjson

from gateway.contract import errors, json_api, openings, sse_api
from gateway.contract import session_ids as ids
from gateway.contract.errors import BadFrame, Problem, UpstreamFailed
from gateway.contract.flag import (
    ClientRequest,
    Decoder,
    Drop,
    Event,
    Head,
    Meter,
    Opening,
    Route,
    SessionIds,
    Target,
    UpstreamRequest,
)
from gateway.contract.framing import sse
from gateway.contract.provider_errors import problem_in_event, reported_problem
from gateway_plugins.dialects.openai import billing as openai_billing
from gateway_plugins.dialects.openai import errors as openai_errors
from gateway_plugins.dialects.openai import model_search
from gateway_plugins.dialects.openai.client_api import CLIENT_API
from gateway_plugins.dialects.openai_responses import facts as responses_facts
from gateway_plugins.dialects.openai_responses import places as responses_places
from gateway_plugins.dialects.openai_responses import reasoning as responses_reasoning
from gateway_plugins.dialects.openai_responses.echo import blank
from gateway_plugins.dialects.openai_responses.emit import FAILED
from gateway_plugins.shared import remote_files
from gateway_plugins.shared.lenient import mapping, whole_number

api = 1
dialects = ("openai_responses",)
routes = (
    Route("POST", "/v1/responses", "generate"),
    Route("POST", "/responses", "generate"),
)
client_api = CLIENT_API
price_list = "openai"
discover_models = model_search.discover_models
error = openai_errors.error
parse = partial(json_api.parse, "openai_responses", "openai_responses")
steps = remote_files.steps
slow_marks = (responses_reasoning.MARK.encode(), responses_reasoning.ID.encode())
places = responses_places.places
billed_parts = openai_billing.billed_parts
output_bytes = responses_facts.output_bytes

_QUERY: Final = ("api-version",)
"""Query parameters that are passed on to the provider. `api-version` is a parameter of OpenAI's API on Azure."""
_ERROR: Final = "error"
_CREATED: Final = "response.created"
_FAILED_EVENT: Final = "response.failed"

_FAILURE_CODES: Final = {
    errors.RATE_LIMIT: "rate_limit_exceeded",
    errors.QUOTA: "insufficient_quota",
    errors.INVALID_REQUEST: "invalid_prompt",
}
"""Error codes in `response.failed`, by the gateway's error code. The default is `server_error`."""


def session_ids(request: ClientRequest) -> SessionIds:
    """Return the conversation's id from the field `conversation`: a string, or an object with a field `id`.

    If the request names no conversation, return the ids that requests of any API may have (`ids.in_body`).
    """
    value = ids.small_member(request.top, "conversation")
    conversation = ids.in_object(value, "id") or ids.valid_id(value)
    return SessionIds(conversation) if conversation else ids.in_body(request.top)


def opening(request: ClientRequest) -> Opening | None:
    top = request.top
    system = openings.text_of(top, "instructions")
    if top.get("input", b"")[:1] == b'"':
        return system, openings.text_of(top, "input")
    return openings.of_turns(top, "input", system)


def build(request: ClientRequest, target: Target, drop: Drop) -> UpstreamRequest:
    changes: dict[str, bytes | None] = responses_reasoning.without_ours(request.top, drop)
    if request.top.small("model") != target.model:
        changes["model"] = orjson.dumps(target.model)
    body = request.top.spliced(changes) if changes else request.top.body
    query = json_api.known_query(request.query, _QUERY)
    return UpstreamRequest("POST", "/v1/responses", body, query, {"content-type": "application/json"})


def decoder(_request: ClientRequest, _target: Target, _head: Head) -> Decoder:
    return ResponsesDecoder()


class ResponsesDecoder(sse_api.SseDecoder):
    """Decodes server-sent events, which have names.

    An event `error` after the first event is passed to the client, because `response.failed` usually follows. If the
    stream then ends without a terminal event, the decoder raises `UpstreamFailed` with the problem in `error`.
    """

    def __init__(self) -> None:
        super().__init__(_kind, _is_last, self._failure, named=True)
        self._has_events = False
        self._reported: Problem | None = None

    def close(self) -> Iterator[Event]:
        if self._reported is not None and not self.done:
            raise UpstreamFailed(self._reported)
        return super().close()

    def whole(self, body: bytes) -> bytes:
        data = json_api.json_object(body)
        if not isinstance(data.get("output"), list) and data.get("object") != "response":
            raise BadFrame("the provider's reply is no response of this API")
        return body

    def _failure(self, event: Event) -> Problem | None:
        begun, self._has_events = self._has_events, True
        if event.kind == _FAILED_EVENT:
            return reported_problem(mapping(mapping(event.data).get("response")).get("error"))
        if event.kind != _ERROR:
            return None
        self._reported = problem_in_event(event.payload)
        return None if begun else self._reported


def _kind(name: str, payload: bytes) -> str:
    return sse_api.typed_kind(name, payload, lambda kind: kind == _ERROR or kind.startswith("response."))


def _is_last(event: Event) -> bool:
    return event.kind in responses_facts.TERMINAL


def meter(request: ClientRequest, _target: Target, _head: Head) -> Meter:
    return responses_facts.Meter(request)


class Encoder(sse_api.SseEncoder):
    """Encodes events as named server-sent events.

    The event `response.created` and the last event are kept, because the events that report a failure repeat parts of
    them.
    """

    def __init__(self, request: ClientRequest) -> None:
        self._request = request
        self._created: Event | None = None
        self._last: Event | None = None

    def feed(self, event: Event) -> bytes:
        if not event.payload:
            return b""
        if event.kind == _CREATED:
            self._created = event
        self._last = event
        return sse.encode(event.payload, event.kind)

    def fail(self, problem: Problem) -> bytes:
        """Return the events `error` and `response.failed`, as OpenAI does.

        SDKs raise an exception at `error`, and Codex reads `response.failed`.
        """
        inner = openai_errors.inner(problem)
        flat = {name: inner[name] for name in ("message", "param", "code")}
        response = mapping(_members(self._created).get("response")) or blank(self._request)
        code = (
            openai_errors.TOO_LONG
            if openai_errors.is_too_long(problem)
            else _FAILURE_CODES.get(problem.code, "server_error")
        )
        response = {**response, "status": FAILED, "error": {"code": code, "message": problem.message}}
        number = 0 if self._last is None else whole_number(_members(self._last).get("sequence_number")) + 1
        return _numbered(number, _ERROR, {**flat, "error": inner}) + _numbered(
            number + 1, _FAILED_EVENT, {"response": response}
        )


def _members(event: Event | None) -> dict[str, Any]:
    """Return the fields of an event's payload, or {} if there is no event, or if its payload is no JSON object."""
    try:
        return {} if event is None else mapping(event.data)
    except BadFrame:
        return {}


def _numbered(number: int, kind: str, members: dict[str, Any]) -> bytes:
    return sse.encode(orjson.dumps({"type": kind, "sequence_number": number, **members}), kind)


def encoder(request: ClientRequest) -> Encoder:
    return Encoder(request)
