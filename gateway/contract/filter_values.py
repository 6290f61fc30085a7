"""The arguments and results of filters' methods. Filters import these classes from `filter.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, Protocol

import orjson

from gateway.contract.errors import BadFrame, PluginFailed, invalid
from gateway.contract.members import Members
from gateway.contract.messages import ClientRequest, Event
from gateway.contract.places import REQUEST, Copy, End, Place, Places, Text, json_bytes, put_texts, text_at

UNREADABLE: Final = "no filter can read the body: a number in it is too large, or it is nested too deeply"
"""The error message for a body that filters cannot read."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The identity of a call's client.

    >>> "group:dev" in call.caller.groups
    True
    """

    login: str
    """The login of the user. A tagged node has its tags instead. It is `(loopback)` for a client of a listener in mode
    `loopback`.
    """
    groups: tuple[str, ...] = ()
    """The groups of the user, from tailscaled or from the listener's configuration, such as `group:dev`."""
    tags: tuple[str, ...] = ()
    """The tags of the client's node, such as `tag:ci`."""
    node: str = ""
    """The stable id of the client's node in the tailnet. It is "" if it is unknown."""


@dataclass(frozen=True, slots=True)
class HttpReply:
    """The reply to a filter's own request.

    >>> HttpReply(200, {}, b'{"flagged": true}').json()
    {'flagged': True}
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the decoded body. Raises `ValueError` if it is not JSON."""
        return orjson.loads(self.body)


class HttpClient(Protocol):
    """An HTTP client for a filter's own requests. It is closed when the call ends.

    >>> reply = await call.http.send("POST", "https://moderation.example.com/check", json={"input": "hi"})
    >>> reply.status, reply.json()
    (200, {'flagged': False})
    """

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, json: Any = None, body: bytes = b""
    ) -> HttpReply:
        """Send a request, and return the whole reply. If `json` is not None, its JSON is the body.

        The host must have a public address or be one of `server.fetch.private_hosts`. Raises `OSError` if the host is
        not allowed or cannot be reached, and `TimeoutError` if the reply takes too long.
        """


@dataclass(frozen=True, slots=True)
class CallView:
    """The facts of a call that a filter can read.

    >>> call.caller.login, call.provider, call.model, call.request.headers["user-agent"]
    ('ada@example.com', 'acme', 'acme-1', 'acme/1.0')
    """

    id: str
    """The id of the call. The client gets it in the header `x-request-id`."""
    caller: Caller
    session: str
    """The id of the call's session."""
    provider: str
    """The provider's key in the configuration. If several providers are possible for the call, it is the first one."""
    model: str
    """The model's name at the provider."""
    flag: str
    """The compatibility flag (API format) of the client, such as `openai_chat`."""
    operation: str
    """The operation of the client's route, such as `generate` or `count_tokens`."""
    request: ClientRequest = field(repr=False)
    """The client's request, without the changes of other filters."""
    http: HttpClient = field(repr=False)
    """An HTTP client for the filter's own requests."""


class Asked:
    """A client's request and its texts. The object is immutable: `with_texts` and `with_body` return a changed copy.

    >>> asked.texts
    (Text(text='hi', kind='text', role='user'),)
    >>> asked.with_texts(["good morning"]).request.top["prompt"]
    b'"good morning"'
    >>> asked.with_body({"model": "small", "prompt": "bye"}).texts[0].text
    'bye'
    """

    __slots__ = ("_found", "_places", "_request")

    def __init__(self, request: ClientRequest, places: Places | None) -> None:
        self._request = request
        self._places = places
        self._found: tuple[Any, Sequence[Place], tuple[Text, ...]] | None = None

    @property
    def request(self) -> ClientRequest:
        """The request, with all changes by filters."""
        return self._request

    @property
    def texts(self) -> tuple[Text, ...]:
        """The texts of the request in their order: instructions, messages, tool arguments and tool results.

        Raises `Refused` for a body that cannot be decoded. Raises `PluginFailed` if the plugin of the client's API
        format has no function `places`, which finds texts.
        """
        return self._read()[2]

    def with_texts(self, texts: Sequence[str]) -> Asked:
        """Return a copy of the request in which the items of `texts` replace those of `self.texts`, in the same order.

        A field of the body keeps its bytes if none of its texts is changed. Raises `ValueError` if the number of texts
        is wrong.
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
        """Return the request with another body. `body` is a decoded JSON value in the client's API format."""
        return Asked(self.request.with_body(self.request.dialect, body), self._places)

    def _read(self) -> tuple[Any, Sequence[Place], tuple[Text, ...]]:
        if self._places is None:
            cause = "is missing, so that no filter can read the texts of requests"
            raise PluginFailed(self.request.flag, "places", cause, "")
        if self._found is None:
            event = Event(REQUEST, self.request.top.body)
            try:
                items: list[Any] = list(self._places(event))
            except BadFrame:
                raise invalid(UNREADABLE) from None
            for item in items:
                if not isinstance(item, Place | End | Copy):
                    cause = f"returned {type(item).__name__}; Place, End or Copy is expected"
                    raise PluginFailed(self.request.flag, "places", cause, "")
            places = [item for item in items if isinstance(item, Place)]
            texts = tuple(Text(text_at(event.data, place.path), place.kind, place.role) for place in places)
            self._found = event.data, places, texts
        return self._found


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete reply in the client's API format.

    The method `replied` receives a `Reply`. The method `request` may return a `Reply` to answer the client without a
    provider. A `Reply` has `events` if the client asked for a stream, and a `body` otherwise.

    >>> Reply(body=b'{"text": "from the cache"}')
    Reply(body=b'{"text": "from the cache"}', events=())
    >>> Reply(events=(event("chunk", {"text": "from the cache"}),)).body
    b''
    """

    body: bytes = b""
    """The JSON body. It is b"" for a stream."""
    events: tuple[Event, ...] = ()
    """The events of a stream. The value is () for a reply that is not a stream."""


class Hold(NamedTuple):
    """A text whose end a filter keeps back. The gateway sends `text` now, and puts `rest` before the next piece.

    >>> Hold("the fal", rest="con").rest
    'con'
    """

    text: str
    """The text that is passed on now."""
    rest: str
    """The text that is held back. The next piece begins with this text."""
