"""The values that compatibility flags and translators take and return: frames, events, routes, requests and replies.

All of them are immutable except `Event`, which caches its decoded payload. Plugins import these classes from `flag.py`,
with the rest of the contract.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from gateway.contract import lenient_json
from gateway.contract.capabilities import Caps
from gateway.contract.errors import BadFrame
from gateway.contract.members import Members
from gateway.contract.settings import NO_OPTIONS

Headers = Mapping[str, str]
"""The values of headers by name, in lower case. The values of a repeated header are joined by ", " (RFC 9110, 5.3)."""


@dataclass(frozen=True, slots=True)
class Frame:
    r"""One frame of a stream: a server-sent event or an event-stream message.

    >>> (frame,) = sse.Decoder().feed(b'event: chunk\ndata: {"text": "hi"}\n\n')
    >>> frame.headers, frame.payload
    ({'event': 'chunk'}, b'{"text": "hi"}')
    """

    headers: Mapping[str, str]
    """Headers of the frame, unchanged, such as `event` and `id`, or `:message-type`."""
    payload: bytes
    raw: bytes
    """The frame's bytes, unchanged. The concatenated `raw` of all frames is the whole stream."""


class Event:
    r"""One event of a stream.

    `kind` is the name that the decoder gave to the event; "" for bytes that are no event, such as a comment. `payload`
    is JSON of the dialect. `raw` has the bytes of the provider's frame around the payload. A client with the provider's
    format gets them unchanged; it gets nothing if `raw` is b"". If the gateway made or changed the event, `raw` is
    None. Then the encoder of the client's API writes the event.

    >>> Event("chunk", b'{"text": "hi"}', raw=b'data: {"text": "hi"}\n\n').data
    {'text': 'hi'}
    """

    __slots__ = ("_data", "kind", "payload", "raw")

    def __init__(self, kind: str, payload: bytes, raw: bytes | None = None) -> None:
        self.kind = kind
        self.payload = payload
        self.raw = raw
        self._data: Any = None

    @property
    def data(self) -> Any:
        """The payload as decoded JSON. Raises `BadFrame` if the payload is not JSON."""
        if self._data is None:
            try:
                self._data = orjson.loads(self.payload)  # nearly all payloads need no leniency
            except orjson.JSONDecodeError:
                self._data = _lenient(self.payload)
        return self._data

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the event for pickling, without its decoded payload."""
        return Event, (self.kind, self.payload, self.raw)

    def __repr__(self) -> str:
        return f"Event({self.kind!r}, {self.payload!r})"


def _lenient(payload: bytes) -> Any:
    try:
        return lenient_json.loads(payload)
    except orjson.JSONDecodeError:
        raise BadFrame("the provider's stream has an event that is not JSON") from None


def event(kind: str, data: Any) -> Event:
    """Return a new event of the gateway. Its payload is `data` as JSON.

    >>> event("chunk", {"text": "hi"}).payload
    b'{"text":"hi"}'
    """
    return Event(kind, lenient_json.dumps(data))


@dataclass(frozen=True, slots=True)
class Route:
    """A route for clients. `path` is in aiohttp's resource syntax; `{model:.+}` matches ARNs, which contain "/".

    >>> Route("POST", "/acme/v1/models/{model:.+}/text", "generate").operation
    'generate'
    """

    method: str
    path: str
    operation: str
    """The name of the operation: `generate`, `count_tokens`, or another name that the compatibility flag has chosen."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A client's complete request, which is the argument of `Flag.parse`.

    >>> http_request.route.operation, http_request.path, http_request.headers["user-agent"]
    ('generate', '/acme/v1/text', 'acme/1.0')
    """

    route: Route
    path: str
    """The path as the client sent it, percent-encoded."""
    query: str
    headers: Headers = field(repr=False)
    """The request's headers. The repr leaves them out, because they contain the client's credentials."""
    params: Mapping[str, str]
    """The values of the route's placeholders, percent-decoded once."""
    body: bytes


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """A client's parsed request. It is immutable, so that every attempt starts from the same request.

    >>> request.model, request.stream, request.top.decode("prompt")
    ('small', False, 'hi')
    >>> request.with_body("other_text", {"input": "hi"}).top.body
    b'{"input":"hi"}'
    """

    flag: str
    """The compatibility flag (plugin of an API format) whose route the client used."""
    dialect: str
    """The dialect of the body."""
    operation: str
    """The operation of the route, as in `Route.operation`."""
    method: str
    path: str
    query: str
    headers: Headers = field(repr=False)
    top: Members
    """The keys and undecoded values at the top level of the body. `top.body` has all bytes of the body."""
    model: str
    """The name of the model, as the client wrote it."""
    stream: bool
    """True if the client asked for a stream."""
    without: tuple[str, ...] = ()
    """Names of features, such as betas, that the provider refused for this model in earlier calls. `build` leaves them
    out."""
    auto_cached: bool = False
    """True if the gateway has put cache marks into the body (`Flag.mark_cache`). Then the client set none."""

    def with_body(self, dialect: str, body: Any) -> ClientRequest:
        """Return a copy of the request with another dialect and with `body`, a JSON value that is encoded here."""
        return replace(self, dialect=dialect, top=Members(lenient_json.dumps(body)))


@dataclass(frozen=True, slots=True)
class Target:
    """The provider and the model to which one attempt sends the request.

    >>> target.provider, target.model, target.caps.max_output
    ('acme', 'acme-1', 4096)
    """

    provider: str
    """The provider's key in the configuration."""
    flag: str
    """The compatibility flag (plugin of an API format) by which the provider is called."""
    model: str
    """The provider's name of the model."""
    dialect: str
    """The dialect of the request to the provider. This is the result of `dialect_for(caps)` of the provider's
    plugin."""
    caps: Caps
    options: Any = NO_OPTIONS
    """The provider's options for the flag, an instance of the flag's class `Options`."""
    base: str = ""
    """The configured id of a model whose name, such as an ARN, does not contain its id; "" if no id is configured."""
    host: str = ""
    """The host in the provider's base URL, in lower case."""


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request to a provider. `path` is percent-encoded and is appended to the provider's base URL.

    >>> UpstreamRequest("POST", "/v1/text", b"{}", headers={"content-type": "application/json"}).path
    '/v1/text'
    """

    method: str
    path: str
    body: bytes
    query: str = ""
    headers: Headers = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fetch:
    """A file at a URL in the client's request, which the gateway downloads with protection against SSRF.

    `steps` gets a `StepResponse` with status 200 and the `content-type` that the host sent. If the download fails, the
    gateway refuses the client's request with an error that names `param`. Within one call, the same URL is downloaded
    only once.

    >>> Fetch("https://example.com/cat.png", max_bytes=1_000_000, param="image").param
    'image'
    """

    url: str
    max_bytes: int
    param: str = ""
    """The field of the client's request that names the URL."""
    ahead: tuple[Fetch, ...] = ()
    """Further files that `steps` will ask for next. They can be downloaded at the same time."""


@dataclass(frozen=True, slots=True)
class Work:
    """A computation that `steps` yields: the gateway calls `function(*args)` and sends the result into `steps`.

    If the request's body is large, a worker process calls the function, so that the event loop stays free. Therefore
    the function must be importable, and its arguments and result must be picklable.

    >>> work = Work(json_api.json_object, (b'{"a": 1}',))
    >>> work.function(*work.args)
    {'a': 1}
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class StepResponse:
    """The reply to an `UpstreamRequest` or a `Fetch` that `steps` has yielded.

    >>> StepResponse(200, {"content-type": "image/png"}, b"...").headers["content-type"]
    'image/png'
    """

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """The status and the headers of a provider's reply.

    >>> Head(429, {"retry-after": "3"}).status
    429
    """

    status: int
    headers: Headers


Steps = Generator[UpstreamRequest | Fetch | Work, Any, ClientRequest | StepResponse]
"""The generator that `steps` of a compatibility flag returns."""
