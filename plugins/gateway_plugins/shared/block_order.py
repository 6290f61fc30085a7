"""The events of interleaved blocks, put in order block by block.

Providers may begin a block before the block before it has ended, and tell the pieces of the two apart by their index.
A writer (`shared/reply_events.py`) must get the blocks one after the other. So the events of the first block are passed
on as they come, and those of the blocks after it are held back until it ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.contract.flag import Event


@dataclass(slots=True)
class BlockOrder:
    _open: int | None = None
    """Index of the block whose events are passed on; None between blocks."""
    _held: dict[int, list[Event]] = field(default_factory=dict)
    """The events that are held back, by the index of their block, in the order in which the blocks began."""
    _ended: set[int] = field(default_factory=set)
    """Indexes of the blocks in `_held` that have ended."""

    def take(self, index: int, event: Event, *, ends: bool) -> list[Event]:
        """Return the events that follow now, given the next event of the stream. `ends` is true for a block's end."""
        if self._open is not None and index != self._open:
            self._held.setdefault(index, []).append(event)
            self._ended.update([index] if ends else [])
            return []
        self._open = None if ends else index
        return [event, *self._released()] if ends else [event]

    def rest(self) -> list[Event]:
        """Return all events that are held back. Called when no block can go on."""
        events = [event for held in self._held.values() for event in held]
        self._open, self._held, self._ended = None, {}, set()
        return events

    def _released(self) -> list[Event]:
        """Return the events of the blocks up to the first that has not ended."""
        events: list[Event] = []
        while self._open is None and self._held:
            index = next(iter(self._held))
            events += self._held.pop(index)
            self._open = None if index in self._ended else index
            self._ended.discard(index)
        return events
