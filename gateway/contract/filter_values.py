"""The values that filters take and return: the call, the request with its texts, replies, and a client for requests.

Filters import these classes from `filter.py`.
"""

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
"""The error message for a body that cannot be decoded for filters. Without filters, it could be passed on unchanged."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The identity of a call's client.

    >>> "group:dev" in call.caller.groups
    True
    """

    login: str
    """The login of the user, or the name of the client; `(loopback)` for a client on the loopback address."""
    groups: tuple[str, ...] = ()
    """The groups of the user in the configuration, such as `group:dev`."""
    tags: tuple[str, ...] = ()
    """The tags of the client's node, such as `tag:ci`."""
    node: str = ""
    """The stable id of the client's node in the tailnet; "" if it is unknown."""


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
    """A client for a filter's own requests. It is closed when the call has ended.

    >>> reply = await call.http.send("POST", "https://moderation.example.com/check", json={"input": "hi"})
    >>> reply.status, reply.json()
    (200, {'flagged': False})
    """

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, json: Any = None, body: bytes = b""
    ) -> HttpReply:
        """Send a request and return the whole reply. `json` is encoded as the body, unless it is None.

        Raises `OSError` if the host cannot be reached or its address is not allowed, and `TimeoutError` if it does not
        reply in time. Only public addresses and the hosts in `server.fetch.private_hosts` are allowed.
        """


@dataclass(frozen=True, slots=True)
class CallView:
    """The facts of a call that a filter may know.

    >>> call.caller.login, call.provider, call.model, call.request.headers["user-agent"]
    ('ada@example.com', 'acme', 'acme-1', 'acme/1.0')
    """

    id: str
    """The id of the request, which the client gets as `x-request-id`."""
    caller: Caller
    session: str
    """The id of the session to which the call belongs."""
    provider: str
    """The provider that the call is meant for, by its key in the configuration."""
    model: str
    """The provider's name of the model."""
    flag: str
    """The compatibility flag (API format) of the client, such as `openai_chat`."""
    operation: str
    """The operation of the route: `generate`, `count_tokens`, or another name that the flag has chosen."""
    request: ClientRequest = field(repr=False)
    """The client's request, unchanged. The request that is sent may be different, because earlier filters may have
    changed it."""
    http: HttpClient = field(repr=False)
    """A client for the filter's own requests."""


class Asked:
    """A client's request with its texts. It is immutable: `with_texts` and `with_body` return a changed copy.

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
        """The request with the changes of this copy."""
        return self._request

    @property
    def texts(self) -> tuple[Text, ...]:
        """The texts of the request: instructions, messages, and results and arguments of tools, in their order.

        Raises `PluginFailed` if the client's compatibility flag does not define where text is, and `Refused` for a body
        that cannot be decoded.
        """
        return self._read()[2]

    def with_texts(self, texts: Sequence[str]) -> Asked:
        """Return the request with new texts in place of `self.texts`, in the same order.

        Fields of the body without a changed text keep their bytes. Raises `ValueError` for a wrong number of texts.
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
    """A complete reply in the client's dialect: a body, or the events of a stream.

    A filter gets it in `replied`, and may return one from `request` to answer a call itself. The reply needs `events`
    if the client asked for a stream, and `body` otherwise.

    >>> Reply(body=b'{"text": "from the cache"}')
    Reply(body=b'{"text": "from the cache"}', events=())
    >>> Reply(events=(event("chunk", {"text": "from the cache"}),)).body
    b''
    """

    body: bytes = b""
    """The body as JSON; b"" for a stream."""
    events: tuple[Event, ...] = ()
    """The events of a stream; () for a reply that is not a stream."""


class Hold(NamedTuple):
    """A result of the method `text` that holds back the end of a piece until more text has come.

    >>> Hold("the fal", rest="con").rest
    'con'
    """

    text: str
    """The text to pass on to the client now."""
    rest: str
    """The text that is held back. The filter gets it again at the beginning of the block's next piece."""
