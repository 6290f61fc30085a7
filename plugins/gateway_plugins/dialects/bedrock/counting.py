"""Bedrock's CountTokens: what a client asks in it, and how it is asked, with what stands in for it.

A CountTokens body wraps a whole request, of InvokeModel or of Converse; it is read as that request, so that it can be
counted anywhere, and wrapped again for Bedrock. Bedrock counts base ids only and not every model, so the order is: the
base id; the Messages API that Bedrock has beside it; an estimate made here, marked as one (bedrock.md 3.1,
litellm#32683, litellm#34272). An error that says anything else is the client's to see.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Generator
from dataclasses import replace
from typing import Any, Final

import orjson

from gateway.contract import errors, json_api
from gateway.contract.capabilities import base_id
from gateway.contract.errors import BadFrame, Problem, Refused, UpstreamFailed
from gateway.contract.flag import (
    OPAQUE,
    ClientRequest,
    Drop,
    Fetch,
    Head,
    HttpRequest,
    Members,
    StepResponse,
    Target,
    UpstreamRequest,
)
from gateway.money.quotas.estimate import input_tokens
from gateway_plugins.dialects.bedrock import claude_on_bedrock, runtime_api, tagged_history
from gateway_plugins.shared.lenient import mapping, whole_number

CONVERSE: Final = "bedrock_converse"
MESSAGES: Final = "anthropic_messages"

_UNCOUNTED: Final = re.compile(
    r"(not|n't) support|identifier is invalid|inference profile|on-demand throughput", re.IGNORECASE
)
"""What Bedrock says of a model that it does not count; the first of recorded traffic is "The provided model identifier
is invalid."."""
_CONVERSE_COUNTED: Final = frozenset({"messages", "system", "toolConfig", "additionalModelRequestFields"})
"""Members of a Converse request that CountTokens takes (botocore service model, ConverseTokensRequest)."""
_MESSAGES_COUNTED: Final = frozenset(
    {
        "model", "messages", "system", "tools", "tool_choice", "thinking", "cache_control", "context_management",
        "mcp_servers", "output_config", "output_format", "speed",
    }
)  # fmt: skip
"""Members that Anthropic's count_tokens takes (anthropic SDK 2.12, beta MessageCountTokensParams)."""
_OTHER_PATH: Final = "/anthropic/v1/messages/count_tokens"
_OTHER_VERSION: Final = "2023-06-01"


def parse(flag: str, request: HttpRequest) -> ClientRequest:
    """The ask of the request inside; an opaque one of what is inside is of no dialect that is known here."""
    top = Members(request.body)
    dialect, inner = _inside(top)
    return runtime_api.parse(flag, dialect, request, inner)


def _inside(top: Members) -> tuple[str, Members]:
    try:
        given = Members(top.get("input", b"{}"))
        if "converse" in given:
            return CONVERSE, Members(given["converse"])
        inner = Members(base64.b64decode(Members(given.get("invokeModel", b"{}")).decode("body", ""), validate=True))
    except (Refused, binascii.Error, TypeError, ValueError):
        return OPAQUE, top  # the provider says what is wrong with it
    return (MESSAGES, inner) if "anthropic_version" in inner else (OPAQUE, top)


def of_messages(top: Members) -> dict[str, bytes | None]:
    """Changes that leave what Anthropic's count_tokens takes: it refuses limits, sampling and streams."""
    return {name: None for name in top if name not in _MESSAGES_COUNTED}


def send(ask: ClientRequest, target: Target, drop: Drop) -> UpstreamRequest:
    """The request to CountTokens; the operation refuses ids of inference profiles."""
    base = replace(target, model=base_id(target.base or target.model))
    return runtime_api.send(base, "count-tokens", _body(ask, target, drop), runtime_api.request_headers(ask.headers))


def _body(ask: ClientRequest, target: Target, drop: Drop) -> bytes:
    if ask.dialect == CONVERSE:
        changes: dict[str, bytes | None] = {name: None for name in ask.top if name not in _CONVERSE_COUNTED}
        changes |= tagged_history.of_converse(ask.top, target.caps.family, drop)
        return b'{"input":{"converse":' + (ask.top.spliced(changes) if changes else ask.top.body) + b"}}"
    if ask.dialect != MESSAGES:
        return ask.top.body
    if ask.flag == "bedrock_model_invoke":
        inner = claude_on_bedrock.native_body(ask.top, target, drop)
    else:
        inner = claude_on_bedrock.body(ask, target, drop)
    return orjson.dumps({"input": {"invokeModel": {"body": base64.b64encode(inner).decode()}}})


def steps(
    ask: ClientRequest, target: Target, drop: Drop
) -> Generator[UpstreamRequest | Fetch, StepResponse, ClientRequest | StepResponse]:
    """Ask Bedrock, then what stands in for it. Returns a reply of CountTokens. Raises `UpstreamFailed`."""
    reply = yield send(ask, target, drop)
    head = Head(reply.status, reply.headers)
    problem = runtime_api.problem_for(head, reply.body)
    if problem is None:
        return _reply(reply.headers, reply.body)
    if not _is_uncounted(problem):
        raise UpstreamFailed(problem, reply.body, _shown(reply.headers), reply.status)
    if ask.dialect == MESSAGES:
        other = yield _elsewhere(ask, target, drop)
        if (tokens := _counted(other)) > 0:
            return _reply({}, orjson.dumps({"inputTokens": tokens}))
    made = json_api.estimated_count(input_tokens(ask.top.body))
    return replace(made, body=orjson.dumps({"inputTokens": told(made.body)["input_tokens"]}))


def told(body: bytes) -> dict[str, int]:
    """A reply's count, in the words that all dialects have for it between decoder and encoder."""
    data = json_api.json_object(body)
    return {"input_tokens": whole_number(data.get("inputTokens")) or whole_number(data.get("input_tokens"))}


def _is_uncounted(problem: Problem) -> bool:
    if problem.code == errors.NOT_FOUND:
        return True
    return problem.code == errors.INVALID_REQUEST and bool(_UNCOUNTED.search(problem.message))


def _elsewhere(ask: ClientRequest, target: Target, drop: Drop) -> UpstreamRequest:
    """Anthropic's own operation on Bedrock's Messages API, which counts models that have profiles only."""
    changes: dict[str, bytes | None] = of_messages(ask.top)
    changes |= tagged_history.of_messages(ask.top, target.caps.family, drop)
    changes["model"] = orjson.dumps(base_id(target.base or target.model))
    headers = {"content-type": "application/json", "anthropic-version": _OTHER_VERSION}
    return UpstreamRequest("POST", _OTHER_PATH, ask.top.spliced(changes), headers=headers)


def _counted(reply: StepResponse) -> int:
    """0 for whatever is no count, such as Bedrock's answer of status 200 to a path that it does not know."""
    try:
        return whole_number(mapping(json_api.json_object(reply.body)).get("input_tokens")) if reply.status == 200 else 0
    except BadFrame:
        return 0


def _reply(headers: Any, body: bytes) -> StepResponse:
    return StepResponse(200, {"content-type": "application/json", **_shown(headers)}, body)


def _shown(headers: Any) -> dict[str, str]:
    """The provider's headers that tell a client something."""
    return {name: value for name, value in headers.items() if name.startswith("x-amzn-") and value.isprintable()}
