"""The laws of the function `places` of a flag (the plugin of one API format).

The function tells filters where the texts of a request or reply are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import orjson

from gateway.contract.errors import BadFrame
from gateway.contract.flag import Event, Place
from gateway.contract.places import REPLY, REQUEST, json_bytes, put_texts, text_at, value_at
from gateway.testkit.laws.exchange import Exchange
from gateway.testkit.laws.flag_subject import FlagSubject, name_of
from gateway.testkit.laws.law import Broken, Exempt, Law, require, shown

NO_PLACES: Final = "the flag has no function `places`, so no filter can read the texts of its calls"
NO_CLIENTS: Final = "the flag has no routes, so no filter gets its requests"


def requests_have_places(subject: FlagSubject) -> None:
    if not subject.flag.routes:
        raise Exempt(NO_CLIENTS)
    for exchange in subject.requests():
        body = exchange.request().top.body
        _require_text(_texts(exchange, [Event(REQUEST, body)]), f'the kind "{REQUEST}"', body, exchange)


def whole_replies_have_places(subject: FlagSubject) -> None:
    for exchange in subject.wholes():
        reply = _whole(exchange)
        _require_text(_texts(exchange, [reply]), f'the kind "{REPLY}"', reply.payload, exchange)


def streams_have_places(subject: FlagSubject) -> None:
    for exchange in subject.streams():
        texts = _texts(exchange, exchange.decoded([exchange.sample.stream]))
        _require_text(texts, "a stream", exchange.sample.stream, exchange)


def _require_text(texts: Mapping[Any, str], what: str, data: bytes, exchange: Exchange) -> None:
    reason = f"`places` yields no Place with text for {what}, so filters see none"
    require(any(texts.values()), reason, name_of(exchange), shown(data))


def a_stream_has_the_texts_of_the_whole(subject: FlagSubject) -> None:
    """Check that the streamed and the unstreamed reply of a sample have the same texts."""
    for exchange in subject.streams():
        if exchange.sample.whole:
            streamed = _by_kind(_texts(exchange, exchange.decoded([exchange.sample.stream])))
            whole = _by_kind(_texts(exchange, [_whole(exchange)]))
            require(streamed == whole, f"streamed {shown(streamed)}, whole {shown(whole)}", name_of(exchange))


def places_do_not_depend_on_the_text(subject: FlagSubject) -> None:
    """Check that `places` returns the same tuple for two events that differ only in one text.

    An event for which `places` returns no tuple is not checked.
    """
    for exchange in subject.streams():
        for event in exchange.decoded([exchange.sample.stream]):
            for place, text in _placed(exchange, event) if event.kind else ():
                if not isinstance(value_at(event.data, place.path), str):
                    continue  # arguments that are an object
                other = Event(event.kind, json_bytes(put_texts(event.data, [(place.path, f"{text}x")])))
                _require_same_places(exchange, event, other)


def _require_same_places(exchange: Exchange, event: Event, other: Event) -> None:
    places = exchange.flag.places
    assert places is not None
    if type(before := places(event)) is tuple:
        after = places(other)
        require(after == before, f"the places are {after} and {before}", name_of(exchange), shown(other.payload))


def _whole(exchange: Exchange) -> Event:
    decoder, hook = exchange.decoder(stream=False), exchange.flag.hooks["decoder.whole"]
    return Event(REPLY, hook.run(decoder.whole, exchange.sample.whole))


def _texts(exchange: Exchange, events: Iterable[Event]) -> dict[tuple[Any, ...], str]:
    """Return the texts of a reply. The texts of one kind and block are joined. Their key is the kind and the block.

    In an unstreamed reply, each text is a block of its own. Texts that repeat earlier texts are left out. Raises
    `Exempt` if the plugin has no `places`.
    """
    texts: dict[tuple[Any, ...], str] = {}
    for event in events:
        for place, text in _placed(exchange, event) if event.kind else ():
            key = (place.kind, *(place.path if event.kind == REPLY else (place.block,)))
            texts[key] = texts.get(key, "") + text
    return texts


def _placed(exchange: Exchange, event: Event) -> Iterator[tuple[Place, str]]:
    if exchange.flag.places is None:
        raise Exempt(NO_PLACES)
    for place in exchange.flag.places(event):
        if isinstance(place, Place) and not place.repeats:
            try:
                yield place, text_at(event.data, place.path)
            except (LookupError, TypeError, ValueError, BadFrame):
                payload = shown(event.payload)
                raise Broken(f"there is no text at {place.path}", name_of(exchange), payload) from None


def _by_kind(texts: Mapping[tuple[Any, ...], str]) -> dict[str, Any]:
    """Return the joined texts of each kind. For tool arguments, return a list of their JSON values instead.

    Empty arguments are left out, because some streams have no event for them.
    """
    joined: dict[str, Any] = {}
    for (kind, *_), text in texts.items():
        if kind == "arguments" and (value := _arguments(text)):
            joined[kind] = [*joined.get(kind, ()), value]
        elif kind != "arguments" and text:
            joined[kind] = joined.get(kind, "") + text
    return joined


def _arguments(text: str) -> Any:
    try:
        return orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return text


PLACE_LAWS: Final[tuple[Law[FlagSubject], ...]] = (
    Law("filters see the text of a request", requests_have_places),
    Law("filters see the text of a whole reply", whole_replies_have_places),
    Law("filters see the text of a stream", streams_have_places),
    Law("filters see the same texts in a stream and in the whole reply", a_stream_has_the_texts_of_the_whole),
    Law("the places of an event do not depend on its text, if they are a tuple", places_do_not_depend_on_the_text),
)
