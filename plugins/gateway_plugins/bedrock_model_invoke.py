"""The plugin of Bedrock's InvokeModel (also streamed), CountTokens and jobs (`dialects/bedrock/jobs.py`).

- For Claude, InvokeModel wraps Anthropic's dialect. The model is in the path and the API version in the body. Each
  event of a stream is base64-encoded in a frame of type `chunk`.
- Bodies for other model families are opaque: they are passed on unchanged, without being interpreted. Their tokens are
  counted from the reply's headers, from usage fields that some families write, and from
  `amazon-bedrock-invocationMetrics`.
- A CountTokens body contains a whole request of InvokeModel or of Converse (`dialects/bedrock/counting.py`).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, Final

import orjson

from gateway.contract import billing, json_api, lenient_json
from gateway.contract.billing import BilledPart, File
from gateway.contract.errors import Problem
from gateway.contract.flag import (
    BY_REGION,
    COUNT_TOKENS,
    OPAQUE,
    Caps,
    ClientRequest,
    Copy,
    Decoder,
    Drop,
    End,
    Event,
    Head,
    HttpRequest,
    Members,
    Meter,
    Place,
    StepResponse,
    Steps,
    Target,
    UpstreamRequest,
    Usage,
)
from gateway.contract.places import REPLY, REQUEST
from gateway_plugins.dialects.anthropic_messages import auto_cache as messages_auto_cache
from gateway_plugins.dialects.anthropic_messages import beta_refusals
from gateway_plugins.dialects.anthropic_messages import betas as messages_betas
from gateway_plugins.dialects.anthropic_messages import billing as messages_billing
from gateway_plugins.dialects.anthropic_messages import facts as messages_facts
from gateway_plugins.dialects.anthropic_messages import places as messages_places
from gateway_plugins.dialects.anthropic_messages import sessions as messages_sessions
from gateway_plugins.dialects.anthropic_messages import text as messages_text
from gateway_plugins.dialects.anthropic_messages.read_options import MEMBERS
from gateway_plugins.dialects.bedrock import (
    availability,
    claude_on_bedrock,
    counting,
    inference_profiles,
    invoke_headers,
    jobs,
    model_search,
    opaque_facts,
    opaque_places,
    runtime_api,
    tagged_history,
)
from gateway_plugins.dialects.bedrock.invoke_streams import CHUNK, InvokeDecoder
from gateway_plugins.dialects.bedrock_converse import billing as converse_billing
from gateway_plugins.dialects.bedrock_converse import places as converse_places
from gateway_plugins.shared import auto_cache, lenient, remote_files

api = 1
dialects = ("anthropic_messages", OPAQUE)
_MODELS = (("invoke", "generate"), ("invoke-with-response-stream", "generate"), ("count-tokens", COUNT_TOKENS))
routes = (*runtime_api.routes(*_MODELS), *jobs.ROUTES)
client_api = runtime_api.CLIENT_API
price_list = BY_REGION
Options = jobs.Options
session_ids = messages_sessions.session_ids
model_lists = inference_profiles.LISTS
model_list = inference_profiles.model_list
model_entry = inference_profiles.model_entry
content_type = runtime_api.CONTENT_TYPE
has_cache_marks = True
mark_cache = messages_auto_cache.mark_cache
slow_marks = tagged_history.MARKS
problem = runtime_api.problem_for
advice = availability.advice
base_url_fault = runtime_api.base_url_fault
discover_models = model_search.discover_models
error = runtime_api.error

_OWN: Final = "bedrock_model_invoke"
_FORMS: Final = replace(
    billing.COMMON,
    members=converse_billing.FORMS.members,
    inner=lambda block: (*billing.COMMON.inner(block), *converse_billing.wrapped(block)),
)
"""Tells where a request body has images and documents, whatever the model family is. Used for the estimate of input
tokens."""
_CLAUDE_DIALECT: Final = "anthropic_messages"
_LIMITS: Final = (
    ("inferenceConfig", "maxTokens"),
    ("inferenceConfig", "max_new_tokens"),
    ("textGenerationConfig", "maxTokenCount"),
    ("max_gen_len",),
    ("maxTokens",),
)
"""Paths of output limits in bodies for Nova, Titan, Llama and Jurassic (AWS user guide, inference parameters)."""


def parse(request: HttpRequest) -> ClientRequest:
    if request.route.operation == COUNT_TOKENS:
        return counting.parse(_OWN, request)
    if request.route.operation in jobs.OPERATIONS:
        return jobs.parse(_OWN, request)
    top = Members(request.body)
    dialect = _CLAUDE_DIALECT if "anthropic_version" in top else OPAQUE
    return runtime_api.parse(_OWN, dialect, request, top)


def dialect_for(caps: Caps) -> str:
    """Return Anthropic's dialect for Claude. For any other model, return `OPAQUE`: the gateway does not interpret its
    bodies.
    """
    return caps.native_dialect if caps.native_dialect == _CLAUDE_DIALECT else OPAQUE


def steps(request: ClientRequest, target: Target, drop: Drop) -> Steps | ClientRequest:
    """Return the request unchanged, or a generator that changes it before it is sent.

    - URLs of files are replaced by the contents of the files.
    - For CountTokens on Bedrock, the generator returns a reply with the count instead (`dialects/bedrock/counting.py`).
    - For another API than InvokeModel, option headers of InvokeModel that the API does not have are reported as
      dropped. Raises `Refused` if such a header names a guardrail.
    """
    fetched = remote_files.steps(request, target, drop)
    if fetched is request and target.flag == _OWN and request.operation != COUNT_TOKENS:
        return request
    return _steps(fetched, target, drop)


def _steps(fetched: Steps | ClientRequest, target: Target, drop: Drop) -> Steps:
    result = fetched if isinstance(fetched, ClientRequest) else (yield from fetched)
    if isinstance(result, StepResponse):
        return result
    if target.flag != _OWN:
        invoke_headers.drop_headers(result.headers, target.flag, drop)
    elif result.operation == COUNT_TOKENS:
        return (yield from counting.steps(result, target, drop, billed_parts))
    return result


def build(request: ClientRequest, target: Target, drop: Drop) -> UpstreamRequest:
    if request.operation == COUNT_TOKENS:
        return counting.count_request(request, target, drop)
    if request.operation in jobs.OPERATIONS:
        return jobs.build(request, target)
    headers = runtime_api.request_headers(request.headers, is_invoke=request.flag == _OWN)
    if request.flag == _OWN:
        body = claude_on_bedrock.native_body(request, target, drop)
    else:
        body = claude_on_bedrock.body(request, target, drop)
        headers |= claude_on_bedrock.headers(request)
    if request.top.has_halves:  # Claude's API refuses them: "no low surrogate in string" (anthropics/claude-code#60394)
        body = lenient_json.repaired(body)
    return runtime_api.upstream_request(
        target, "invoke-with-response-stream" if request.stream else "invoke", body, headers
    )


def retry(request: ClientRequest, target: Target, problem: Problem, _drop: Drop) -> ClientRequest | None:
    """Return the request for a retry, without the part that Bedrock refused.

    This part is either the `cache_control` that the gateway added, or the refused betas. Returns None if the request
    was refused for another reason. Source: claude-code#56595.
    """
    if (changed := auto_cache.retried(request, problem, messages_auto_cache.unmarked)) is not None:
        return changed
    if target.dialect == OPAQUE or not beta_refusals.is_refusal(problem):
        return None
    sent = Members(build(request, target, lambda _: None).body)
    return beta_refusals.retry(request, messages_betas.body_betas(sent), "invoke", problem)


def limit(request: ClientRequest) -> int | None:
    """Return the largest output limit in the body, under any of the names that model families use, or None if there is
    none.
    """
    limits = (json_api.limit(request), *(runtime_api.limit(request, *path) for path in _LIMITS))
    return max((limit for limit in limits if limit is not None), default=None)


def decoder(request: ClientRequest, target: Target, head: Head) -> Decoder:
    if request.operation in jobs.OPERATIONS:
        return jobs.JobDecoder()
    return InvokeDecoder(request.operation, target.dialect, opaque_facts.counts_of_headers(head.headers))


@billing.lazy
def billed_parts(body: Mapping[str, Any]) -> Iterator[BilledPart]:
    """Yield the parts of a body that are not billed as text, such as images.

    The body is searched for parts in the form of every model family: the forms of Messages, Chat and Converse (for
    Nova), and the field `inputImage` (for Titan). A part in the form of another family is yielded too, although the
    model refuses or ignores this part.
    """
    yield from _FORMS.files(body)
    yield from messages_billing.of_tools(body)
    yield from converse_billing.of_tools(body)
    if isinstance(image := body.get("inputImage"), str):
        yield File("image", len(image))


def places(event: Event) -> Iterable[Place | End | Copy]:
    """Return where the texts are in a request, in a reply, or in an event of a stream.

    Requests are read in two forms: Anthropic's (for Claude) and Converse's (for Nova, and for some requests of
    CountTokens). In a request of any other form, every string counts as a text.
    """
    # a member that some model ignores must not hide the text of another member from filters
    if event.kind == REQUEST:
        return _request_places(event)
    is_opaque = event.kind == CHUNK
    if event.kind == REPLY:
        data = lenient.mapping(event.data)
        is_opaque = data.get("type") != "message" or "content" not in data
    return opaque_places.places(event) if is_opaque else messages_places.places(event)


def _request_places(event: Event) -> Iterable[Place | End | Copy]:
    data = lenient.mapping(event.data)
    if {"anthropic_version", "messages"} <= data.keys():
        others = data.keys() - MEMBERS
        return chain(messages_places.places(event), opaque_places.places_in(event, sorted(others)))
    return converse_places.places(event) if converse_places.is_request(data) else opaque_places.places(event)


def output_bytes(event: Event) -> int:
    """Return the number of bytes of the model's output in an event. For models other than Claude, all strings of the
    event are counted.
    """
    return opaque_facts.output_bytes(event) if event.kind == CHUNK else messages_text.output_bytes(event)


def meter(request: ClientRequest, target: Target, head: Head) -> Meter:
    if request.operation in jobs.OPERATIONS:
        return jobs.JobMeter()
    billed = opaque_facts.counts_of_headers(head.headers)
    tier = opaque_facts.tier_of_headers(head.headers)
    made = opaque_facts.Meter if target.dialect == OPAQUE else messages_facts.Meter
    return made(request, billed, tier)


class Encoder:
    """Encodes events of Anthropic's dialect as Bedrock's chunks. The last chunk also gets the invocation metrics, which
    are token counts.
    """

    def __init__(self, request: ClientRequest) -> None:
        self._request = request
        self._meter = messages_facts.Meter(request)

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
        # only the counts at the top of `usage`, because a reader of the metrics adds the iterations itself
        usage = self._meter.facts().parts[0].usage
        return {
            "inputTokenCount": usage.input,
            "outputTokenCount": usage.output,
            "cacheReadInputTokenCount": usage.cache_read,
            "cacheWriteInputTokenCount": usage.cache_write_5m + usage.cache_write_1h,
        }


def reply_headers(request_id: str, usage: Usage | None) -> dict[str, str]:
    """Return the headers with the request's id and the token counts. LangChain reads the counts only from headers."""
    counts = {} if usage is None else opaque_facts.headers_of(usage)
    return {**runtime_api.reply_headers(request_id, usage), **counts}


def encoder(request: ClientRequest) -> Encoder:
    return Encoder(request)
