"""The plugin of Anthropic's Messages API: POST /v1/messages and /v1/messages/count_tokens.

- A stream consists of named server-sent events.
- Bedrock serves the same API below the path /anthropic. So this plugin has routes below /anthropic too, and a provider
  whose `baseurl` ends with /anthropic is Bedrock.
- Anthropic's SDK for Go has a mode for Bedrock, which sends messages to InvokeModel. If the SDK's base URL ends with
  /bedrock, the SDK sends messages to /bedrock/v1/messages instead. So this plugin has routes below /bedrock too.
- A beta is an optional feature of the API. A request names its betas in the header `anthropic-beta`.
- Bedrock's InvokeModel wraps the same bodies for Claude. The plugin of InvokeModel is `bedrock_model_invoke.py`.

Source: Anthropic's API reference (Messages, Streaming, Errors).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Final, Literal

import orjson
from pydantic import Field

from gateway.contract import errors, json_api, lenient_json, sse_api
from gateway.contract.aws_domains import AWS_DOMAINS
from gateway.contract.errors import Problem
from gateway.contract.flag import (
    COUNT_TOKENS,
    ClientApi,
    ClientRequest,
    Decoder,
    Drop,
    Event,
    Head,
    Members,
    Meter,
    ModelList,
    OfferedModel,
    Route,
    Target,
    UpstreamRequest,
    Usage,
)
from gateway.contract.framing import sse
from gateway.contract.provider_errors import error_headers, problem_in_event
from gateway_plugins.dialects.anthropic_messages import auto_cache as messages_auto_cache
from gateway_plugins.dialects.anthropic_messages import beta_members, beta_refusals, fit, model_search
from gateway_plugins.dialects.anthropic_messages import betas as messages_betas
from gateway_plugins.dialects.anthropic_messages import billing as messages_billing
from gateway_plugins.dialects.anthropic_messages import facts as messages_facts
from gateway_plugins.dialects.anthropic_messages import places as messages_places
from gateway_plugins.dialects.anthropic_messages import sessions as messages_sessions
from gateway_plugins.dialects.anthropic_messages import text as messages_text
from gateway_plugins.dialects.bedrock import availability, counting, tagged_history
from gateway_plugins.shared import auto_cache, remote_files
from gateway_plugins.shared.lenient import mapping
from gateway_plugins.shared.members_in_place import EditedMembers

_OWN: Final = "anthropic_messages"
_AWS: Final = tuple(f".{domain}" for domain in AWS_DOMAINS)
"""Suffixes of the host names of Bedrock's two endpoints: bedrock-runtime and bedrock-mantle."""

api = 1
dialects = (_OWN,)
routes = tuple(
    Route("POST", f"{prefix}/v1/messages{last}", operation)
    for prefix in ("", "/anthropic", "/bedrock")
    for last, operation in (("", "generate"), ("/count_tokens", COUNT_TOKENS))
)
model_lists = (ModelList("/anthropic/v1/models"),)
discover_models = model_search.discover_models
price_list = "anthropic"
session_ids = messages_sessions.session_ids


class Options(messages_betas.BetaOptions):
    """Options of a provider with the Messages API.

    Without the option `envelope`, the provider's host tells whether the API is Anthropic's own or Bedrock's.
    """

    envelope: Literal["messages", "mantle"] | None = Field(
        None, description='Whose Messages API it is: Anthropic\'s own ("messages") or Bedrock\'s ("mantle").'
    )


client_api = ClientApi(
    bases=("", "/v1"),
    setting="base_url or ANTHROPIC_BASE_URL",
    # paths such as /v1/models exist in OpenAI's API too: for these, the header tells which API the client means
    paths=("/v1/complete", "/v1/messages/batches", "/v1/messages/batches/{id}"),
    headers=("anthropic-version",),
)
output_bytes = messages_text.output_bytes
parse = partial(json_api.parse, _OWN, _OWN)
steps = remote_files.steps
has_cache_marks = True
mark_cache = messages_auto_cache.mark_cache

_THREAD: Final = "thread"
"""Request field that continues a conversation stored at Anthropic.

An error that refuses this field gets the code `thread_unsupported_request` in `details`. Anthropic's SDKs then send the
whole conversation instead (anthropic SDK, `lib/threads`)."""
_VERSION: Final = "2023-06-01"
"""Value of the header `anthropic-version` if the client sent none. The API requires the header."""
_QUERY: Final = ("beta",)
"""Query parameters that are passed on to the provider. Anthropic's SDKs send `beta=true`."""
_TIERS: Final = ("auto", "standard_only")
"""Values of `service_tier` that this API accepts. Any other value, such as one of Bedrock's tiers in a translated
request, is left out and reported as dropped."""
_KINDS: Final = frozenset({
    "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
    "message_stop", "ping", "error",
})  # fmt: skip
_ERRORS: Final = {
    errors.INVALID_REQUEST: (400, "invalid_request_error"),
    errors.PERMISSION: (403, "permission_error"),
    errors.BLOCKED: (403, "invalid_request_error"),
    errors.NOT_FOUND: (404, "not_found_error"),
    errors.NO_ROUTE: (404, "not_found_error"),
    errors.TOO_LARGE: (413, "request_too_large"),
    errors.UNSUPPORTED_CODING: (415, "invalid_request_error"),
    errors.REQUEST_TIMEOUT: (408, "timeout_error"),
    errors.TIMEOUT: (504, "timeout_error"),
    errors.RATE_LIMIT: (429, "rate_limit_error"),
    errors.QUOTA: (429, "rate_limit_error"),
    errors.OVERLOADED: (529, "overloaded_error"),
    errors.UNAVAILABLE: (529, "overloaded_error"),
    errors.UPSTREAM: (502, "api_error"),
    errors.PLUGIN: (500, "api_error"),
    errors.INTERNAL: (500, "api_error"),
}


places = messages_places.places
billed_parts = messages_billing.billed_parts
slow_marks = tagged_history.MARKS


def build(request: ClientRequest, target: Target, drop: Drop) -> UpstreamRequest:
    is_count = request.operation == COUNT_TOKENS
    own = request.flag == _OWN
    top, betas = _fitted(request, target, drop)
    # a request that another flag received may have members that count_tokens refuses
    changes: dict[str, bytes | None] = counting.without_uncounted(top) if is_count and not own else {}
    if top.small("model") != target.model:
        changes["model"] = orjson.dumps(target.model)
    if request.stream and top.small("stream") is not True:
        changes["stream"] = b"true"
    # members that only InvokeModel has
    changes |= {name: None for name in ("anthropic_version", messages_betas.MEMBER) if name in top}
    if not own and top.small("service_tier", "auto") not in _TIERS:
        changes["service_tier"] = None
        drop("/service_tier")
    changes |= tagged_history.of_messages(top, target, drop)
    headers = {
        "content-type": "application/json",
        "anthropic-version": request.headers.get("anthropic-version", _VERSION),
    }
    if betas:
        headers[messages_betas.HEADER] = ",".join(betas)
    path = "/v1/messages/count_tokens" if is_count else "/v1/messages"
    body = top.spliced(changes) if changes else top.body
    if request.top.has_halves:  # the API refuses them: "no low surrogate in string" (anthropics/claude-code#60394)
        body = lenient_json.repaired(body)
    return UpstreamRequest("POST", path, body, json_api.known_query(request.query, _QUERY) if own else "", headers)


def _fitted(request: ClientRequest, target: Target, drop: Drop) -> tuple[Members, list[str]]:
    """Return the body's fields and the betas to send, without those that the model or the provider refuses.

    The client's betas are read from both body and header, because Claude Code names different betas in each. If client
    and provider both use the Messages API, the body changes only if betas must be left out.
    """
    given, edited = messages_betas.request_betas(request), EditedMembers(request.top)
    needed: list[str] = []
    if request.flag != _OWN:
        able = messages_betas.able(target, request.without)
        needed = fit.apply(edited, able, given, drop, on_bedrock=False)
    options, without = target.options, request.without
    selected = messages_betas.selection([*given, *needed], _envelope(target), options, drop, without=without)
    beta_members.remove(edited, {*selected.removed, *without}, selected.sent, drop)
    changes = edited.changes()
    return Members(request.top.spliced(changes)) if changes else request.top, selected.sent


def _envelope(target: Target) -> str:
    """Return "messages" for Anthropic's own API, or "mantle" for Bedrock's.

    The option `envelope` decides. Without this option, the provider's host decides.
    """
    chosen = target.options.envelope if isinstance(target.options, Options) else None
    return chosen or ("mantle" if target.host.endswith(_AWS) else "messages")


def retry(request: ClientRequest, target: Target, problem: Problem, _drop: Drop) -> ClientRequest | None:
    """Return the request for a retry, without the part that the provider refused.

    This part is either the `cache_control` that the gateway added, or the refused betas. Returns None if the request
    was refused for another reason.
    """
    if (changed := auto_cache.retried(request, problem, messages_auto_cache.unmarked)) is not None:
        return changed
    if not beta_refusals.is_refusal(problem):
        return None
    _, sent = _fitted(request, target, lambda _: None)
    return beta_refusals.retry(request, sent, _envelope(target), problem)


def advice(problem: Problem, target: Target, offers: Iterable[OfferedModel]) -> str:
    """Return a text for an error about an unavailable model of Bedrock: where the model can be called. The text is ""
    for Anthropic's own API.
    """
    return availability.advice(problem, target, offers) if _envelope(target) == "mantle" else ""


def limit(request: ClientRequest) -> int | None:
    return json_api.limit_of(request, "max_tokens")


def decoder(_request: ClientRequest, _target: Target, _head: Head) -> Decoder:
    return MessagesDecoder()


class MessagesDecoder(sse_api.SseDecoder):
    def __init__(self) -> None:
        super().__init__(_kind, _is_last, _failure, named=True)

    def whole(self, body: bytes) -> bytes:
        return messages_text.checked(body)


def _kind(name: str, payload: bytes) -> str:
    return sse_api.typed_kind(name, payload, _KINDS.__contains__)


def _is_last(event: Event) -> bool:
    return event.kind == "message_stop"


def _failure(event: Event) -> Problem | None:
    return problem_in_event(event.payload) if event.kind == "error" else None


def meter(request: ClientRequest, _target: Target, _head: Head) -> Meter:
    return messages_facts.Meter(request)


class Encoder(sse_api.SseEncoder):
    """Encodes events as named server-sent events.

    In a reply, the provider's name of the model is replaced by the name that the client used in the request.
    """

    def __init__(self, request: ClientRequest) -> None:
        self._model = request.model

    def feed(self, event: Event) -> bytes:
        if not event.payload or event.kind == messages_facts.INVOCATION_METRICS:
            return b""
        if event.kind == "message_start":
            data = mapping(event.data)
            message = {**mapping(data.get("message")), "model": self._model}
            return sse.encode(orjson.dumps({**data, "message": message}), event.kind)
        return sse.encode(event.payload, event.kind)

    def whole(self, body: bytes) -> bytes:
        top = json_api.json_members(body)
        if "model" not in top or json_api.reply_member(top, "model") == self._model:
            return body
        return top.spliced({"model": orjson.dumps(self._model)})

    def ping(self) -> bytes:
        return sse.encode(b'{"type": "ping"}', "ping")

    def fail(self, problem: Problem) -> bytes:
        return sse.encode(error(problem)[2], "error")


def encoder(request: ClientRequest) -> Encoder:
    return Encoder(request)


def reply_headers(request_id: str, _usage: Usage | None) -> dict[str, str]:
    """Return the header from which Anthropic's SDKs read the request's id."""
    return {"request-id": request_id}


def error(problem: Problem) -> tuple[int, dict[str, str], bytes]:
    status, kind = _ERRORS[problem.code]
    if problem.code == errors.UNAVAILABLE and not problem.native:
        # 529 is for a problem that a provider reported, 503 for a problem of the gateway itself. SDKs retry both
        status = errors.STATUS[problem.code]
    inner: dict[str, Any] = {"type": kind, "message": problem.message}
    if problem.param == _THREAD:
        inner["details"] = {"error_code": "thread_unsupported_request"}
    body = {"type": "error", "error": inner}
    return status, error_headers(problem), orjson.dumps(body)
