"""Gives the text of replies to filters (plugins that read and change calls), and puts their results into the reply.

- Filters see the reply in the client's dialect (API format), after any translation. The function `places` of the plugin
  of that format finds the texts in the reply.
- An event in which no filter changes text keeps its bytes.
- A filter may hold text back. Then the event with this text waits, and so do all later events. The filter gets the held
  text again, followed by the next text of the same block. The result is put into the event of the next text. If the
  block has no next text, the held text is put back into its own event. So filters add no events.
- If an event repeats the whole text of a block, it gets the filtered text of the block. Some values repeat text in a
  form that filters cannot change (`Copy`). These values are emptied if a filter changes text.

Most filters are plain functions. Therefore the functions that call filters are generators, which run without a task
unless a filter has to be awaited (`awaiting.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

import orjson

from gateway.call.awaiting import Wanted, Work, completed
from gateway.call.filters import CallFilters, OpenFilter
from gateway.call.responses import NO_EVENTS, Batch, Batches, Stage
from gateway.call.stream_decoding import BATCH_EVENTS
from gateway.call.text_blocks import Block, OpenBlocks, WaitingEvent
from gateway.call.text_work import LARGE_TEXT, Item, changed_payload, found_items, items_of, spliced, with_texts
from gateway.call.turns import Turns, is_due
from gateway.contract.errors import BadFrame, GatewayError, PluginFailed
from gateway.contract.filter import SECONDS, Hold
from gateway.contract.hooks import Hook, definition
from gateway.contract.messages import Event
from gateway.contract.places import REPLY, Copy, End, Kind, Place
from gateway.contract.plugin_functions import is_async
from gateway.upstream.process_pool import NO_DROP, ProcessPool

MAX_WAITING: Final = 4 * 1024 * 1024
"""Maximum total size in bytes of the events that wait while a filter holds text back."""


class _Run:
    """One filter while it reads the text of one reply."""

    __slots__ = ("_hook", "call", "is_async", "method", "one")

    def __init__(self, one: OpenFilter, method: Callable[..., Any]) -> None:
        self.one = one
        self._hook = hook = one.active.hooks["filter.text"]
        self.method = method
        self.is_async = is_async(method)
        self.call: Callable[[Kind, str, bool], Any] = (
            partial(hook.settled, method, seconds=SECONDS) if self.is_async else partial(hook.run, method)
        )

    def text_of(self, result: str | Hold, block: Block, whole: str, *, last: bool) -> str:
        """Return the text to pass on, and store the text that the filter holds back.

        `result` is the filter's result. `whole` is the text that the filter got: text that it held back before, and the
        new piece. Raises `PluginFailed` if the result is not allowed.
        """
        text, rest = (result, "") if isinstance(result, str) else result
        if last:
            text, rest = text + rest, ""
        if (text or rest) and not whole:
            raise self.failure("returned text for an empty piece while it held nothing")
        if rest:
            block.held[self] = rest
        return text

    def failure(self, cause: str) -> PluginFailed:
        return PluginFailed(self._hook.plugin, self._hook.name, cause, definition(self.method))


class Texts:
    """Passes the text of one reply through all filters that read text."""

    def __init__(self, filters: CallFilters, pool: ProcessPool) -> None:
        self._filters = filters
        self._pool = pool
        self._runs = [_Run(one, method) for one in filters.opened if (method := one.method("text")) is not None]

    def feed(
        self, block: Block, piece: str, runs: Sequence[_Run] | None = None, *, last: bool, is_json: bool = False
    ) -> str | Work[str]:
        """Give a piece of text to the filters, and return the text for the client.

        If something must be awaited, return a generator that does the rest of the work (`awaiting.py`). `runs` are the
        filters that get the text; None for all filters. Raises `GatewayError` if a filter blocks the call or fails.
        """
        runs = self._runs if runs is None else runs
        for number, run in enumerate(runs):
            if block.held:
                piece = block.held.pop(run, "") + piece
            if run.one.failed:
                continue
            if run.is_async or is_json or len(piece) >= LARGE_TEXT:
                return self._fed_slowly(block, piece, runs[number:], last=last, is_json=is_json)
            try:
                result = run.call(block.kind, piece, last)
                if result is not piece:
                    piece = run.text_of(result, block, piece, last=last)
            except PluginFailed as failure:  # without the filter, the whole text is passed on
                self._filters.failed(run.one, failure)
        return piece

    def _fed_slowly(self, block: Block, piece: str, runs: Sequence[_Run], *, last: bool, is_json: bool) -> Work[str]:
        """Do the work of `feed` if the first filter of `runs` must be awaited, or the text is large or JSON."""
        run = runs[0]
        try:
            if len(piece) >= LARGE_TEXT:
                result = yield partial(run.one.run, "text", run.method, block.kind, piece, last, is_large=True)
            elif run.is_async:
                result = yield partial(run.call, block.kind, piece, last)
            else:
                result = run.call(block.kind, piece, last)
            if result is not piece:
                text = run.text_of(result, block, piece, last=last)
                if is_json and text != piece:
                    yield partial(self._require_json, text, run)
                piece = text
        except PluginFailed as failure:
            self._filters.failed(run.one, failure)
        rest = self.feed(block, piece, runs[1:], last=last, is_json=is_json)
        return rest if isinstance(rest, str) else (yield from rest)

    async def _require_json(self, text: str, run: _Run) -> None:
        if not await self._pool.run(len(text), NO_DROP, _is_json, text):
            raise run.failure("returned arguments that are not JSON")


async def filtered_body(filters: CallFilters, places: Hook, body: bytes, pool: ProcessPool, turns: Turns) -> bytes:
    """Return the body of a reply that is not a stream, with its texts filtered. Raises the exceptions of `Texts.feed`.

    `places` is the hook that finds the texts. It belongs to the plugin of the client's API format.
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


class FilteredStream(Stage):
    """Passes the events of one stream through the filters."""

    __slots__ = (
        "_blocks", "_is_changed", "_made", "_open", "_places", "_pool", "_queue", "_size", "_texts", "_turns",
        "_unfinished",
    )  # fmt: skip

    def __init__(self, filters: CallFilters, places: Hook, pool: ProcessPool, turns: Turns) -> None:
        self._texts = Texts(filters, pool)
        self._places = places
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
        """The unfinished work on a batch, and a function that returns the next thing to await; None if all work is
        done."""

    def feed(self, batch: Batch) -> Batch | None:
        """Return the events of the batch with filtered texts. If a filter fails, the returned batch has the error.

        Return None if something must be awaited. Then `feed_slowly` returns the events.
        """
        work = self._filtered(batch)
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

    def _filtered(self, batch: Batch) -> Work[None]:
        """Filter the texts of a batch, and put the resulting batches into `_made`."""
        count, fault = 0, batch.fault
        try:
            for number, event in enumerate(batch.events):
                if number and is_due(number):
                    yield self._turns.take
                items = (yield from self._found_elsewhere(event)) if batch.costly else self._found(event)
                waiting = (yield from self._taken(event, items, costly=batch.costly)) if items else None
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
        """End all open blocks, and put the events that are still held back into `_made`."""
        fault = yield from self._finish()
        self._made = yield from self._ready((), fault, costly=False)

    def _found(self, event: Event) -> Sequence[Item]:
        """Return the texts of an event; () if it has none."""
        if not event.payload or event.raw == b"":
            return ()
        try:
            return items_of(self._places, event)
        except BadFrame:  # a client that gets the provider's bytes gets these too, although they are not JSON
            return ()

    def _found_elsewhere(self, event: Event) -> Work[Sequence[Item]]:
        """Do the work of `_found` in a worker process, because reading the event takes long."""
        if not event.payload or event.raw == b"":
            return ()
        try:
            items: Sequence[Item] = yield partial(
                found_items, self._places, event.kind, event.payload, self._pool, self._turns
            )
        except BadFrame:
            return ()
        return items

    def _taken(self, event: Event, items: Sequence[Item], *, costly: bool) -> Work[WaitingEvent | None]:
        """Give the texts of an event (`items`) to the filters.

        Return the event with its new texts; None if it can be passed on unchanged and at once. `costly` is true if
        reading the event takes long (`Batch.costly`).
        """
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
        """Remember `text`, which the filters passed on. `is_whole` is true if no more text of the block follows."""
        block.sent.append(text)
        if not (is_whole or block.is_open):
            self._open.add(block)
        if block.carrier is not None:
            block.carry(None)

    def _replace(self, waiting: WaitingEvent, number: int, text: str, new: str, block: Block) -> None:
        """Record that `new` replaces `text` in a waiting event. `number` is the index of the text in the event.

        If filters hold back text of the block, this event will also get the held text.
        """
        if block.held:
            block.carry((waiting, number, new))
        if new != text:
            waiting.texts[number] = new
            self._is_changed = True

    def _end(self, blocks: Iterable[Block]) -> Work[None]:
        """End blocks: get the text that filters held back in them, and put it into the waiting events."""
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
        """End all open blocks. Return the error if a filter fails, otherwise None."""
        try:
            yield from self._end(self._open.pop(()))
        except GatewayError as fault:
            return fault
        return None

    def _changed(self, waiting: WaitingEvent) -> Event | Work[Event]:
        """Return the event with its new texts.

        If reading the event takes long, return a generator that makes the new event in a worker process. Raises
        `PluginFailed` if the compatibility flag (plugin of the API format) named a position that has no text.
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
        """Return `events`, and then the events of the queue that no longer have to wait, in batches.

        If there is an error, it is in the last batch. Events that still have to wait are then left out, because a
        filter has not passed on their text. `costly` is true if reading `events` takes long (`Batch.costly`).
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
        """Return the failure of a filter that makes more than `MAX_WAITING` bytes of events wait; None if none does."""
        if not self._queue or self._size - len(self._queue[0].event.payload) <= MAX_WAITING:
            return None
        holder = next((run for block in self._open for run in block.held), None)
        return None if holder is None else holder.failure(f"holds text while {MAX_WAITING} bytes of events wait")


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
