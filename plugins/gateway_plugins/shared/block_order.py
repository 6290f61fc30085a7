"""Puts the events of interleaved blocks in order, block by block.

A provider may begin a block before the previous block has ended. The index in each event tells the event's block. The
writer of the client's reply (`shared/reply_events.py`) must get one block after the other. So the events of the open
block are passed on at once, and events of later blocks are held back until the open block ends.

Some providers number blocks wrongly: all blocks have index 0, only the first event of a block has an index, or no event
has an index. Therefore a start event always begins a new block, whatever its index is. Any other event belongs to the
open block if the event has no index, or if no unfinished block has its index.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any, Final

import msgspec

from gateway.contract.flag import Event


class Role(Enum):
    """The effect of an event on its block: the event begins, continues or ends the block."""

    BEGIN = auto()
    PIECE = auto()
    FIRST_OR_PIECE = auto()
    """A piece of a block that may have no start event. The first such piece begins the block."""
    END = auto()


_PIECES: Final = (Role.PIECE, Role.FIRST_OR_PIECE)
"""Roles of an event that adds content to a block. A tuple is searched faster than a set."""


class BlockOrder(msgspec.Struct):
    _open: int | None = None
    """Index of the block whose events are passed on. It is None between blocks."""
    _held: dict[int, list[Event]] = msgspec.field(default_factory=dict)
    """The events that are held back, by the index of their block. The block that began first comes first."""
    _ended: set[int] = msgspec.field(default_factory=set)
    """Indexes of the blocks in `_held` that have ended."""
    _over: set[int] = msgspec.field(default_factory=set)
    """Indexes of the finished blocks: they have ended, and all their events were passed on."""
    _unnumbered: int = 0

    def take(self, given: Any, event: Event, role: Role) -> list[tuple[int, Event]]:
        """Return the events to pass on now, each with the index of its block.

        `given` is the index that the provider wrote into `event`. It may be missing or wrong.
        """
        if type(given) is int and given == self._open and role in _PIECES:  # nearly all events
            return [(given, event)]
        index = self._index(given, role)
        if index is None:
            return []
        if role is Role.BEGIN:
            self._over.discard(index)
            self._ended.discard(index)
        if self._open is not None and index != self._open:
            self._held.setdefault(index, []).append(event)
            self._ended.update([index] if role is Role.END else [])
            return []
        if role is Role.END:
            self._open = None
            self._over.add(index)
            return [(index, event), *self._released()]
        self._open = index
        return [(index, event)]

    def rest(self) -> list[tuple[int, Event]]:
        """Return all events that are still held back. Call this at the end of the stream."""
        events = [(index, event) for index, held in self._held.items() for event in held]
        self._open, self._held, self._ended = None, {}, set()
        return events

    def _index(self, given: Any, role: Role) -> int | None:
        """Return the index of the block to which an event belongs. `given` is the index in the event.

        Return None if the event ends a block that is neither open nor held back.
        """
        index = given if isinstance(given, int) and not isinstance(given, bool) else None
        if index is not None and (index == self._open or index in self._held):
            return index
        if role is Role.END:
            return self._open if index is None else None
        if role is Role.BEGIN or (role is Role.FIRST_OR_PIECE and index is not None and index not in self._over):
            self._unnumbered -= index is None
            return self._unnumbered if index is None else index
        return self._open if self._open is not None else index or 0

    def _released(self) -> list[tuple[int, Event]]:
        """Return the held events that can be passed on after the open block has ended.

        Held blocks are passed on in the order in which they began, up to the first block that has not ended. This block
        is passed on too, and becomes the open block.
        """
        events: list[tuple[int, Event]] = []
        while self._open is None and self._held:
            index = next(iter(self._held))
            events += [(index, event) for event in self._held.pop(index)]
            if index in self._ended:
                self._ended.discard(index)
                self._over.add(index)
            else:
                self._open = index
        return events
