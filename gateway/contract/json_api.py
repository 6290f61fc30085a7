"""Functions for compatibility flags (plugins of API formats) with JSON bodies.

- Functions that read a client's request raise `Refused`. Functions that read a provider's reply raise `BadFrame`.
- No function depends on a particular flag, or on the events of a particular API.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Generator
from functools import cached_property
from typing import Any, Final, TypeVar

import orjson

from gateway.contract import errors, lenient_json, provider_errors
from gateway.contract.errors import BadFrame, Problem, Refused, invalid
from gateway.contract.flag import ClientRequest, Event, HttpRequest, Members, StepResponse, Work
from gateway.contract.result_values import MAX_COUNT

R = TypeVar("R")

MAX_MODEL: Final = 2048
"""Maximum number of characters of a model's name. It is Bedrock's limit for `modelId` (botocore's service model)."""
_UNNAMABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Pattern for the characters that a model's name must not have: control characters, line ends and lone surrogates. They
would break a log line or a header."""
_SHOWN: Final = 100
"""Maximum number of characters of a model's name in the error message that refuses the name."""

UNLIMITED: Final = 64_000
"""Number of output tokens, with thinking, that cost estimates assume for a request without an output limit.

No Claude model writes more.
"""


def parse(
    flag: str,
    dialect: str,
    request: HttpRequest,
    *,
    model: str = "model",
    stream: str = "stream",
    streams: bool = False,
) -> ClientRequest:
    """Return a client's request, parsed from its JSON body.

    - `model` is the key of the model's name in the body.
    - `stream` is the key of a boolean that is true if the client asks for a stream. If the body lacks this key,
      `streams` is used instead.

    Raises `Refused` if a value is not valid.

    >>> json_api.parse("acme_text", "acme_text", http_request).model
    'small'
    """
    top = Members(request.body)
    given = top.small(stream)
    if given is not None and not isinstance(given, bool):  # a provider might read it as true, the gateway as false
        raise invalid(f"{stream} must be true or false", stream)
    is_stream = streams if given is None else given
    return client_request(flag, dialect, request, top, model=model_of(top, model), stream=is_stream)


def client_request(
    flag: str, dialect: str, request: HttpRequest, top: Members, *, model: str, stream: bool
) -> ClientRequest:
    """Return a client's parsed request. Use this if `model` or `stream` is in the path, and not in the body.

    >>> top = Members(http_request.body)
    >>> json_api.client_request("acme_text", "acme_text", http_request, top, model="small", stream=True).stream
    True
    """
    return ClientRequest(
        flag=flag,
        dialect=dialect,
        operation=request.route.operation,
        method=request.route.method,
        path=request.path,
        query=request.query,
        headers=request.headers,
        top=top,
        model=model,
        stream=stream,
    )


def known_query(query: str, names: Collection[str]) -> str:
    """Return a query string with only the parameters in `names`. Other parameters may contain a client's credentials.

    >>> json_api.known_query("alt=sse&key=secret", {"alt"})
    'alt=sse'
    """
    return "&".join(part for part in query.split("&") if part.partition("=")[0] in names)


def model_of(top: Members, member: str = "model") -> str:
    """Return the model's name from the key `member` of the body.

    Raises `Refused` if there is no valid name. Also raises `Refused` for a key such as `Model`, because a provider that
    ignores case might use it.

    >>> json_api.model_of(Members(b'{"engine": "small"}'), "engine")
    'small'
    >>> json_api.model_of(Members(b'{"prompt": "hi"}'))
    Traceback (most recent call last):
        ...
    Refused: the body must name a "model", as a string
    """
    for name in top:
        if name != member and name.lower() == member.lower():
            raise invalid(f'the body has "{name}"; write "{member}"', name)
    model = top.small(member)
    if not isinstance(model, str) or not model:
        raise invalid(f'the body must name a "{member}", as a string', member)
    return model_name(model)


def model_name(name: str) -> str:
    r"""Return `name` unchanged if it is a valid name of a model.

    Raises `Refused` if it is too long or has control characters.

    >>> json_api.model_name("small")
    'small'
    >>> json_api.model_name("two\x00words")
    Traceback (most recent call last):
        ...
    Refused: model: "two?words" has control characters; send the name without them
    """
    if len(name) > MAX_MODEL:
        text = _UNNAMABLE.sub("?", name[:_SHOWN])
        raise invalid(f'model: "{text}..." has {len(name)} characters; at most {MAX_MODEL} are taken', "model")
    if _UNNAMABLE.search(name):
        text = _UNNAMABLE.sub("?", name[:_SHOWN])
        raise invalid(f'model: "{text}" has control characters; send the name without them', "model")
    return name


LARGE_BODY: Final = 1024 * 1024
"""Minimum size in bytes of a body that is processed in a worker process.

Processing a megabyte on the event loop would block it for about 10 ms. Sending the megabyte to a worker process takes 3
ms.
"""


def compute(request: ClientRequest, function: Callable[..., R], *args: Any) -> Generator[Work, Any, R]:
    """Call `function(*args)` and return its result. The hook `steps` uses this with `yield from`.

    If the request's body is large, a worker process calls the function.

    >>> def steps(request, target, drop):
    ...     data = yield from json_api.compute(request, json_api.json_object, request.top.body)
    ...     return request.with_body("acme_text", {**data, "n": 1})
    >>> list(steps(request, target, drop))
    []
    """
    if len(request.top.body) < LARGE_BODY:
        return function(*args)
    result: R = yield Work(function, args)
    return result


def limit(request: ClientRequest) -> int | None:
    """Return the limit on output tokens in a body of OpenAI's or Anthropic's APIs. Return None without a limit.

    >>> json_api.limit(request)
    9
    """
    return limit_of(request, "max_completion_tokens", "max_tokens", "max_output_tokens")


def limit_of(request: ClientRequest, *names: str) -> int | None:
    """Return the largest integer among the named fields of the body, or None if no field is an integer.

    The largest one is returned because the provider may use any of these fields as its limit. A value such as "16"
    counts as an integer (`integer`).

    >>> json_api.limit_of(request, "max_tokens"), json_api.limit_of(request, "maxOutputTokens")
    (9, None)
    """
    values = map(integer, map(request.top.small, names))
    return max((value for value in values if value is not None), default=None)


def integer(value: Any) -> int | None:
    """Return a JSON value as an integer, such as 16 for 16.0 or "16". Return None for a value that is no integer.

    Some clients write 16.0 or "16", and many servers accept this. A number above 2**53 is returned as 2**53.

    >>> [json_api.integer(value) for value in (16, 16.0, "16", 16.5, True, None)]
    [16, 16, 16, None, None, None]
    """
    if value is None:
        return None
    if isinstance(value, str):
        value = _json_value(value)
    if type(value) is int or (isinstance(value, float) and value.is_integer()):
        return max(-MAX_COUNT, min(int(value), MAX_COUNT))
    return None


def _json_value(text: str) -> Any:
    """Return the JSON value in a text, or None if the text is not JSON."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


class DecodedOnce(bytes):
    """The body of a provider's reply. Its JSON is decoded at most once.

    All users of this object share the decoded value, so they must not change it.

    >>> body = json_api.DecodedOnce(b'{"text": "hi"}')
    >>> body.data is body.data
    True
    """

    @cached_property
    def data(self) -> Any:
        """The decoded JSON. Raises `orjson.JSONDecodeError` if the body is not JSON."""
        return lenient_json.loads(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the class and the bytes of the body, for pickling. The decoded value is not pickled."""
        return DecodedOnce, (bytes(self),)


def json_object(body: bytes) -> dict[str, Any]:
    """Return a provider's reply as a decoded JSON object. Raises `BadFrame` if the reply is not a JSON object.

    >>> json_api.json_object(b'{"text": "hi"}')
    {'text': 'hi'}
    >>> json_api.json_object(b"<html>")
    Traceback (most recent call last):
        ...
    BadFrame: the provider's reply is not a JSON object
    """
    try:
        data = body.data if isinstance(body, DecodedOnce) else lenient_json.loads(body)
    except orjson.JSONDecodeError:
        data = None
    if not isinstance(data, dict):
        raise BadFrame("the provider's reply is not a JSON object")
    return data


def event_object(event: Event) -> dict[str, Any]:
    """Return an event's decoded JSON object, or {} for an event without a payload, such as a comment.

    Raises `BadFrame` if the payload is not a JSON object.

    >>> json_api.event_object(event("chunk", {"text": "hi"})), json_api.event_object(Event("", b""))
    ({'text': 'hi'}, {})
    """
    data = event.data if event.payload else {}
    if isinstance(data, dict):
        return data
    raise BadFrame("the provider's stream has an event that is not a JSON object")


def token_count(usage: Any, name: str) -> int:
    """Return the number of tokens in the field `name` of a usage report, or 0 if there is no valid number.

    >>> json_api.token_count({"read": 7, "written": "9"}, "read"), json_api.token_count({"written": "9"}, "written")
    (7, 0)
    """
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 <= value <= MAX_COUNT else 0


def json_members(body: bytes) -> Members:
    """Return the top-level keys and values of a provider's reply. Raises `BadFrame` if it is not a JSON object.

    >>> json_api.json_members(b'{"usage": {"read": 7}, "text": "hi"}')["usage"]
    b'{"read": 7}'
    """
    try:
        return Members(body)
    except Refused:
        raise BadFrame("the provider's reply is not a JSON object") from None


def reply_member(members: Members, name: str) -> Any:
    """Return the decoded value of a field of a provider's reply, or None if the field is missing.

    Raises `BadFrame` if the value is not JSON.

    >>> members = json_api.json_members(b'{"usage": {"read": 7}, "text": "hi"}')
    >>> json_api.reply_member(members, "usage"), json_api.reply_member(members, "error")
    ({'read': 7}, None)
    """
    if name not in members:
        return None
    try:
        return lenient_json.loads(members[name])
    except orjson.JSONDecodeError:
        raise BadFrame(f'the "{name}" of the provider\'s reply is not JSON') from None


def error(problem: Problem) -> tuple[int, dict[str, str], bytes]:
    """Return the status, the headers and the body of an error reply in the usual form `{"error": {...}}`.

    >>> status, headers, body = json_api.error(problem)
    >>> status, body
    (400, b'{"error":{"message":"prompt must be a string","type":"invalid_request","param":"prompt"}}')
    """
    body: dict[str, Any] = {"message": problem.message, "type": problem.native or problem.code}
    if problem.param:
        body["param"] = problem.param
    return errors.STATUS[problem.code], provider_errors.error_headers(problem), orjson.dumps({"error": body})


ESTIMATED: Final = "x-irisgate-estimated"
"""The name of a header in replies to `count_tokens`. The header says that the number of tokens is the gateway's own
estimate.
"""


def estimated_count(tokens: int) -> StepResponse:
    """Return a reply to the operation `count_tokens` with the gateway's own estimate.

    The header `ESTIMATED` marks the number as an estimate.

    >>> json_api.estimated_count(12).body
    b'{"input_tokens":12}'
    """
    headers = {"content-type": "application/json", ESTIMATED: "true"}
    return StepResponse(200, headers, orjson.dumps({"input_tokens": tokens}))


def text_bytes(*values: Any) -> int:
    """Return the number of UTF-8 bytes of the strings among `values`.

    >>> json_api.text_bytes("hi", "é", None)
    4
    """
    size = 0
    for value in values:
        if isinstance(value, str):
            size += len(value) if value.isascii() else len(value.encode(errors="replace"))
    return size
