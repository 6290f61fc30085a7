"""Filters: plugins that see calls and change them, block them, or answer them.

A filter is a module with `api = 1` and a function `open(call, settings)`. It is off until the configuration names it
under `plugins`. The order there is the order in which calls pass the filters. `open` runs once for each call. It
returns None if the call does not concern the filter. Otherwise it returns an object with any of the methods of
`Filter`.

This filter refuses prompts with a forbidden word, and stars it out in replies:

    api = 1
    blocks = True

    class Settings(filter.Settings):
        word: str

    def open(call, settings):
        return Guard(settings.word)

    class Guard:
        def __init__(self, word):
            self.word = word

        def request(self, asked):
            if any(self.word in text.text for text in asked.texts):
                raise blocked("forbidden_word", "the prompt has a word that is not allowed here")

        def text(self, kind, piece, last):
            return hold(piece.replace(self.word, "***"), len(self.word) - 1, last)

Methods and `open` may be `async`. They may then wait for requests of their own (`call.http`), each at most
`SECONDS`. Methods that are not `async` must return at once, because the event loop waits for them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, Protocol

import orjson
from pydantic import BaseModel, ConfigDict

from gateway.contract.errors import BLOCKED, PluginFailed, Problem, Refused
from gateway.contract.members import Members
from gateway.contract.messages import ClientRequest, Event
from gateway.contract.places import REQUEST, Kind, Place, Places, Text, put_text, text_at

SECONDS: Final = 10.0
"""Seconds for which a call waits for one `async` method of a filter. After them the method has failed."""


class Settings(BaseModel):
    """The base of a filter's settings, which are its object in the configuration's `plugins`.

    Each field is a key of that object. The gateway checks the object against the fields when it reads the
    configuration, and reports a fault with file, line and column. A field of pydantic's type `SecretStr` may be written
    as `env:NAME` or `file:PATH`, as keys of providers are. The key `on_error` is the gateway's own.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Caller:
    """The identity of a call's client."""

    login: str
    groups: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    node: str = ""
    """The stable id of the client's node in the tailnet; "" if it is unknown."""


@dataclass(frozen=True, slots=True)
class HttpReply:
    """The reply to a filter's own request."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the decoded body. Raises `ValueError` if it is not JSON."""
        return orjson.loads(self.body)


class HttpClient(Protocol):
    """A client for a filter's own requests. It is closed when the call has ended."""

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, json: Any = None, body: bytes = b""
    ) -> HttpReply:
        """Send a request and return the whole reply. `json` is encoded as the body, unless it is None.

        Raises `OSError` if the host cannot be reached or its address is not allowed, and `TimeoutError` if it does not
        reply in time. Only public addresses are allowed, and those in `server.fetch.private_hosts`.
        """


@dataclass(frozen=True, slots=True)
class CallView:
    """The facts of a call that a filter may know."""

    id: str
    """The id of the request, which the client gets as `x-request-id`."""
    caller: Caller
    session: str
    provider: str
    """The provider that the call is meant for, by its key in the configuration."""
    model: str
    """The provider's name of the model."""
    flag: str
    """The compatibility flag (API format) of the client, such as `openai_chat`."""
    operation: str
    request: ClientRequest = field(repr=False)
    """The client's request, as it came. Filters before this one may have changed what is sent."""
    http: HttpClient = field(repr=False)


class Asked:
    """A client's request with its texts. It is immutable: `with_texts` and `with_body` return a changed copy."""

    __slots__ = ("_found", "_places", "request")

    def __init__(self, request: ClientRequest, places: Places | None) -> None:
        self.request = request
        self._places = places
        self._found: tuple[Any, Sequence[Place]] | None = None

    @property
    def texts(self) -> tuple[Text, ...]:
        """The texts of the request: instructions, messages, and results and arguments of tools, in their order.

        Raises `PluginFailed` if the client's compatibility flag does not say where text stands.
        """
        data, places = self._read()
        return tuple(Text(text_at(data, place.path), place.kind, place.role) for place in places)

    def with_texts(self, texts: Sequence[str]) -> Asked:
        """Return the request with other texts: one for each of `texts`, in the same order.

        Members of the body in which no text changes keep their bytes. Raises `ValueError` for another number of texts.
        """
        data, places = self._read()
        changed = deepcopy(data)
        names: dict[str, None] = {}
        for place, text in zip(places, texts, strict=True):
            if text_at(data, place.path) != text:
                put_text(changed, place.path, text)
                names[str(place.path[0])] = None
        if not names:
            return self
        body = self.request.top.spliced({name: orjson.dumps(changed[name]) for name in names})
        return Asked(replace(self.request, top=Members(body)), self._places)

    def with_body(self, body: Any) -> Asked:
        """Return the request with another body, a JSON value of the client's dialect."""
        return Asked(self.request.with_body(self.request.dialect, body), self._places)

    def _read(self) -> tuple[Any, Sequence[Place]]:
        if self._places is None:
            cause = "is missing, so that no filter can read the texts of requests"
            raise PluginFailed(self.request.flag, "places", cause, "")
        if self._found is None:
            event = Event(REQUEST, self.request.top.body)
            places = [place for place in self._places(event) if isinstance(place, Place)]
            self._found = event.data, places
        return self._found


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete reply in the client's dialect: a whole body, or the events of a stream.

    A filter gets it in `replied`, and may return it from `request` to answer a call itself. A request for a stream
    needs `events`, and another request needs `body`.
    """

    body: bytes = b""
    """The body as JSON; b"" for a stream."""
    events: tuple[Event, ...] = ()


class Hold(NamedTuple):
    """A result of `text` that keeps the end of a piece until more has come."""

    text: str
    """The text that goes on to the client now."""
    rest: str
    """The text that the filter gets again, in front of the next piece of the block."""


class Filter(Protocol):
    """The object that `open` returns. Each method may be left out, and each may be `async`.

    Every method except `done` may raise `Refused`, usually by `blocked(code, message)`, to end the call with an error.
    """

    def request(self, asked: Asked) -> Asked | Reply | Awaitable[Asked | Reply | None] | None:
        """Look at the request before anything is sent.

        Returns None to send it as it is, a changed `Asked` to send that instead, or a `Reply` to answer without a
        provider.
        """

    def headers(self) -> Mapping[str, str] | Awaitable[Mapping[str, str]]:
        """Return headers for the request to the provider. Its credential and the configuration's headers win."""

    def text(self, kind: Kind, piece: str, last: bool) -> str | Hold | Awaitable[str | Hold]:
        """Return the text that takes the place of `piece`, or a `Hold`.

        The pieces are those of the stream, which may end anywhere in a word. After a `Hold` the piece begins with the
        text that was held. `last` is true for the end of a block, and for each text of a whole reply: nothing can be
        held there. Blocks of a stream may be interleaved; each kind of text of each block is held separately.
        """

    def replied(self, reply: Reply) -> Awaitable[None] | None:
        """Look at the complete, successful reply. For a stream, this is after its last event was sent.

        A stream of more than `REPLIED_BYTES` is not given.
        """

    def done(self, record: Mapping[str, Any]) -> Awaitable[None] | None:
        """Look at the record of the call. This runs once for each opened object, however the call ended."""


class FilterModule(Protocol):
    """The module of a filter."""

    @property
    def api(self) -> int: ...

    @property
    def blocks(self) -> bool:
        """Whether a call is refused if the filter fails. The configuration's `on_error` has precedence."""

    @property
    def Settings(self) -> type[Settings]:  # noqa: N802 (a class of the module)
        """The class of the filter's settings; the base class if the filter has none."""

    def open(self, call: CallView, settings: Any) -> Filter | Awaitable[Filter | None] | None:
        """Return the object that sees the call; None if the call does not concern the filter.

        `settings` is an instance of the module's `Settings`. Raises `Refused`, by `blocked`, to end the call.
        """

    def samples(self) -> Sequence[BaseModel]:
        """Return settings with which `irisgate plugins check` tries the filter. A running gateway does not call it."""


REPLIED_BYTES: Final = 8 * 1024 * 1024
"""Number of bytes of a stream's events up to which they are kept for `replied`."""


def blocked(code: str, message: str) -> Refused:
    """Return the exception that ends a call. `code` is for programs and the record; `message` is for the client."""
    return Refused(Problem(BLOCKED, message, reason=code, should_retry=False))


def hold(text: str, size: int, last: bool) -> str | Hold:
    """Return `text`, but hold its last `size` characters unless it is the last piece.

    A filter that looks for something of at most N characters holds N - 1 of them, and then finds it across pieces.
    """
    if last or not size:
        return text
    return Hold(text[:-size], text[-size:])
