"""The arguments and results of compatibility flags (plugins of API formats) and translators.

All objects are immutable, except that an `Event` caches its decoded payload. Plugins import these classes from
`flag.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import orjson

from gateway.contract import lenient_json
from gateway.contract.capabilities import Caps
from gateway.contract.errors import BadFrame
from gateway.contract.members import Members
from gateway.contract.settings import NO_OPTIONS

Headers = Mapping[str, str]
"""Values of headers by lower-case name. The values of a repeated header are joined by ", " (RFC 9110, 5.3)."""


class Frame(msgspec.Struct, frozen=True, gc=False):
    r"""One frame of a stream: a server-sent event or an event-stream message.

    >>> (frame,) = sse.Decoder().feed(b'event: chunk\ndata: {"text": "hi"}\n\n')
    >>> frame.headers, frame.payload
    ({'event': 'chunk'}, b'{"text": "hi"}')
    """

    headers: Mapping[str, str]
    """Headers of the frame, such as `event` of a server-sent event or `:message-type` of an event-stream message."""
    payload: bytes
    raw: bytes
    """The bytes of the frame. The `raw` bytes of all frames, joined, are the whole stream."""


class Event:
    r"""One event of a stream.

    - `kind` is the name that the decoder gives to the event. It is "" for a comment.
    - `payload` is JSON in the dialect (format of bodies) of the API.
    - `raw` is the provider's frame, for clients with the same API format. If it is b"", these clients get nothing.
    - If the gateway has made or changed the event, `raw` is None. Then the encoder writes the frame for the client.

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
        """Return the class and its arguments, for pickling. The decoded payload is not pickled."""
        return Event, (self.kind, self.payload, self.raw)

    def __repr__(self) -> str:
        return f"Event({self.kind!r}, {self.payload!r})"


def _lenient(payload: bytes) -> Any:
    try:
        return lenient_json.loads(payload)
    except orjson.JSONDecodeError:
        raise BadFrame("the provider's stream has an event that is not JSON") from None


def event(kind: str, data: Any) -> Event:
    """Return a new event. Its payload is `data` as JSON.

    >>> event("chunk", {"text": "hi"}).payload
    b'{"text":"hi"}'
    """
    return Event(kind, lenient_json.dumps(data))


@dataclass(frozen=True, slots=True)
class Route:
    """A route for clients. The path has placeholders in aiohttp's syntax. `{model:.+}` also matches ids with "/".

    >>> Route("POST", "/acme/v1/models/{model:.+}/text", "generate").operation
    'generate'
    """

    method: str
    path: str
    operation: str
    """The name of the operation: `generate`, `count_tokens`, or any other name."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A client's complete request, as `Flag.parse` gets it.

    >>> http_request.route.operation, http_request.path, http_request.headers["user-agent"]
    ('generate', '/acme/v1/text', 'acme/1.0')
    """

    route: Route
    path: str
    """The path as the client sent it, percent-encoded."""
    query: str
    headers: Headers = field(repr=False)
    """The headers. They are not in the repr, because they contain the client's credentials."""
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
    """The top-level keys of the body with their undecoded values. `top.body` is the whole body."""
    model: str
    """The name of the model, as the client wrote it."""
    stream: bool
    """True if the client asked for a stream."""
    without: tuple[str, ...] = ()
    """Names of features, such as betas, that the provider has refused for this model.

    `build` must leave these features out of the request to the provider.
    """
    auto_cached: bool = False
    """True if the gateway has put cache marks, such as `cache_control`, into the body (`Flag.mark_cache`)."""

    def with_body(self, dialect: str, body: Any) -> ClientRequest:
        """Return a copy of the request with another dialect and body. `body` is a decoded JSON value."""
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
    """The compatibility flag (plugin of an API format) that makes the request to the provider."""
    model: str
    """The model's name at the provider."""
    dialect: str
    """The dialect of the request to the provider, as `Flag.dialect_for` returned it."""
    caps: Caps
    options: Any = NO_OPTIONS
    """The configured options, an instance of the plugin's class `Options`."""
    base: str = ""
    """The model's id, if `model` is another name of the model, such as an ARN without the id. The configuration has
    this id. The value is "" if `model` contains the id itself.
    """
    host: str = ""
    """The host in the provider's base URL, in lower case."""


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request to a provider. The percent-encoded `path` is appended to the provider's base URL.

    >>> UpstreamRequest("POST", "/v1/text", b"{}", headers={"content-type": "application/json"}).path
    '/v1/text'
    """

    method: str
    path: str
    body: bytes
    query: str = ""
    headers: Headers = field(default_factory=dict)
    subdomain: str = ""
    """A label that replaces the first label of the provider's host for this request. If it is "", the host is kept.

    `ModelSearch.subdomain` has an example.
    """


@dataclass(frozen=True, slots=True)
class Fetch:
    """A download of a file from a URL in the client's request. The hook `steps` yields it.

    - The `yield` returns a `StepResponse` with status 200 and the `content-type` that the host sent.
    - If the download fails or the URL is not allowed, the client gets an error that names the field `param`.
    - In one call, the same URL is downloaded only once.

    >>> Fetch("https://example.com/cat.png", max_bytes=1_000_000, param="image").param
    'image'
    """

    url: str
    max_bytes: int
    param: str = ""
    """The field of the client's request that has the URL."""
    ahead: tuple[Fetch, ...] = ()
    """Downloads that the hook `steps` will yield later. The gateway starts them together with this download, so that
    all run at the same time.
    """


@dataclass(frozen=True, slots=True)
class Work:
    """A computation that a plugin's hook `steps` yields. The `yield` returns the result of `function(*args)`.

    If the request's body is large, a worker process calls the function. So the function must be importable, and its
    arguments and result must be picklable.

    >>> work = Work(json_api.json_object, (b'{"a": 1}',))
    >>> work.function(*work.args)
    {'a': 1}
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class StepResponse:
    """The reply to an `UpstreamRequest` or a `Fetch` that `steps` yielded.

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
"""A generator that the hook `Flag.steps` returns. It yields requests, downloads and computations."""
