"""The blocks of text that filters read in a reply, and the events that wait because a filter holds text back.

Each block has a name (`contract/places.py`). Nothing here calls a filter.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from gateway.call.text_work import Item
from gateway.contract.messages import Event
from gateway.contract.places import Copy, Kind


class WaitingEvent:
    """An event of a stream that waits because a filter holds text back, with the new texts that the event will get."""

    __slots__ = ("carries", "copies", "costly", "event", "items", "texts")

    def __init__(self, event: Event, items: Sequence[Item], *, costly: bool) -> None:
        self.event = event
        self.items = items
        self.costly = costly
        self.texts: dict[int, str] = {}
        """The new texts. Each key is the index in `items` of the text that is replaced."""
        self.copies: list[Copy] = []
        """Values of the event that repeat text. They are emptied if a filter has changed text."""
        self.carries = 0
        """Number of blocks whose held text will be put into this event."""


class Block:
    """A continuous text of one kind (such as `thinking`) in a reply. In a stream, many events may have pieces of this
    text.
    """

    __slots__ = ("carrier", "held", "is_open", "kind", "name", "sent")

    def __init__(self, name: Any, kind: Kind) -> None:
        self.name = name
        self.kind: Kind = kind
        self.is_open = False
        """Whether the block has begun and has not ended."""
        self.held: dict[Any, str] = {}
        """The text that each filter holds back."""
        self.carrier: tuple[WaitingEvent, int, str] | None = None
        """The last event of the block so far, the index of the block's item in the event, and the item's new text.

        None if no text is held back. At the end of the block, the held text is added to the item."""
        self.sent: list[str] = []
        """The texts of the block so far, with the changes of the filters."""

    def carry(self, carrier: tuple[WaitingEvent, int, str] | None) -> None:
        """Record where the text that filters hold back from this block will be added when they release it.

        `carrier` is a waiting event, the index of a text in this event, and this text, to whose end the held text will
        be added. It is None if no text of this block is held back.
        """
        if self.carrier is not None:
            self.carrier[0].carries -= 1
        self.carrier = carrier
        if carrier is not None:
            carrier[0].carries += 1


class OpenBlocks:
    """The blocks of a stream that have begun and have not ended.

    A block can be looked up by its own name, such as `("choice", 0)`, or by the name of a larger block that contains
    it, such as `"choice"`.
    """

    def __init__(self) -> None:
        self._by_name: dict[Hashable, dict[Block, None]] = {}

    def __iter__(self) -> Iterator[Block]:
        return iter(self._by_name.get((), ()))

    def __contains__(self, name: Hashable) -> bool:
        """Return whether the block with this name is open, or any block within it."""
        return (name if type(name) is tuple else (name,)) in self._by_name

    def add(self, block: Block) -> None:
        block.is_open = True
        for name in _names(block):
            self._by_name.setdefault(name, {})[block] = None

    def pop(self, name: Hashable) -> Sequence[Block]:
        """Remove the block `name` and all blocks inside it, and return the removed blocks."""
        ended = self._by_name.get(name if type(name) is tuple else (name,))
        if ended is None:
            return ()
        blocks = (*ended,)
        for block in blocks:
            block.is_open = False
            for own in _names(block):
                of_name = self._by_name[own]
                del of_name[block]
                if not of_name:
                    del self._by_name[own]
        return blocks


def _names(block: Block) -> Sequence[tuple[Hashable, ...]]:
    """Return the name of a block, and the names of all larger blocks that contain it.

    For example, the block `("choice", 0)` is inside `("choice",)`, and all blocks are inside `()`.
    """
    name = block.name
    return [name[:end] for end in range(len(name) + 1)] if type(name) is tuple else [(), (name,)]
