"""Counts tokens with Bedrock's CountTokens, or in another way if CountTokens does not support the model.

- A CountTokens body contains a whole InvokeModel or Converse request. The gateway unpacks this request, so that any
  provider can count its tokens and filters can read it. For Bedrock, the gateway packs the request again.
- An InvokeModel body of an unknown dialect is not unpacked. Only its base64 is replaced by the decoded JSON, so that
  filters can read it.
- CountTokens accepts only base model ids, and does not support every model. So the gateway tries up to three ways:
  first CountTokens with the base id, then Bedrock's Messages API (only for Anthropic's dialect), then its own estimate
  (litellm#32683, litellm#34272). A header of the reply tells if the count is an estimate.
- An error of CountTokens that is not about an unsupported model goes to the client.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import replace
from typing import Any, Final

import orjson

from gateway.contract import errors, json_api
from gateway.contract.billing import BilledParts
from gateway.contract.capabilities import base_id
from gateway.contract.errors import BadFrame, Problem, Refused, UpstreamFailed, invalid
from gateway.contract.flag import (
    OPAQUE,
    ClientRequest,
    Drop,
    Head,
    HttpRequest,
    Members,
    StepResponse,
    Steps,
    Target,
    UpstreamRequest,
)
from gateway.contract.provider_errors import not_a_reply
from gateway.money.quotas.estimate import input_tokens
from gateway_plugins.dialects.bedrock import claude_on_bedrock, runtime_api, tagged_history
from gateway_plugins.shared.lenient import count, mapping

CONVERSE: Final = "bedrock_converse"
MESSAGES: Final = "anthropic_messages"

_UNCOUNTED: Final = re.compile(
    r"(not|n't) support|identifier is invalid|inference profile|on-demand throughput", re.IGNORECASE
)
"""Pattern for the error messages of CountTokens about a model that it does not support."""
_CONVERSE_COUNTED: Final = frozenset({"messages", "system", "toolConfig", "additionalModelRequestFields"})
"""Fields of a Converse request that CountTokens accepts (botocore service model, ConverseTokensRequest)."""
_MESSAGES_COUNTED: Final = frozenset(
    {
        "model", "messages", "system", "tools", "tool_choice", "thinking", "cache_control", "context_management",
        "mcp_servers", "output_config", "output_format", "speed",
    }
)  # fmt: skip
"""Fields that Anthropic's count_tokens accepts (anthropic SDK 2.12, beta MessageCountTokensParams)."""
_MESSAGES_PATH: Final = "/anthropic/v1/messages/count_tokens"
_MESSAGES_VERSION: Final = "2023-06-01"
_BODY_PATH: Final = "input.invokeModel.body"


def parse(flag: str, request: HttpRequest) -> ClientRequest:
    """Return the request that a CountTokens body contains. A request of an unknown dialect is opaque (not interpreted).

    Raises `Refused` if the body of `invokeModel` is not base64 of a JSON object, because filters could not read it.
    """
    top = Members(request.body)
    dialect, inner = _inside(top)
    return runtime_api.parse(flag, dialect, request, inner)


def _inside(top: Members) -> tuple[str, Members]:
    given = _object(top, "input")
    if "converse" in given:
        return CONVERSE, Members(given["converse"])
    invoke = _object(given, "invokeModel")
    if not invoke.get("body", b"").startswith(b'"'):  # checked before anything is decoded
        return OPAQUE, top  # the provider reports the fault
    inner = _decoded(invoke.decode("body"))
    if "anthropic_version" in inner:
        return MESSAGES, inner
    return OPAQUE, Members(_with_body(top, given, invoke, inner.body))


def _object(top: Members, name: str) -> Members:
    """Return the value of a field if it is an object, and an empty object otherwise."""
    value = top.get(name, b"")
    return Members(value if value.startswith(b"{") else b"{}")


def _decoded(body: str) -> Members:
    try:
        return Members(base64.b64decode(body, validate=True))
    except (Refused, binascii.Error, ValueError):
        raise invalid(f"{_BODY_PATH} must be the base64 of a JSON object", _BODY_PATH) from None


def _with_body(top: Members, given: Members, invoke: Members, body: bytes) -> bytes:
    """Return the CountTokens body `top` with a new value of `input.invokeModel.body`.

    `given` is the value of `input`, and `invoke` is the value of `invokeModel`.
    """
    return top.spliced({"input": given.spliced({"invokeModel": invoke.spliced({"body": body})})})


def _with_base64(top: Members) -> bytes:
    """Return a CountTokens body in which `input.invokeModel.body` is encoded in base64 again, as Bedrock expects.

    Only a JSON object is encoded. Any other value of `input.invokeModel.body` stays unchanged.
    """
    given = _object(top, "input")
    invoke = _object(given, "invokeModel")
    body = invoke.get("body", b"")
    if not body.startswith(b"{"):
        return top.body
    return _with_body(top, given, invoke, orjson.dumps(base64.b64encode(body).decode()))


def without_uncounted(top: Members) -> dict[str, bytes | None]:
    """Return the changes that remove each field that Anthropic's count_tokens refuses, such as `max_tokens`."""
    return {name: None for name in top if name not in _MESSAGES_COUNTED}


def count_request(request: ClientRequest, target: Target, drop: Drop) -> UpstreamRequest:
    """Return the request to CountTokens. The request has the base model id, because CountTokens refuses inference
    profiles.
    """
    base = replace(target, model=base_id(target.base or target.model))
    return runtime_api.upstream_request(
        base, "count-tokens", _body(request, target, drop), runtime_api.request_headers(request.headers)
    )


def _body(request: ClientRequest, target: Target, drop: Drop) -> bytes:
    if request.dialect == CONVERSE:
        changes: dict[str, bytes | None] = {name: None for name in request.top if name not in _CONVERSE_COUNTED}
        changes |= tagged_history.of_converse(request.top, target, drop)
        return b'{"input":{"converse":' + (request.top.spliced(changes) if changes else request.top.body) + b"}}"
    if request.dialect != MESSAGES:
        return _with_base64(request.top)
    if request.flag == "bedrock_model_invoke":
        inner = claude_on_bedrock.native_body(request, target, drop)
    else:
        inner = claude_on_bedrock.body(request, target, drop)
    return orjson.dumps({"input": {"invokeModel": {"body": base64.b64encode(inner).decode()}}})


def steps(request: ClientRequest, target: Target, drop: Drop, billed_parts: BilledParts) -> Steps:
    """Yield the requests that count the tokens. Return a CountTokens reply with the count.

    1. The first request goes to CountTokens. An error that says that the model is not supported leads to step 2. Any
       other error raises `UpstreamFailed`.
    2. If the client's request is a Messages request, the second request goes to Bedrock's Messages API.
    3. If there is still no count, the gateway estimates it. `billed_parts` finds the parts of the request that are not
       billed as text, such as images.
    """
    reply = yield (yield from json_api.compute(request, count_request, request, target, drop))
    head = Head(reply.status, reply.headers)
    problem = runtime_api.problem_for(head, reply.body)
    if problem is None:
        return _reply(reply.headers, _checked(reply.body))
    if not _is_uncounted(problem):
        raise UpstreamFailed(problem, reply.body, _client_headers(reply.headers), reply.status)
    if request.dialect == MESSAGES:
        reply = yield (yield from json_api.compute(request, _messages_api_request, request, target, drop))
        if (tokens := _counted_tokens(reply)) > 0:
            return _reply({}, orjson.dumps({"inputTokens": tokens}))
    tokens = yield from json_api.compute(request, input_tokens, request.top.body, billed_parts)
    estimate = json_api.estimated_count(tokens)
    return replace(estimate, body=orjson.dumps({"inputTokens": neutral_count(estimate.body)["input_tokens"]}))


def neutral_count(body: bytes) -> dict[str, int]:
    """Return the token count in the body of a CountTokens reply as `{"input_tokens": n}`, the form of Anthropic's API.

    The encoder of every client dialect expects this form.
    """
    data = json_api.json_object(body)
    return {"input_tokens": _tokens(data.get("inputTokens")) or _tokens(data.get("input_tokens"))}


def _tokens(value: Any) -> int:
    """Return `value` if it is a plausible number of tokens, and otherwise 0."""
    return count(value) or 0


def _checked(body: bytes) -> bytes:
    """Return `body` if it is a CountTokens reply. Raises `UpstreamFailed` if it has no count."""
    try:
        if _tokens(json_api.json_object(body).get("inputTokens")) > 0:
            return body
    except BadFrame as fault:
        raise not_a_reply(body, fault) from None
    raise not_a_reply(body, BadFrame("the provider's reply has no count of tokens"))


def _is_uncounted(problem: Problem) -> bool:
    if problem.code == errors.NOT_FOUND:
        return True
    return problem.code == errors.INVALID_REQUEST and bool(_UNCOUNTED.search(problem.message))


def _messages_api_request(request: ClientRequest, target: Target, drop: Drop) -> UpstreamRequest:
    """Return a request to count_tokens of Bedrock's Messages API.

    The Messages API can count tokens for models that CountTokens does not support.
    """
    changes: dict[str, bytes | None] = without_uncounted(request.top)
    changes |= tagged_history.of_messages(request.top, target, drop)
    changes["model"] = orjson.dumps(base_id(target.base or target.model))
    headers = {"content-type": "application/json", "anthropic-version": _MESSAGES_VERSION}
    return UpstreamRequest("POST", _MESSAGES_PATH, request.top.spliced(changes), headers=headers)


def _counted_tokens(reply: StepResponse) -> int:
    """Return the count in a reply, or 0 if there is none.

    Bedrock sends status 200 for unknown paths too. So a reply with status 200 may have no count.
    """
    try:
        return _tokens(mapping(json_api.json_object(reply.body)).get("input_tokens")) if reply.status == 200 else 0
    except BadFrame:
        return 0


def _reply(headers: Any, body: bytes) -> StepResponse:
    return StepResponse(200, {"content-type": "application/json", **_client_headers(headers)}, body)


_CLIENT_HEADERS: Final = ("x-amzn-requestid", "x-amzn-errortype")


def _client_headers(headers: Any) -> dict[str, str]:
    """Return the provider's headers that clients read: the request's id and the name of an error."""
    return {name: value for name, value in headers.items() if name in _CLIENT_HEADERS and value.isprintable()}
