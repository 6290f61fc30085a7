"""The plugin contract: what a compatibility flag, a translator and an observer are made of.

A flag is a plain module whose name is the key in a provider's `compatibility` object. It speaks one wire surface: the
routes by which clients reach it, and the way in which a provider that has it is called. What travels inside is a
*dialect*; a flag is an envelope around one. A translator is a module named `<client dialect>__<upstream dialect>`.

Everything here is pure: bytes and values in, bytes and values out. No network, no await, no configuration beyond the
target. `registry.py` checks modules against these protocols when it loads them and fills in what they leave out from
`json_api.py`: only `api`, `dialects`, `routes`, `build` and `meter` are demanded.
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
"""Version of this contract; a module says `api = 1`."""

OPAQUE: Final = "opaque"
"""The dialect of bodies that are passed through and counted, never translated."""

COUNT_TOKENS: Final = "count_tokens"
"""The operation that asks how many tokens a prompt has. In every dialect a decoder's `whole` gives its answer as
`{"input_tokens": N}`, and an encoder's `whole` takes it so: there is nothing in it to translate."""

Headers = Mapping[str, str]
"""Header names in lower case; values of a repeated header joined by ", " (RFC 9110, 5.3)."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One unit of a byte framing: a server-sent event, or an event-stream message."""

    headers: Mapping[str, str]
    """SSE: `event`, `id`; event stream: `:message-type`, `:event-type`, ... without any change."""
    payload: bytes
    raw: bytes
    """The bytes as they came; those of all frames, one after the other, are the stream."""


class Event:
    """One event of a dialect.

    `payload` is the dialect's JSON; `raw` the bytes that carried it in the upstream's envelope. On the native way `raw`
    goes to the client: b"" sends nothing, None means that the event was made or changed here and must be encoded.
    """

    __slots__ = ("_data", "kind", "payload", "raw")

    def __init__(self, kind: str, payload: bytes, raw: bytes | None = None) -> None:
        self.kind = kind
        self.payload = payload
        self.raw = raw
        self._data: Any = None

    @property
    def data(self) -> Any:
        """The payload, decoded once, when first asked for. Raises `BadFrame` if it is not JSON."""
        if self._data is None:
            try:
                self._data = lenient_json.loads(self.payload)
            except orjson.JSONDecodeError:
                raise BadFrame("the provider's stream has an event that is not JSON") from None
        return self._data

    def __repr__(self) -> str:
        return f"Event({self.kind!r}, {self.payload!r})"


def event(kind: str, data: Any) -> Event:
    """An event made here, from decoded data."""
    return Event(kind, orjson.dumps(data))


@dataclass(frozen=True, slots=True)
class Route:
    """A way in for clients. `path` is in aiohttp's resource syntax; `{model:.+}` is greedy, for ARNs."""

    method: str
    path: str
    operation: str
    """generate, count_tokens, ..."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A client's request as `parse` gets it: whole, and with nothing of aiohttp in it."""

    route: Route
    path: str
    """As it came, percent-encoded."""
    query: str
    headers: Headers = field(repr=False)
    """A client's credentials are among them; so they are in no repr."""
    params: Mapping[str, str]
    """The route's placeholders, percent-decoded once."""
    body: bytes


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """What a client asks for. Immutable: every attempt starts from the same one."""

    flag: str
    dialect: str
    operation: str
    method: str
    path: str
    query: str
    headers: Headers = field(repr=False)
    top: Members
    """The body's top-level members; `top.body` are its bytes."""
    model: str
    stream: bool

    def with_body(self, dialect: str, body: Any) -> ClientRequest:
        """The same ask in another dialect; `body` is encoded."""
        return replace(self, dialect=dialect, top=Members(orjson.dumps(body)))


@dataclass(frozen=True, slots=True)
class Target:
    """Where one attempt goes."""

    provider: str
    flag: str
    model: str
    """As the provider names it."""
    dialect: str
    """What `dialect_for(caps)` of the flag says."""
    caps: Caps
    options: Mapping[str, Any] = field(default_factory=dict)
    base: str = ""
    """The model behind the name, where the configuration says so; "" where the name says it."""


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request to a provider. `path` is percent-encoded and goes behind the provider's base URL."""

    method: str
    path: str
    body: bytes
    query: str = ""
    headers: Headers = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fetch:
    """A resource to be read from the network on the client's behalf, behind the SSRF guard.

    The reply has status 200 and the `content-type` that its host says; whatever else became of it is a refusal, which
    names `param`. Of one call the same URL is read once, however often it is yielded.
    """

    url: str
    max_bytes: int
    param: str = ""
    """The field of the client's request that names it."""
    ahead: tuple[Fetch, ...] = ()
    """What will be yielded next, to be read at the same time."""


@dataclass(frozen=True, slots=True)
class StepResponse:
    """What came back for a `UpstreamRequest` or `Fetch` of `steps`."""

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of a provider's reply."""

    status: int
    headers: Headers


class Drop(Protocol):
    """Says that a field of the client's request (or of the reply) is not carried. `path` is a JSON pointer."""

    def __call__(self, path: str) -> None: ...


class Decoder(Protocol):
    """The provider's bytes to events of the target's dialect."""

    done: bool
    """The terminal event has been seen."""

    def feed(self, data: bytes) -> Iterable[Event]:
        """Events that are complete now, yielded one by one; then raises `UpstreamFailed` for an error event and
        `BadFrame` for bytes that are none, so that what came before in the same read is not lost.
        """

    def close(self) -> Iterable[Event]:
        """The stream is over. Raises `Truncated` if it should not be."""

    def whole(self, body: bytes) -> bytes:
        """A reply that was not streamed, in the dialect (without the envelope)."""


class Meter(Protocol):
    """Reads facts from upstream-native events; never changes them."""

    def feed(self, event: Event) -> None: ...

    def whole(self, body: bytes) -> None: ...

    def facts(self) -> Facts: ...


class Encoder(Protocol):
    """Events of the client's dialect to the client's bytes."""

    def feed(self, event: Event) -> bytes: ...

    def whole(self, body: bytes) -> bytes: ...

    def ping(self) -> bytes:
        """Bytes that say "still here" in a stream; b"" where the dialect has none."""

    def fail(self, problem: Problem) -> bytes:
        """The error in mid-stream; the last bytes of the stream, no normal end follows."""

    def close(self) -> bytes:
        """The normal end."""


class Translation(Protocol):
    """One translated attempt: the ask for the upstream, and the way back for what it answers. State lives here."""

    request: ClientRequest

    def feed(self, event: Event) -> Sequence[Event]: ...

    def whole(self, body: bytes) -> bytes: ...

    def close(self) -> Sequence[Event]:
        """The events that only the end brings."""


class Flag(Protocol):
    """A compatibility flag, after the registry has filled in the defaults."""

    @property
    def api(self) -> int: ...

    @property
    def dialects(self) -> tuple[str, ...]:
        """Dialects of the bodies that clients send on its routes."""

    @property
    def routes(self) -> tuple[Route, ...]:
        """() for a flag that only providers speak."""

    @property
    def accepts(self) -> tuple[tuple[str, str], ...]:
        """(flag, operation) of other flags whose requests go to such a provider natively."""

    @property
    def content_type(self) -> str:
        """Of a streamed reply to a client."""

    @property
    def client_api(self) -> ClientApi | None:
        """What tells its clients by, where a path is wrong; None: nothing."""

    def parse(self, request: HttpRequest) -> ClientRequest:
        """Raises `Refused` for a request that cannot be read."""

    def dialect_for(self, caps: Caps) -> str:
        """The dialect in which such a model is spoken to; `opaque` if unknown."""

    def build(self, ask: ClientRequest, target: Target, drop: Drop) -> UpstreamRequest:
        """The request to the provider. Raises `Refused` for what it cannot carry without changing the meaning."""

    def steps(
        self, ask: ClientRequest, target: Target, drop: Drop
    ) -> Generator[UpstreamRequest | Fetch, StepResponse, ClientRequest | StepResponse]:
        """What must be asked or fetched before the request is built.

        Run for the client's flag in its own dialect, and for the provider's flag in the upstream's. Returns the ask to
        go on with, or a reply in that dialect that answers the client without asking the provider (an estimate).
        """

    def retry(self, ask: ClientRequest, target: Target, problem: Problem, drop: Drop) -> ClientRequest | None:
        """Another try after the provider's refusal, such as one without betas; None for most. Tried once."""

    def limit(self, ask: ClientRequest) -> int | None:
        """The most output tokens that the client allows; None if it sets no limit. For estimates before a call."""

    def problem(self, head: Head, body: bytes) -> Problem | None:
        """What a reply's body says went wrong, also under a 200; None if nothing did."""

    def decoder(self, ask: ClientRequest, target: Target, head: Head) -> Decoder: ...

    def meter(self, ask: ClientRequest, target: Target, head: Head) -> Meter: ...

    def encoder(self, ask: ClientRequest) -> Encoder: ...

    def texts(self, event: Event) -> str:
        """The text that a user would see of this event; "" if it has none."""

    def with_text(self, event: Event, text: str) -> Event: ...

    def output_bytes(self, event: Event) -> int:
        """Bytes of what the model wrote in this event: text, thinking, arguments of tools. For streams that are cut
        before the provider says how many tokens it was. Raises `BadFrame` for an event that is not JSON.
        """

    def error(self, problem: Problem) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an error reply."""

    def reply_headers(self, request_id: str, usage: Usage | None) -> dict[str, str]:
        """What clients look for in the head of every reply; a provider's own, where it goes on, stands above it.

        `usage` is that of a whole reply that was made here; None for all others.
        """


class Translator(Protocol):
    """One directed pair of dialects."""

    @property
    def api(self) -> int: ...

    @property
    def loses(self) -> int:
        """How much is lost on this way: of several ways to a provider the lowest is taken.

        For translators that `conversions.json` does not name, which has those of the built-in ones from 20 to 40.
        """

    @property
    def operations(self) -> tuple[str, ...]: ...

    def open(self, ask: ClientRequest, target: Target, drop: Drop) -> Translation:
        """Raises `Refused` for what cannot be carried without changing the meaning."""


class Observer(Protocol):
    """Told of every call, exactly once, off the request's path."""

    @property
    def api(self) -> int: ...

    def seen(self, record: Mapping[str, Any]) -> None: ...


__all__ = [
    "API",
    "COUNT_TOKENS",
    "OPAQUE",
    "USAGE_KINDS",
    "Caps",
    "ClientApi",
    "ClientRequest",
    "Decoder",
    "Drop",
    "Encoder",
    "Event",
    "Facts",
    "Fetch",
    "Flag",
    "Frame",
    "Head",
    "Headers",
    "HttpRequest",
    "Members",
    "Meter",
    "Observer",
    "Problem",
    "Route",
    "StepResponse",
    "Target",
    "Translation",
    "Translator",
    "UpstreamRequest",
    "Usage",
    "event",
]  # fmt: skip
