"""Filters: plugins that can read and change calls, block them, or answer them.

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
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, Protocol

import orjson
from pydantic import BaseModel, ConfigDict

from gateway.contract.errors import BLOCKED, RATE_LIMIT, PluginFailed, Problem, Refused
from gateway.contract.members import Members
from gateway.contract.messages import ClientRequest, Event
from gateway.contract.places import REQUEST, Kind, Place, Places, Text, json_bytes, put_texts, text_at

SECONDS: Final = 10.0
"""Seconds for which a call waits for one `async` method of a filter. After this time, the method counts as failed."""


class Settings(BaseModel):
    """The base class of a filter's settings, which are its object in the configuration's `plugins`.

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
        reply in time. Only public addresses and the hosts in `server.fetch.private_hosts` are allowed.
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
    """The client's request, unchanged. The request that is sent may be different, because earlier filters may have
    changed it."""
    http: HttpClient = field(repr=False)


class Asked:
    """A client's request with its texts. It is immutable: `with_texts` and `with_body` return a changed copy."""

    __slots__ = ("_found", "_places", "request")

    def __init__(self, request: ClientRequest, places: Places | None) -> None:
        self.request = request
        self._places = places
        self._found: tuple[Any, Sequence[Place], tuple[Text, ...]] | None = None

    @property
    def texts(self) -> tuple[Text, ...]:
        """The texts of the request: instructions, messages, and results and arguments of tools, in their order.

        Raises `PluginFailed` if the client's compatibility flag does not define where text is.
        """
        return self._read()[2]

    def with_texts(self, texts: Sequence[str]) -> Asked:
        """Return the request with new texts in place of `self.texts`, in the same order.

        Members of the body without a changed text keep their bytes. Raises `ValueError` for a wrong number of texts.
        """
        data, places, old = self._read()
        changes = [(place.path, new) for place, text, new in zip(places, old, texts, strict=True) if new != text.text]
        if not changes:
            return self
        changed = put_texts(data, changes)
        names = dict.fromkeys(str(path[0]) for path, _ in changes)
        body = self.request.top.spliced({name: json_bytes(changed[name]) for name in names})
        return Asked(replace(self.request, top=Members(body)), self._places)

    def with_body(self, body: Any) -> Asked:
        """Return the request with another body, a JSON value of the client's dialect."""
        return Asked(self.request.with_body(self.request.dialect, body), self._places)

    def _read(self) -> tuple[Any, Sequence[Place], tuple[Text, ...]]:
        if self._places is None:
            cause = "is missing, so that no filter can read the texts of requests"
            raise PluginFailed(self.request.flag, "places", cause, "")
        if self._found is None:
            event = Event(REQUEST, self.request.top.body)
            places = [place for place in self._places(event) if isinstance(place, Place)]
            texts = tuple(Text(text_at(event.data, place.path), place.kind, place.role) for place in places)
            self._found = event.data, places, texts
        return self._found


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete reply in the client's dialect: a body, or the events of a stream.

    A filter gets it in `replied`, and may return one from `request` to answer a call itself. The reply needs `events`
    if the client asked for a stream, and `body` otherwise.
    """

    body: bytes = b""
    """The body as JSON; b"" for a stream."""
    events: tuple[Event, ...] = ()


class Hold(NamedTuple):
    """A result of the method `text` that holds back the end of a piece until more text has come."""

    text: str
    """The text to pass on to the client now."""
    rest: str
    """The text that is held back. The filter gets it again at the beginning of the block's next piece."""


class Filter(Protocol):
    """The object that `open` returns.

    Every method is optional and may be `async`. Every method except `done` may raise `Refused`, usually made by
    `blocked` or `limited`, to end the call with an error.
    """

    def request(self, asked: Asked) -> Asked | Reply | Awaitable[Asked | Reply | None] | None:
        """Check the request before anything is sent.

        Returns None to send it unchanged, a changed `Asked` to send that instead, or a `Reply` to answer without a
        provider.
        """

    def headers(self) -> Mapping[str, str] | Awaitable[Mapping[str, str]]:
        """Return headers to add to the request to the provider.

        The credential and configured headers take precedence.
        """

    def text(self, kind: Kind, piece: str, last: bool) -> str | Hold | Awaitable[str | Hold]:
        """Return the text that replaces `piece`, or a `Hold`.

        A piece may end anywhere in a word. After a `Hold`, the next piece begins with the text that was held. `last` is
        true at the end of a block, and for each text of an unstreamed reply: nothing can be held there. Blocks of a
        stream may be interleaved, so text is held separately for each block and kind of text.
        """

    def replied(self, reply: Reply) -> Awaitable[None] | None:
        """Receive the complete reply of a successful call.

        For a stream, this is called after the last event was sent, but not if the stream is larger than
        `REPLIED_BYTES`.
        """

    def done(self, record: Mapping[str, Any]) -> Awaitable[None] | None:
        """Receive the record of the call. This is called once for each opened object, however the call ended."""


class FilterModule(Protocol):
    """The module of a filter."""

    @property
    def api(self) -> int: ...

    @property
    def blocks(self) -> bool:
        """Whether a call is refused if the filter fails. `on_error` in the configuration takes precedence."""

    @property
    def Settings(self) -> type[Settings]:  # noqa: N802 (a class of the module)
        """The class of the filter's settings; the base class if the filter has none."""

    def open(self, call: CallView, settings: Any) -> Filter | Awaitable[Filter | None] | None:
        """Return the object that sees the call; None if the call does not concern the filter.

        `settings` is an instance of the module's `Settings`. Raises `Refused`, by `blocked`, to end the call.
        """

    def samples(self) -> Sequence[Any]:
        """Return settings with which `irisgate plugins check` tries the filter, as `Settings` or as `FilterSample`.

        A running gateway does not call it.
        """


REPLIED_BYTES: Final = 8 * 1024 * 1024
"""Maximum number of bytes of a stream's events that are kept for `replied`."""


def blocked(code: str, message: str) -> Refused:
    """Return the exception that ends a call with the status 403.

    `code` is for programs and the record, and `message` for the client.
    """
    return Refused(Problem(BLOCKED, message, reason=code, should_retry=False))


def limited(code: str, message: str, retry_after: float) -> Refused:
    """Return the exception that ends a call because of a limit, with the seconds after which it may be tried again.

    The client gets the status 429 and `retry-after`, so that SDKs try again by themselves.
    """
    return Refused(Problem(RATE_LIMIT, message, reason=code, retry_after=retry_after, retryable=True))


def hold(text: str, size: int, last: bool) -> str | Hold:
    """Return `text`, but hold back its last `size` characters if it is not the last piece.

    A filter that searches for words of at most N characters must hold N - 1, to find words that are split between
    pieces.
    """
    if last or not size:
        return text
    return Hold(text[:-size], text[-size:])
