"""Functions that find and replace the texts of a body. For a large body they run in a worker process.

- A worker process returns the texts of a body in parts, because unpickling all of them at once would block the event
  loop. Other calls can run between two parts (`turns.py`).
- Changed texts are sent to a worker process with their indexes. Pickling their JSON paths would take too long.

Everything here that runs in a worker process can be pickled.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import orjson

from gateway.call.turns import Turns
from gateway.contract.filter import Asked
from gateway.contract.hooks import Hook
from gateway.contract.messages import ClientRequest, Event
from gateway.contract.places import REQUEST, Copy, End, Place, Text, empty, json_bytes, json_text, put_text
from gateway.contract.result_values import wrong_result
from gateway.upstream.process_pool import LARGE, NO_DROP, ProcessPool, is_costly

MANY_STRINGS: Final = 4_000
"""A request with more strings than this counts as large, whatever its size in bytes. Finding and changing one string
takes about 10 microseconds.
"""
LARGE_TEXT: Final = 256 * 1024
"""Minimum number of characters of a text that is given to filters in a thread. A search for a few words in such a text
takes about 1 ms or more.
"""
PART_ITEMS: Final = 256
"""Texts are sent to and from a worker process in parts. This is the maximum number of texts in one part. Each part is
pickled separately.
"""
PART_CHARACTERS: Final = 1024 * 1024
"""Texts are sent to and from a worker process in parts. This is the number of characters after which a part ends.
Unpickling such a part takes about 1 ms.
"""

Item = tuple[Place | End | Copy, str, bool]
"""A triple for one text of a body: what the plugin's function `places` yielded for it, the text, and whether the text
is JSON.

For an `End` (the end of a block) or a `Copy` (a value that repeats text), the text is "".
"""


def is_large(body: bytes) -> bool:
    """Return True if finding the texts of a client's request would take too long on the event loop."""
    return len(body) >= LARGE or body.count(b'"') > 2 * MANY_STRINGS


def items_of(places: Hook, event: Event) -> list[Item]:
    """Return the items (texts with their places) of an event or a body. A plugin's function `places` finds them.

    Raises `PluginFailed` if this function fails, and `BadFrame` if the payload is not JSON.
    """
    return places.read(items_in, event)


def items_in(places: Iterable[Place | End | Copy], event: Event) -> list[Item]:
    """Return the texts of an event. `places` is the result of the plugin's function `places` for this event."""
    items: list[Item] = []
    for item in places:
        if type(item) is Place:
            value = event.data
            for step in item.path:  # `value_at` without a call, because a body may have thousands of texts
                value = value[step]
            hash(item.block)  # raises the exception here, where it is reported as the plugin's
            items.append((item, value, False) if type(value) is str else (item, json_text(value), True))
        elif type(item) is End:
            hash(item.block)
            items.append((item, "", False))
        elif type(item) is Copy:
            items.append((item, "", False))
        else:
            raise wrong_result(item, "Place, End or Copy")
    return items


def with_texts(places: Hook, event: Event, changes: Iterable[tuple[Any, str]], copies: Sequence[Copy]) -> bytes:
    """Return an event's payload with new texts. `changes` are pairs of a `Place` and its new text.

    `copies` has the values that only repeat the old texts. They are emptied. Raises `PluginFailed` if the path of a
    `Place` or `Copy` leads to no value of the payload.
    """
    return places.run(_with_texts, event, changes, copies)


def _with_texts(event: Event, changes: Iterable[tuple[Any, str]], copies: Sequence[Copy]) -> bytes:
    data = event.data
    for place, text in changes:
        put_text(data, place.path, text)
    for copy in copies:
        empty(data, copy.path)
    return json_bytes(data)


def spliced(payload: bytes, old: str, new: str) -> bytes | None:
    """Return a payload with the text `old` replaced by `new`, or None if `old` cannot be found with certainty.

    Replacing a part of the payload is faster than encoding all of it, and keeps the other bytes.
    """
    if (span := text_span(payload, old)) is None:
        return None
    try:
        return payload[: span[0]] + orjson.dumps(new) + payload[span[1] :]
    except TypeError:  # half of a character cannot be encoded
        return None


def text_span(payload: bytes, text: str) -> tuple[int, int] | None:
    """Return where the JSON of a text begins and ends in a payload, or None if it cannot be found with certainty.

    A text is found with certainty if its JSON occurs exactly once, and the rest of the payload has no backslash. With a
    backslash, the rest could contain the same text in an escaped form.
    """
    try:
        written = orjson.dumps(text)
    except TypeError:  # half of a character cannot be encoded
        return None
    begin = payload.find(written)
    # `find` and `rfind` also tell matches apart that overlap, such as those of ":" in `{"a":":"}`
    if begin < 0 or begin != payload.rfind(written) or payload.count(b"\\") != written.count(b"\\"):
        return None
    return begin, begin + len(written)


async def found_items(places: Hook, kind: str, payload: bytes, pool: ProcessPool, turns: Turns) -> Sequence[Item]:
    """Return the texts of an event or a reply. If it is large, a worker process finds them.

    Raises `PluginFailed` if the plugin's function `places` fails, and `BadFrame` if the payload is not JSON.
    """
    if not is_costly(payload):
        return items_of(places, Event(kind, payload))
    items: list[Item] = []
    for part in await pool.run_reply(payload, NO_DROP, _packed_items, places, kind, payload):
        await turns.take()
        items += pickle.loads(part)  # noqa: S301 (written by a worker process of the gateway)
    return items


def _packed_items(places: Hook, kind: str, payload: bytes) -> list[bytes]:
    return _packed(items_of(places, Event(kind, payload)))


async def request_texts(
    places: Hook, body: bytes, pool: ProcessPool, turns: Turns
) -> tuple[Sequence[Text], frozenset[int]]:
    """Return the texts of a large request, and the indexes of the texts that are JSON.

    Raises `PluginFailed` if the plugin's function `places` fails, and `BadFrame` if the body is not JSON.
    """
    texts: list[Text] = []
    json: list[int] = []
    for part in await pool.run_reply(body, NO_DROP, _packed_texts, places, body):
        await turns.take()
        for kind, text, role, is_json in pickle.loads(part):  # noqa: S301 (written by a worker process of the gateway)
            if is_json:
                json.append(len(texts))
            texts.append(Text(text, kind, role))
    return texts, frozenset(json)


def _packed_texts(places: Hook, body: bytes) -> list[bytes]:
    items = items_of(places, Event(REQUEST, body))
    return _packed([(place.kind, text, place.role, json) for place, text, json in items if type(place) is Place])


def _packed(items: Sequence[tuple[Any, ...]]) -> list[bytes]:
    """Divide items into parts by number and by length of text, and return each part in pickled form. `item[1]` is the
    text of an item.
    """
    parts, begin, size = [], 0, 0
    for end, item in enumerate(items, 1):
        size += len(item[1])
        if end == len(items) or end - begin >= PART_ITEMS or size >= PART_CHARACTERS:
            parts.append(pickle.dumps(items[begin:end], pickle.HIGHEST_PROTOCOL))
            begin, size = end, 0
    return parts


async def changed_payload(
    places: Hook, kind: str, payload: bytes, texts: Mapping[int, str], pool: ProcessPool, turns: Turns
) -> bytes:
    """Return a payload with the new `texts`. Values that only repeat a text (`Copy`) are emptied.

    The key of a text is its index in the result of `items_of`. A large payload is changed in a worker process. Raises
    `PluginFailed` if a path that the plugin's function `places` returned leads to no value.
    """
    parts = await _packed_changes(texts, turns)
    return await pool.run_reply(payload, NO_DROP, _changed_payload, places, kind, payload, parts)


def _changed_payload(places: Hook, kind: str, payload: bytes, parts: Sequence[bytes]) -> bytes:
    event = Event(kind, payload)
    items = [item for item, _, _ in items_of(places, event)]
    changes = [(items[number], text) for number, text in _unpacked(parts)]
    return with_texts(places, event, changes, [item for item in items if type(item) is Copy])


async def changed_request(
    places: Hook, request: ClientRequest, texts: Mapping[int, str], pool: ProcessPool, turns: Turns
) -> ClientRequest:
    """Return a large request with the new `texts`. The keys of `texts` are indexes in `Asked.texts`.

    Raises `PluginFailed` if the plugin's function `places` returns a path at which the body has no value.
    """
    parts = await _packed_changes(texts, turns)
    return await pool.run_reply(request.top.body, NO_DROP, _changed_request, places, request, parts)


def _changed_request(places: Hook, request: ClientRequest, parts: Sequence[bytes]) -> ClientRequest:
    return places.run(with_numbered_texts, Asked(request, places.function), _unpacked(parts))


def with_numbered_texts(asked: Asked, changes: Iterable[tuple[int, str]]) -> ClientRequest:
    """Return a request with new texts. `changes` are pairs: an index in `Asked.texts`, and the new text."""
    texts = [text.text for text in asked.texts]
    for number, text in changes:
        texts[number] = text
    return asked.with_texts(texts).request


async def _packed_changes(texts: Mapping[int, str], turns: Turns) -> list[bytes]:
    """Divide changed texts into parts, and return each part in pickled form. `texts` maps the index of a text to the
    new text.
    """
    parts, rest = [], iter(texts.items())
    while part := [*islice(rest, PART_ITEMS)]:
        parts.append(pickle.dumps(part, pickle.HIGHEST_PROTOCOL))
        await turns.take()
    return parts


def _unpacked(parts: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    for part in parts:
        yield from pickle.loads(part)  # noqa: S301 (written by the gateway's process)
