"""Gives the text of replies to filters (plugins that read and change calls), and puts the text that they return into
the reply.

- Everything here is in the client's dialect: the translated reply, or the provider's own if no translation is needed.
  The client's compatibility flag says where text stands (`places`).
- An event in which no filter changes text keeps its bytes.
- If a filter holds text back, the event with that text waits, and so do all later events. When the filter returns the
  text, it is put into the next event of the block, or into the waiting event if the block ends. So filters add no
  events.
- If an event repeats the whole text of a block, it gets the filtered text of the block. A value that repeats text in a
  form that filters cannot change (`Copy`) is emptied if a filter changes text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Final

import orjson

from gateway.call.chain import Batch, Batches
from gateway.call.filters import CallFilters, OpenFilter
from gateway.contract.errors import BadFrame, GatewayError, PluginFailed
from gateway.contract.filter import SECONDS, Hold
from gateway.contract.hooks import Hook, definition
from gateway.contract.messages import Event
from gateway.contract.places import REPLY, Copy, End, Kind, Place, empty, json_bytes, json_text, put_text
from gateway.contract.plugin_functions import is_async
from gateway.upstream.process_pool import NO_DROP, ProcessPool

MAX_WAITING: Final = 4 * 1024 * 1024
"""Maximum number of bytes of events that wait because a filter holds back text."""


class _Block:
    """One kind of text in one block of a reply (`contract/places.py`)."""

    __slots__ = ("carrier", "held", "is_open", "kind", "name", "sent")

    def __init__(self, name: Any, kind: Kind) -> None:
        self.name = name
        self.kind: Kind = kind
        self.is_open = False
        """Whether the block has begun and has not ended."""
        self.held: dict[_Run, str] = {}
        """The text that filters hold back."""
        self.carrier: tuple[_Waiting, Place, str] | None = None
        """The last event of the block while text is held back, with that event's text after the filters."""
        self.sent: list[str] = []
        """The texts after the filters."""


class _Waiting:
    """An event of a stream, with the texts that will replace its own texts."""

    __slots__ = ("carries", "copies", "costly", "event", "texts")

    def __init__(self, event: Event, *, costly: bool) -> None:
        self.event = event
        self.costly = costly
        self.texts: dict[Place, str] = {}
        self.copies: list[Copy] = []
        """The values that repeat text and are emptied if text changes."""
        self.carries = 0
        """Number of blocks whose held text will be put into this event."""


class _Run:
    """One filter that reads the text of one reply."""

    __slots__ = ("_hook", "_method", "call", "is_async", "one")

    def __init__(self, one: OpenFilter, method: Callable[..., Any]) -> None:
        self.one = one
        self._hook = hook = one.active.hooks["filter.text"]
        self._method = method
        self.is_async = is_async(method)
        self.call: Callable[[Kind, str, bool], Any] = (
            partial(hook.settled, method, seconds=SECONDS) if self.is_async else partial(hook.run, method)
        )

    def text_of(self, result: str | Hold, block: _Block, whole: str, *, last: bool, is_json: bool) -> str:
        """Return the text to pass on, and keep the text that the filter holds back.

        `whole` is the text that was held, and the new piece. Raises `PluginFailed` if the result is not allowed.
        """
        text, rest = (result, "") if isinstance(result, str) else result
        if last:
            text += rest
        elif rest:
            block.held[self] = rest
        if text and not whole:
            raise self.failure("returned text at the end of a block of which it held nothing")
        if is_json and text != whole and not _is_json(text):
            raise self.failure("returned arguments that are not JSON")
        return text

    def failure(self, cause: str) -> PluginFailed:
        return PluginFailed(self._hook.plugin, self._hook.name, cause, definition(self._method))


class Texts:
    """The text of one reply as it passes through all filters that read text."""

    def __init__(self, filters: CallFilters) -> None:
        self._filters = filters
        self._runs = [_Run(one, method) for one in filters.opened if (method := one.method("text")) is not None]

    async def feed(self, block: _Block, piece: str, *, last: bool, is_json: bool = False) -> str:
        """Return the text to pass on to the client. Raises `GatewayError` if a filter blocks the call or fails."""
        for run in self._runs:
            if block.held:
                piece = block.held.pop(run, "") + piece
            if run.one.failed:
                continue
            try:
                result = run.call(block.kind, piece, last)
                if run.is_async:
                    result = await result
                if result is not piece:
                    piece = run.text_of(result, block, piece, last=last, is_json=is_json)
            except PluginFailed as failure:  # without the filter, the whole text is passed on
                self._filters.failed(run.one, failure)
        return piece


async def filtered_body(filters: CallFilters, places: Hook, body: bytes, pool: ProcessPool) -> bytes:
    """Return an unstreamed reply with the texts that the filters return. Raises the exceptions of `Texts.feed`."""
    texts = Texts(filters)
    changes: list[tuple[Place, str]] = []
    copies: list[Copy] = []
    for number, (place, text, is_json) in enumerate(await pool.run_reply(body, NO_DROP, texts_of, places, REPLY, body)):
        if isinstance(place, Place):
            new = await texts.feed(_Block(number, place.kind), text, last=True, is_json=is_json)
            if new != text:
                changes.append((place, new))
        elif isinstance(place, Copy):
            copies.append(place)
    if not changes:
        return body
    return await pool.run_reply(body, NO_DROP, with_texts, places, REPLY, body, changes, copies)


class FilteredStream:
    """The events of one stream as they pass through the filters."""

    def __init__(self, filters: CallFilters, places: Hook, pool: ProcessPool) -> None:
        self._texts = Texts(filters)
        self._places = places
        self._pool = pool
        self._queue: deque[_Waiting] = deque()
        self._size = 0
        """Number of bytes of the waiting events."""
        self._blocks: dict[tuple[Any, Kind], _Block] = {}
        self._open: dict[_Block, None] = {}
        """The blocks that have begun and have not ended."""
        self._over: set[Any] = set()
        """Names that have ended, while no other block has begun. Many events repeat that a block has ended."""
        self._is_changed = False
        """Whether a filter has changed or held text."""

    async def filtered(self, batches: Batches) -> Batches:
        """Yield the events with the texts that the filters return. If a filter fails, the last batch has the error."""
        async with aclosing(batches):
            async for batch in batches:
                count, fault = await self._feed(batch)
                if count == len(batch.events) and batch.fault is None:
                    yield batch
                    continue
                if batch.fault is not None:
                    fault = await self._finish() or fault or batch.fault
                events, fault = await self._ready(fault)
                events = [*batch.events[:count], *events]
                if events or fault is not None:
                    yield Batch(events, fault, batch.costly)
                if fault is not None:
                    return
        events, fault = await self._ready(await self._finish())
        if events or fault is not None:
            yield Batch(events, fault)

    async def _feed(self, batch: Batch) -> tuple[int, GatewayError | None]:
        """Process the texts of events.

        Return the number of the first events that need not wait and that no filter changes. The others are put into the
        queue. Also return the error of an event that could not be processed, or None.
        """
        count = 0
        try:
            for event in batch.events:
                waiting = await self._taken(event, costly=batch.costly)
                if waiting is None and not self._queue:
                    count += 1
                else:
                    self._queue.append(waiting or _Waiting(event, costly=batch.costly))
                    self._size += len(event.payload)
        except GatewayError as fault:
            return count, fault
        return count, None

    async def _taken(self, event: Event, *, costly: bool) -> _Waiting | None:
        """Give the texts of an event to the filters.

        Return the event with its new texts and its copies; None if it has neither and carries no held text.
        """
        if not event.payload or event.raw == b"":
            return None
        try:
            if costly:
                work = texts_of, self._places, event.kind, event.payload
                items = await self._pool.run_reply(event.payload, NO_DROP, *work)
            else:
                items = self._places.run(_texts_of, event, self._places.function)
        except BadFrame:  # a client that gets the provider's bytes gets these too, although they are not JSON
            return None
        waiting: _Waiting | None = None
        for item, text, is_json in items:
            if type(item) is Place:
                new, block = await self._text(item, text, is_json=is_json)
                if new != text or block.held:
                    waiting = waiting or _Waiting(event, costly=costly)
                    self._replace(waiting, item, text, new, block)
            elif type(item) is End:
                if item.block not in self._over:
                    await self._end(item.block)
            elif type(item) is Copy:
                waiting = waiting or _Waiting(event, costly=costly)
                waiting.copies.append(item)
        return waiting

    async def _text(self, place: Place, text: str, *, is_json: bool) -> tuple[str, _Block]:
        """Return the new text of a place, and its block."""
        key = place.block, place.kind
        block = self._blocks.get(key)
        if block is None:
            block = self._blocks[key] = _Block(*key)
        if place.repeats and block.sent:
            await self._end(place.block)
            new = "".join(block.sent)
        else:
            is_whole = place.repeats or is_json
            new = await self._texts.feed(block, text, last=is_whole, is_json=is_json)
            block.sent.append(new)
            if not (is_whole or block.is_open):
                block.is_open = True
                self._open[block] = None
                self._over.clear()
            if block.carrier is not None:
                _carry(block, None)
        return new, block

    def _replace(self, waiting: _Waiting, place: Place, text: str, new: str, block: _Block) -> None:
        """Make a waiting event get the new text of a place, and the text of the block that is held back."""
        if block.held:
            _carry(block, (waiting, place, new))
        if new != text:
            waiting.texts[place] = new
            self._is_changed = True

    async def _end(self, name: Any) -> None:
        """Put the text that filters hold back of a block into the waiting event, because the block ends."""
        for block in [block for block in self._open if _is_in(block.name, name)]:
            block.is_open = False
            del self._open[block]
            rest = await self._texts.feed(block, "", last=True)
            if block.carrier is not None:
                waiting, place, text = block.carrier
                _carry(block, None)
                if rest:
                    waiting.texts[place] = text + rest
                    block.sent.append(rest)
        self._over.add(name)

    async def _finish(self) -> GatewayError | None:
        """End all open blocks. Return the error of a filter, or None."""
        try:
            for block in [*self._open]:
                await self._end(block.name)
        except GatewayError as fault:
            return fault
        return None

    async def _changed(self, waiting: _Waiting) -> Event:
        """Return the event with its new texts.

        Raises `PluginFailed` if the compatibility flag named a place without text.
        """
        copies = waiting.copies if self._is_changed else ()
        if not (waiting.texts or copies):
            return waiting.event
        event = waiting.event
        work = self._places, event.kind, event.payload, [*waiting.texts.items()], copies
        if waiting.costly:
            return Event(event.kind, await self._pool.run_reply(event.payload, NO_DROP, with_texts, *work))
        return Event(event.kind, with_texts(*work))

    async def _ready(self, fault: GatewayError | None) -> tuple[list[Event], GatewayError | None]:
        """Return the events that need not wait any longer, and the error that follows them, or None.

        Before an error, events with held text are left out, because their filter has not passed the text on.
        """
        ready: list[Event] = []
        try:
            while self._queue and not self._queue[0].carries:
                waiting = self._queue.popleft()
                self._size -= len(waiting.event.payload)
                ready.append(await self._changed(waiting))
        except GatewayError as failure:
            return ready, fault or failure
        if fault is None and self._size > MAX_WAITING:
            holder = next((run for block in self._open for run in block.held), None)
            if holder is not None:
                fault = holder.failure(f"holds text while {MAX_WAITING} bytes of events wait")
        return ready, fault


def _carry(block: _Block, carrier: tuple[_Waiting, Place, str] | None) -> None:
    """Make another event the one that gets the block's held text. `carrier` is None if no text is held any longer."""
    if block.carrier is not None:
        block.carrier[0].carries -= 1
    block.carrier = carrier
    if carrier is not None:
        carrier[0].carries += 1


def _is_in(block: Any, name: Any) -> bool:
    """Return whether the end of `name` ends a block (`contract/places.py`)."""
    if block == name:
        return True
    names = name if isinstance(name, tuple) else (name,)
    return isinstance(block, tuple) and block[: len(names)] == names


Item = tuple[Place | End | Copy, str, bool]
"""A place with its text, and whether the text is JSON. An end and a copy have no text."""


def texts_of(places: Hook, kind: str, payload: bytes) -> Sequence[Item]:
    """Return the texts in a payload, as found by the function `places` of a compatibility flag.

    Raises `PluginFailed`, and `BadFrame` if the payload is not JSON.
    """
    return places.run(_texts_of, Event(kind, payload), places.function)


def _texts_of(event: Event, places: Callable[[Event], Iterable[Place | End | Copy]]) -> list[Item]:
    texts: list[Item] = []
    for item in places(event):
        if type(item) is Place:
            value = event.data
            for step in item.path:
                value = value[step]
            texts.append((item, value, False) if type(value) is str else (item, json_text(value), True))
        else:
            texts.append((item, "", False))
    return texts


def with_texts(
    places: Hook, kind: str, payload: bytes, changes: Sequence[tuple[Place, str]], copies: Sequence[Copy]
) -> bytes:
    """Return a payload with new texts at some places, and empty copies. Raises `PluginFailed` for a wrong place."""
    return places.run(_with_texts, Event(kind, payload), changes, copies)


def _with_texts(event: Event, changes: Sequence[tuple[Place, str]], copies: Sequence[Copy]) -> bytes:
    data = event.data
    for place, text in changes:
        put_text(data, place.path, text)
    for copy in copies:
        empty(data, copy.path)
    return json_bytes(data)


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
