"""The stored bodies of a call as a conversation: messages, thinking, tool calls and results.

- The plugin of the client's API format finds the texts (`places`) and reads streams (`decoder`). So every format can be
  shown, including formats of installed plugins.
- A body that was cut, or that the plugin refuses, is shown as far as it can be read. The raw body is shown beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

from gateway.call.text_work import items_of
from gateway.contract.capabilities import Caps
from gateway.contract.errors import GatewayError
from gateway.contract.flag import ClientRequest, Event, Head, Place, Target
from gateway.contract.members import Members
from gateway.contract.places import REPLY, REQUEST, value_at
from gateway.contract.record import Record
from gateway.contract.registry import Plugin
from gateway.store.captured import CapturedBodies, CapturedBody

MAX_TURNS: Final = 400
"""Maximum number of texts (`Turn`) on the page. Only the end of a longer conversation is shown."""
MAX_TEXT: Final = 20_000
"""Maximum number of characters of a text on the page."""
MAX_RAW: Final = 200_000
"""Maximum number of characters of a raw body on the page."""


class Turn(NamedTuple):
    """A piece of the conversation: one text of one author."""

    role: str
    """The author: `system`, `user`, `assistant` or `tool`. It is "" for any other author."""
    kind: str
    """The kind of the text, one of those of `Place.kind`. For example, `arguments` are the arguments of a tool call."""
    text: str
    tool: str = ""
    """The name of the called tool, if `text` has the arguments of a tool call and the name is known. It is ""
    otherwise."""
    cut: int = 0
    """Number of characters at the end of the text that are not shown."""


class Conversation(NamedTuple):
    """The conversation that the stored bodies of a call contain, and the raw bodies."""

    turns: tuple[Turn, ...]
    left_out: int
    """Number of texts at the beginning of the conversation that are not shown."""
    request: str
    reply: str
    """The raw body of the reply, as text."""
    request_cut: bool
    reply_cut: bool
    """True if `reply` is not the whole body."""


def conversation(flag: Plugin | None, record: Record, stored: CapturedBodies) -> Conversation:
    """Return the conversation of a call. `flag` is the plugin of the client's API format, or None if this plugin is not
    loaded.
    """
    turns: list[Turn] = []
    if flag is not None and flag.places is not None:
        turns = [*_request_turns(flag, stored.request.body), *_reply_turns(flag, record, stored)]
    shown = [_shortened(turn) for turn in turns[-MAX_TURNS:]]
    request, reply = (_raw(part) for part in (stored.request, stored.reply))
    return Conversation(
        tuple(shown), len(turns) - len(shown), request[:MAX_RAW], reply[:MAX_RAW],
        stored.request.cut or len(request) > MAX_RAW, stored.reply.cut or len(reply) > MAX_RAW,
    )  # fmt: skip


def _shortened(turn: Turn) -> Turn:
    over = max(0, len(turn.text) - MAX_TEXT)
    return turn._replace(text=turn.text[:MAX_TEXT], cut=over) if over else turn


def _raw(part: CapturedBody) -> str:
    body: str = part.as_dict()["body"]
    return body


def _request_turns(flag: Plugin, body: bytes) -> list[Turn]:
    turns: list[Turn] = []
    with suppress(GatewayError, ValueError):
        turns.extend(_whole(flag, Event(REQUEST, body), ""))
    return turns


def _reply_turns(flag: Plugin, record: Record, stored: CapturedBodies) -> list[Turn]:
    """Return the texts of the reply.

    The plugin may decode a reply differently for different requests, and the request's path and query are not stored.
    So the reply is decoded for each of the possible requests, until a text is found.
    """
    body, head = stored.reply.body, Head(record.status, stored.reply.headers)
    for request, target in _readings(flag, record, stored):
        turns: list[Turn] = []
        with suppress(GatewayError, ValueError):
            decoder = flag.hooks["decoder"].run(flag.decoder, request, target, head)
            if record.stream:
                turns.extend(_blocks(flag, _events(flag, decoder, body), record.tools))
            else:
                whole = flag.hooks["decoder.whole"].run(decoder.whole, body)
                turns.extend(_whole(flag, Event(REPLY, whole), "assistant"))
        if turns:
            return turns
    return []


def _readings(flag: Plugin, record: Record, stored: CapturedBodies) -> Iterator[tuple[ClientRequest, Target]]:
    """Yield the requests that the client may have sent, each with its `Target`, to decode the stored reply with them.

    Not all values of a request are stored, such as its path and query. So there are two possible requests for each
    dialect of the plugin (variant of its API format). The one whose streamed reply has the stored content type comes
    first.
    """
    content_type = stored.reply.headers.get("content-type", "").partition(";")[0]
    try:
        members = Members(stored.request.body)
    except GatewayError:  # the stored body was cut
        members = Members(b"{}")
    for dialect in flag.dialects:
        requests = [
            ClientRequest(
                name, dialect, record.operation, "POST", "/", "", stored.request.headers, members, record.model,
                record.stream,
            )
            for name in (record.api, "")
        ]  # fmt: skip
        target = Target(record.provider, record.api, record.model, dialect, Caps())
        requests.sort(key=lambda request: _stream_type(flag, request) != content_type)
        yield from ((request, target) for request in requests)


def _stream_type(flag: Plugin, request: ClientRequest) -> str:
    with suppress(GatewayError):
        stream_type: str = flag.hooks["stream_type"].run(flag.stream_type, request)
        return stream_type.partition(";")[0]
    return ""


def _events(flag: Plugin, decoder: Any, body: bytes) -> Iterator[Event]:
    """Yield the events of a stream. Stop at the first error."""
    with suppress(GatewayError, ValueError):
        yield from flag.hooks["decoder.feed"].each(decoder.feed, body)
        yield from flag.hooks["decoder.close"].each(decoder.close)


def _whole(flag: Plugin, event: Event, role: str) -> Iterator[Turn]:
    for place, text, _ in items_of(flag.hooks["places"], event):
        if isinstance(place, Place) and not place.repeats and text:
            yield Turn(place.role or role, place.kind, text, _tool(event, place))


def _tool(event: Event, place: Place) -> str:
    """Return the name of the called tool if the text at `place` is the arguments of a tool call that has a name.
    Return "" in all other cases.
    """
    if place.kind != "arguments":
        return ""
    around = value_at(event.data, place.path[:-1])
    name = around.get("name") if isinstance(around, Mapping) else None
    return name if isinstance(name, str) else ""


def _blocks(flag: Plugin, events: Iterable[Event], tools: Iterable[str]) -> Iterator[Turn]:
    """Yield one turn for each content block of a streamed reply, except for blocks without text.

    `tools` are the names of the called tools, in the order of the calls.
    """
    texts: dict[Any, list[str]] = {}
    for event in events:
        if not event.kind or not event.payload:
            continue
        with suppress(GatewayError, ValueError):
            for place, text, _ in items_of(flag.hooks["places"], event):
                if isinstance(place, Place) and not place.repeats:
                    texts.setdefault((place.kind, place.block), []).append(text)
    names = iter(tools)
    for (kind, _), pieces in texts.items():
        if text := "".join(pieces):
            yield Turn("assistant", kind, text, next(names, "") if kind == "arguments" else "")
