"""Gives the text of replies to filters (plugins that read and change calls), and puts their results into the reply.

- Filters see the reply in the client's API format. The function `places` of that format's plugin finds the texts in the
  reply.
- An event in which no filter changes text keeps its bytes.
- A filter may hold text back, such as the beginning of a word. Then the event with this text waits, and so do all later
  events.
- The filter gets the held text again together with the next text of the block. The filter's result goes into the event
  of that next text. If no text follows, the held text goes back into its own event. So filters add no events.
- If an event repeats the whole text of a block, it gets the filtered text.
- Some values repeat text in a form that filters cannot change, such as log probabilities (`Copy`). They are emptied if
  a filter changes text.

The functions that call filters are generators (`awaiting.py`), so that an asyncio task is needed only if a filter must
be awaited.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

from gateway.call.awaiting import Wanted, Work, completed
from gateway.call.event_texts import EventTexts
from gateway.call.filter_texts import Texts
from gateway.call.filters import CallFilters
from gateway.call.responses import NO_EVENTS, Batch, Batches, Stage
from gateway.call.stream_decoding import BATCH_EVENTS
from gateway.call.text_blocks import Block, OpenBlocks, WaitingEvent
from gateway.call.text_work import Item, changed_payload, found_items, spliced, with_texts
from gateway.call.turns import TURN_ITEMS, Turns, is_due
from gateway.contract.errors import BadFrame, GatewayError
from gateway.contract.hooks import Hook
from gateway.contract.messages import Event
from gateway.contract.places import REPLY, Copy, End, Kind, Place
from gateway.upstream.process_pool import ProcessPool

MAX_WAITING: Final = 4 * 1024 * 1024
"""Maximum total size in bytes of the events that wait while a filter holds text back."""


async def filtered_body(filters: CallFilters, places: Hook, body: bytes, pool: ProcessPool, turns: Turns) -> bytes:
    """Return the body of a reply that is not a stream, with its texts filtered.

    `places` is the hook that finds the texts. It belongs to the plugin of the client's API format.
    Raises `GatewayError` if a filter blocks the call or fails.
    """
    texts = Texts(filters, pool)
    changes: dict[int, str] = {}
    for number, (place, text, is_json) in enumerate(await found_items(places, REPLY, body, pool, turns)):
        if is_due(number):
            await turns.take()
        if type(place) is Place:
            new = texts.feed(Block(number, place.kind), text, last=True, is_json=is_json)
            if not isinstance(new, str):
                new = await completed(new)
            if new != text:
                changes[number] = new
    return await changed_payload(places, REPLY, body, changes, pool, turns) if changes else body


_Begun = tuple[Sequence[Item], str | Work[str] | None]
"""A pair for an event that cannot be passed on unchanged at once: its items (texts with their places), and what the
filters returned for the text of the last item (`Texts.feed`).

The second value is None if the filters have not got that text yet.
"""


class FilteredStream(Stage):
    """Passes the events of one stream through the filters."""

    __slots__ = (
        "_blocks", "_events", "_is_changed", "_made", "_open", "_places", "_pool", "_queue", "_size", "_texts",
        "_turns", "_unfinished",
    )  # fmt: skip

    def __init__(self, filters: CallFilters, places: Hook, pool: ProcessPool, turns: Turns) -> None:
        self._texts = Texts(filters, pool)
        self._places = places
        self._events = EventTexts(places)
        self._pool = pool
        self._turns = turns
        self._queue: deque[WaitingEvent] = deque()
        self._size = 0
        """Total size in bytes of the waiting events."""
        self._blocks: dict[tuple[Any, Kind], Block] = {}
        self._open = OpenBlocks()
        self._is_changed = False
        """Whether a filter has changed text or held text back."""
        self._made: Sequence[Batch] = ()
        """The resulting batches of `feed`, `feed_slowly` or `close`."""
        self._unfinished: tuple[Work[None], Wanted] | None = None
        """The unfinished work on a batch, and a function that returns the next thing to await. It is None if all work
        is done.
        """

    def feed(self, batch: Batch) -> Batch | None:
        """Return the batch with filtered texts. If a filter fails, the returned batch ends before the failed event and
        has the error.

        Return None if something must be awaited. The caller then calls `feed_slowly` with the same batch.
        """
        count, begun = 0, None
        if not (batch.costly or self._queue) and batch.fault is None and len(batch.events) < TURN_ITEMS:
            try:
                for event in batch.events:
                    begun = self._begun(event)
                    if begun is not None:
                        break
                    count += 1
            except GatewayError as failure:
                return Batch(batch.events[:count], failure)
            if begun is None:
                return batch
        work = self._filtered(batch, count, begun)
        wanted = next(work, None)
        if wanted is not None:
            self._unfinished = work, wanted
            return None
        # there is at most one batch, because other streams take their turns before a second one
        return self._made[0] if self._made else NO_EVENTS

    async def feed_slowly(self, _batch: Batch) -> Batches:
        unfinished, self._unfinished = self._unfinished, None
        assert unfinished is not None
        await completed(*unfinished)
        for each in self._made:
            yield each

    async def close(self) -> Sequence[Batch]:
        await completed(self._rest())
        return self._made

    def _begun(self, event: Event) -> _Begun | None:
        """Find the texts of an event. Return None if the event can be passed on unchanged, as most events can.

        If the event's only text continues an open block of text, the text is given to the filters here. Otherwise
        `_filtered` gives the texts to the filters. Raises `GatewayError` if a filter blocks the call or fails.
        """
        events = self._events
        found = events.next(event)
        if isinstance(found, str):
            text, block = found, events.block
            assert block is not None
        elif not found:
            return None
        else:
            place, text, is_json = found[-1]
            if type(place) is not Place or place.repeats or is_json or not self._end_nothing(found[:-1]):
                return found, None
            known = self._blocks.get((place.block, place.kind))
            if known is None or not known.is_open or known.held or known.carrier is not None:
                return found, None
            block = known
            events.remember(place.path, block)
        fed = self._texts.feed(block, text, last=False)
        if fed != text or block.held:
            return events.all(event) if isinstance(found, str) else found, fed
        block.sent.append(text)
        return None

    def _end_nothing(self, items: Sequence[Item]) -> bool:
        """Return whether all `items` mark ends of blocks that are not open, so that they have no effect.

        For example, in some APIs each piece of the answer's text comes with such a mark, for the end of the thinking
        before it.
        """
        for item, _, _ in items:  # noqa: SIM110 (a generator would take longer than what it does for an event)
            if type(item) is not End or item.block in self._open:
                return False
        return True

    def _filtered(self, batch: Batch, count: int, begun: _Begun | None) -> Work[None]:
        """Filter the texts of a batch, and put the resulting batches into `_made`.

        The first `count` events of the batch have already passed the filters unchanged. If `_begun` was called for the
        event after them, `begun` is its result. Otherwise `begun` is None.
        """
        fault = batch.fault
        try:
            for number in range(count, len(batch.events)):
                event = batch.events[number]
                if number and is_due(number):
                    yield self._turns.take
                fed = None
                if begun is not None:
                    (items, fed), begun = begun, None
                else:
                    items = (yield from self._found_elsewhere(event)) if batch.costly else self._events.all(event)
                waiting = (yield from self._taken(event, items, fed, costly=batch.costly)) if items else None
                if waiting is None and not self._queue:
                    count += 1  # the first events of the batch, which need not wait and are not changed
                else:
                    self._queue.append(waiting or WaitingEvent(event, (), costly=batch.costly))
                    self._size += len(event.payload)
        except GatewayError as failure:
            fault = failure
        if count == len(batch.events) and fault is None:
            self._made = (batch,)
            return
        if batch.fault is not None:
            fault = (yield from self._finish()) or fault
        self._made = yield from self._ready(batch.events[:count], fault, costly=batch.costly)

    def _rest(self) -> Work[None]:
        """End all open blocks of text, and put the events that still wait into `_made`, as batches."""
        fault = yield from self._finish()
        self._made = yield from self._ready((), fault, costly=False)

    def _found_elsewhere(self, event: Event) -> Work[Sequence[Item]]:
        """Return the items (texts with their places) of a large event. A worker process finds them."""
        if not event.payload or event.raw == b"":
            return ()
        try:
            items: Sequence[Item] = yield partial(
                found_items, self._places, event.kind, event.payload, self._pool, self._turns
            )
        except BadFrame:
            return ()
        return items

    def _taken(
        self, event: Event, items: Sequence[Item], begun: str | Work[str] | None, *, costly: bool
    ) -> Work[WaitingEvent | None]:
        """Give the texts of an event (`items`) to the filters.

        Return a `WaitingEvent` with the new texts, or None if the event can be passed on at once and unchanged. `begun`
        is what the filters returned for the text of the last item (`Texts.feed`), or None if they have not got this
        text yet. `costly` is true if reading the event takes long (`Batch.costly`).
        """
        self._events.forget()
        last = len(items) - 1
        waiting: WaitingEvent | None = None
        for number, (item, text, is_json) in enumerate(items):
            if number and is_due(number):
                yield self._turns.take
            if type(item) is Place:
                block = self._block(item)
                if item.repeats and block.sent:
                    yield from self._end(self._open.pop(item.block))
                    new = "".join(block.sent)
                else:
                    if begun is not None and number == last:
                        fed = begun
                    else:
                        fed = self._texts.feed(block, text, last=item.repeats or is_json, is_json=is_json)
                    new = fed if isinstance(fed, str) else (yield from fed)
                    self._passed(block, new, is_whole=item.repeats or is_json)
                if new != text or block.held:
                    waiting = waiting or WaitingEvent(event, items, costly=costly)
                    self._replace(waiting, number, text, new, block)
            elif type(item) is End and (blocks := self._open.pop(item.block)):
                yield from self._end(blocks)
            elif type(item) is Copy:
                waiting = waiting or WaitingEvent(event, items, costly=costly)
                waiting.copies.append(item)
        return waiting

    def _block(self, place: Place) -> Block:
        key = place.block, place.kind
        block = self._blocks.get(key)
        if block is None:
            block = self._blocks[key] = Block(*key)
        return block

    def _passed(self, block: Block, text: str, *, is_whole: bool) -> None:
        """Add `text`, which has passed the filters, to a block. `is_whole` is true if no more text of the block
        follows.
        """
        block.sent.append(text)
        if not (is_whole or block.is_open):
            self._open.add(block)
        if block.carrier is not None:
            block.carry(None)

    def _replace(self, waiting: WaitingEvent, number: int, text: str, new: str, block: Block) -> None:
        """Record that `new` replaces `text` in an event that waits. `number` is the index of the text in the event.

        If filters hold back text of the block, this event gets the held text at the end of the block, unless a later
        event takes it.
        """
        if block.held:
            block.carry((waiting, number, new))
        if new != text:
            waiting.texts[number] = new
            self._is_changed = True

    def _end(self, blocks: Iterable[Block]) -> Work[None]:
        """End blocks of text. Text that filters held back in a block goes into the event where it was held back."""
        for number, block in enumerate(blocks):
            if number and is_due(number):
                yield self._turns.take
            fed = self._texts.feed(block, "", last=True)
            rest = fed if isinstance(fed, str) else (yield from fed)
            if block.carrier is not None:
                waiting, at, text = block.carrier
                block.carry(None)
                if rest:
                    waiting.texts[at] = text + rest
                    block.sent.append(rest)

    def _finish(self) -> Work[GatewayError | None]:
        """End all blocks of text that are still open. Return the error if a filter fails, and None otherwise."""
        try:
            yield from self._end(self._open.pop(()))
        except GatewayError as fault:
            return fault
        return None

    def _changed(self, waiting: WaitingEvent) -> Event | Work[Event]:
        """Return an event that waited, with its new texts.

        For an event that takes long to read, return a generator, which lets a worker process make the new event. Raises
        `PluginFailed` if a path that the plugin's function `places` returned leads to no text.
        """
        copies = waiting.copies if self._is_changed else ()
        if not (waiting.texts or copies):
            return waiting.event
        if waiting.costly:
            return self._changed_elsewhere(waiting)
        kind, payload, changes = waiting.event.kind, waiting.event.payload, waiting.texts
        if len(changes) == 1 and not copies:
            ((number, text),) = changes.items()
            _, old, is_json = waiting.items[number]
            if not is_json and (made := spliced(payload, old, text)) is not None:
                return Event(kind, made)
        places = [(waiting.items[number][0], text) for number, text in changes.items()]
        return Event(kind, with_texts(self._places, Event(kind, payload), places, copies))

    def _changed_elsewhere(self, waiting: WaitingEvent) -> Work[Event]:
        kind, payload = waiting.event.kind, waiting.event.payload
        work = self._places, kind, payload, waiting.texts, self._pool, self._turns
        return Event(kind, (yield partial(changed_payload, *work)))

    def _ready(self, events: Sequence[Event], fault: GatewayError | None, *, costly: bool) -> Work[list[Batch]]:
        """Return batches with `events`, followed by the queued events that no longer have to wait.

        `fault` is an error after these events, or None. The last batch has this error, or one that occurs here.
        `costly` is true if reading `events` takes long (`Batch.costly`).
        """
        batches: list[Batch] = []
        ready = [*events]
        try:
            while self._queue and not self._queue[0].carries:
                waiting = self._queue.popleft()
                self._size -= len(waiting.event.payload)
                if ready and (len(ready) >= BATCH_EVENTS or waiting.costly is not costly):
                    batches.append(Batch(ready, None, costly))
                    ready = []
                    yield self._turns.take
                costly = waiting.costly
                changed = self._changed(waiting)
                ready.append(changed if isinstance(changed, Event) else (yield from changed))
        except GatewayError as failure:
            fault = fault or failure
        fault = fault or self._overflow()
        if ready or fault is not None:
            batches.append(Batch(ready, fault, costly))
        return batches

    def _overflow(self) -> GatewayError | None:
        """Return an error if a filter makes more than `MAX_WAITING` bytes of events wait. Otherwise return None."""
        if not self._queue or self._size - len(self._queue[0].event.payload) <= MAX_WAITING:
            return None
        holder = next((run for block in self._open for run in block.held), None)
        return None if holder is None else holder.failure(f"holds text while {MAX_WAITING} bytes of events wait")
