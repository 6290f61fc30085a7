"""The plugin contract: protocols of flags, translators and observers, and the values between them and the gateway.

- A flag is a module whose name is the key in a provider's `compatibility` object. It speaks one wire format: the routes
  by which clients reach it, and the requests to a provider that has the flag. The bodies inside are of a *dialect*.
- A translator is a module named `<client dialect>__<upstream dialect>`.
- An observer is a module with `seen`.
- Everything here is pure: no network, no await, no configuration beyond the target.

`registry.py` checks modules against these protocols and takes what a flag leaves out from `defaults.py`. Only `api`,
`dialects`, `routes`, `build` and `meter` are required, so the smallest flag is:

    api = 1
    dialects = ("acme_text",)
    routes = (Route("POST", "/acme/v1/text", "generate"),)

    def build(request, target, drop):
        body = request.top.spliced({"model": orjson.dumps(target.model)})
        return UpstreamRequest("POST", "/v1/text", body)

    def meter(request, target, head):
        return AcmeMeter()
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import orjson

from gateway.contract import lenient_json
from gateway.contract.capabilities import Caps
from gateway.contract.client_api import ClientApi
from gateway.contract.errors import BadFrame, Problem
from gateway.contract.facts import USAGE_KINDS, Facts, Usage
from gateway.contract.members import Members

API: Final = 1
"""The version of this contract; a module has `api = 1`."""

OPAQUE: Final = "opaque"
"""The dialect of bodies that are passed through and counted, but never translated."""

COUNT_TOKENS: Final = "count_tokens"
"""The operation that asks how many tokens a prompt has.

In every dialect a decoder's `whole` returns the answer as `{"input_tokens": N}`, and an encoder's `whole` takes that
form, so no translator handles it."""

Headers = Mapping[str, str]
"""Headers by name in lower case; values of a repeated header are joined by ", " (RFC 9110, 5.3)."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One unit of a byte framing: a server-sent event, or an event-stream message."""

    headers: Mapping[str, str]
    """Headers, unchanged: `event` and `id` of an SSE frame; `:message-type` and others of an event stream."""
    payload: bytes
    raw: bytes
    """The bytes as they came; `raw` of all frames, one after the other, is the stream."""


class Event:
    """One event of a dialect.

    `payload` is the dialect's JSON; `raw` is the bytes that carried the payload in the upstream's envelope. On the
    native way `raw` goes to the client: b"" sends nothing; None says that the gateway made or changed the event, which
    is then encoded.
    """

    __slots__ = ("_data", "kind", "payload", "raw")

    def __init__(self, kind: str, payload: bytes, raw: bytes | None = None) -> None:
        self.kind = kind
        self.payload = payload
        self.raw = raw
        self._data: Any = None

    @property
    def data(self) -> Any:
        """The payload, decoded on first access. Raises `BadFrame` if the payload is not JSON."""
        if self._data is None:
            try:
                self._data = lenient_json.loads(self.payload)
            except orjson.JSONDecodeError:
                raise BadFrame("the provider's stream has an event that is not JSON") from None
        return self._data

    def __repr__(self) -> str:
        return f"Event({self.kind!r}, {self.payload!r})"


def event(kind: str, data: Any) -> Event:
    """Return a new event with `data` encoded as JSON."""
    return Event(kind, orjson.dumps(data))


@dataclass(frozen=True, slots=True)
class Route:
    """A route for clients. `path` is in aiohttp's resource syntax; `{model:.+}` is greedy, for ARNs."""

    method: str
    path: str
    operation: str
    """`generate`, `count_tokens` or another word."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A client's whole request, as `parse` gets it."""

    route: Route
    path: str
    """The path as it came, percent-encoded."""
    query: str
    headers: Headers = field(repr=False)
    """The request's headers; they are left out of the repr because a client's credentials are among them."""
    params: Mapping[str, str]
    """The route's placeholders, percent-decoded once."""
    body: bytes


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """A client's request, read. Every attempt starts from the same immutable value."""

    flag: str
    dialect: str
    operation: str
    method: str
    path: str
    query: str
    headers: Headers = field(repr=False)
    top: Members
    """The body's top-level members; `top.body` is the body's bytes."""
    model: str
    stream: bool

    def with_body(self, dialect: str, body: Any) -> ClientRequest:
        """Return the same request in another dialect, with `body` encoded as JSON."""
        return replace(self, dialect=dialect, top=Members(orjson.dumps(body)))


@dataclass(frozen=True, slots=True)
class Target:
    """The provider and model that one attempt goes to."""

    provider: str
    flag: str
    model: str
    """The model, as the provider names it."""
    dialect: str
    """The dialect that the flag's `dialect_for(caps)` returned."""
    caps: Caps
    options: Mapping[str, Any] = field(default_factory=dict)
    base: str = ""
    """The model behind an opaque name, from the configuration; "" if the name itself is the model's."""


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request to a provider. `path` is percent-encoded and is appended to the provider's base URL."""

    method: str
    path: str
    body: bytes
    query: str = ""
    headers: Headers = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fetch:
    """A resource to be read from the network on the client's behalf, behind the SSRF guard.

    The reply has status 200 and the `content-type` that the host sent. Any other outcome is a refusal that names
    `param`. A call reads the same URL once, however often it is yielded.
    """

    url: str
    max_bytes: int
    param: str = ""
    """The field of the client's request that names the URL."""
    ahead: tuple[Fetch, ...] = ()
    """Resources that will be yielded next, to be read at the same time."""


@dataclass(frozen=True, slots=True)
class StepResponse:
    """The reply to an `UpstreamRequest` or `Fetch` of `steps`."""

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of a provider's reply."""

    status: int
    headers: Headers


class Drop(Protocol):
    """Reports that a field of the client's request, or of the reply, is not carried. `path` is a JSON pointer."""

    def __call__(self, path: str) -> None: ...


class Decoder(Protocol):
    """Decodes the provider's bytes to events of the target's dialect."""

    done: bool
    """True after the terminal event."""

    def feed(self, data: bytes) -> Iterable[Event]:
        """Yield the events that are complete now, one by one.

        Raises `UpstreamFailed` at an error event and `BadFrame` at bytes that are no frame. Events before the fault are
        yielded first, so that they are not lost.
        """

    def close(self) -> Iterable[Event]:
        """Yield the events that only the end of the stream brings. Raises `Truncated` if the stream was cut."""

    def whole(self, body: bytes) -> bytes:
        """Return a reply that was not streamed, without the flag's envelope."""


class Meter(Protocol):
    """Reads facts from the provider's own events, which it never changes."""

    def feed(self, event: Event) -> None: ...

    def whole(self, body: bytes) -> None: ...

    def facts(self) -> Facts: ...


class Encoder(Protocol):
    """Encodes events of the client's dialect to the client's bytes."""

    def feed(self, event: Event) -> bytes: ...

    def whole(self, body: bytes) -> bytes: ...

    def ping(self) -> bytes:
        """Return a keep-alive for a stream; b"" if the dialect has none."""

    def fail(self, problem: Problem) -> bytes:
        """Return an error in mid-stream. These are the stream's last bytes: no normal end follows."""

    def close(self) -> bytes:
        """Return the normal end of a stream."""


class Translation(Protocol):
    """One translated attempt, with its state: the request for the provider, and the translation of the reply."""

    request: ClientRequest

    def feed(self, event: Event) -> Sequence[Event]: ...

    def whole(self, body: bytes) -> bytes: ...

    def close(self) -> Sequence[Event]:
        """Return the events that only the end of the stream brings."""


class Flag(Protocol):
    """A compatibility flag, after the registry has filled in the defaults."""

    @property
    def api(self) -> int: ...

    @property
    def dialects(self) -> tuple[str, ...]:
        """Dialects of the bodies that clients send on the flag's routes."""

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes for clients; () for a flag that only providers speak."""

    @property
    def accepts(self) -> tuple[tuple[str, str], ...]:
        """Pairs (flag, operation) of other flags whose requests go to a provider of this flag natively."""

    @property
    def content_type(self) -> str:
        """The content type of a streamed reply to a client."""

    @property
    def client_api(self) -> ClientApi | None:
        """Marks of the flag's clients, to explain a wrong path; None without any."""

    def parse(self, request: HttpRequest) -> ClientRequest:
        """Return the request of a client. Raises `Refused` for a request that cannot be read."""

    def dialect_for(self, caps: Caps) -> str:
        """Return the dialect for a model with these capabilities; `opaque` if none is known."""

    def build(self, request: ClientRequest, target: Target, drop: Drop) -> UpstreamRequest:
        """Return the request to the provider.

        Raises `Refused` for a field that it cannot carry and that would change the meaning if it were left out.
        """

    def steps(
        self, request: ClientRequest, target: Target, drop: Drop
    ) -> Generator[UpstreamRequest | Fetch, StepResponse, ClientRequest | StepResponse]:
        """Yield the requests and files that are needed before the request is built, and receive their replies.

        The gateway runs the steps of the client's flag in the client's dialect, and those of the provider's flag in the
        upstream's. The generator returns the request to go on with, or a reply in that dialect, such as an estimate,
        that answers the client without the provider.
        """

    def retry(self, request: ClientRequest, target: Target, problem: Problem, drop: Drop) -> ClientRequest | None:
        """Return the request of one more try after the provider's refusal, such as one without betas, or None."""

    def limit(self, request: ClientRequest) -> int | None:
        """Return the most output tokens that the client allows, for estimates before a call; None without a limit."""

    def problem(self, head: Head, body: bytes) -> Problem | None:
        """Return the problem that a reply's body reports, also under a 200, or None."""

    def decoder(self, request: ClientRequest, target: Target, head: Head) -> Decoder: ...

    def meter(self, request: ClientRequest, target: Target, head: Head) -> Meter: ...

    def encoder(self, request: ClientRequest) -> Encoder: ...

    def texts(self, event: Event) -> str:
        """Return the text of an event that a user sees; "" if there is none."""

    def with_text(self, event: Event, text: str) -> Event: ...

    def output_bytes(self, event: Event) -> int:
        """Return the bytes that the model wrote in this event: text, thinking, arguments of tools.

        A stream that is cut before the provider reports tokens is charged by them. Raises `BadFrame` for an event that
        is not JSON.
        """

    def error(self, problem: Problem) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of an error reply."""

    def reply_headers(self, request_id: str, usage: Usage | None) -> dict[str, str]:
        """Return headers that clients expect in every reply. A provider's header of the same name replaces one of them.

        `usage` is that of a whole reply that the gateway encoded; None for all other replies.
        """


class Translator(Protocol):
    """One directed pair of dialects."""

    @property
    def api(self) -> int: ...

    @property
    def loses(self) -> int:
        """The loss of this conversion as a number: of several conversions to a provider the lowest is taken.

        `conversions.json` has the numbers of the built-in translators, from 20 to 40.
        """

    @property
    def operations(self) -> tuple[str, ...]: ...

    def open(self, request: ClientRequest, target: Target, drop: Drop) -> Translation:
        """Return the translation of one attempt. Raises `Refused` if dropping a field would change the meaning."""


class Observer(Protocol):
    """Gets the record of every call, exactly once, in a thread of its own."""

    @property
    def api(self) -> int: ...

    def seen(self, record: Mapping[str, Any]) -> None: ...


__all__ = [
    "API", "COUNT_TOKENS", "OPAQUE", "USAGE_KINDS", "Caps", "ClientApi", "ClientRequest", "Decoder", "Drop",
    "Encoder", "Event", "Facts", "Fetch", "Flag", "Frame", "Head", "Headers", "HttpRequest", "Members", "Meter",
    "Observer", "Problem", "Route", "StepResponse", "Target", "Translation", "Translator", "UpstreamRequest", "Usage",
    "event",
]  # fmt: skip
