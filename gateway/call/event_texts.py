"""Finds the texts in the events of one stream.

Most events of a stream only continue the text of the event before them. For such events, the plugins of the built-in
API formats return the same tuple of places each time. The places in a tuple cannot change. So if a plugin returns the
tuple that it returned for an earlier event, the two events differ only in their texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gateway.call.text_blocks import Block
from gateway.call.text_work import Item, items_in
from gateway.contract.errors import BadFrame
from gateway.contract.hooks import Hook
from gateway.contract.messages import Event

_NONE: Final = object()
"""A value that no plugin returns."""


class EventTexts:
    """Finds the texts in events, quickly in those that only continue one block."""

    __slots__ = ("_continuing", "_hook", "_latest", "_path", "block")

    def __init__(self, places: Hook) -> None:
        self._hook = places
        self._latest: Any = _NONE
        """The places that the plugin returned for the latest event, if they are a tuple."""
        self._continuing: Any = _NONE
        """The places of events that only continue `block`."""
        self._path: Sequence[str | int] = ()
        """The path of the text in these events."""
        self.block: Block | None = None
        """The block that `next` may continue."""

    def next(self, event: Event) -> str | Sequence[Item]:
        """Return the texts of an event. If it only continues `block`, return its text instead.

        Raises `PluginFailed` if the function `places` of the plugin fails.
        """
        if not event.payload or event.raw == b"":
            return ()
        try:
            return self._hook.read(self._read, event)
        except BadFrame:  # a client that gets the provider's bytes gets these too, although they are not JSON
            return ()

    def all(self, event: Event) -> Sequence[Item]:
        """Return the texts of an event, even if it only continues `block`. Raises the exceptions of `next`."""
        self.forget()
        items = self.next(event)
        assert not isinstance(items, str)
        return items

    def remember(self, path: Sequence[str | int], block: Block) -> None:
        """Remember that the latest event only continues `block`. Its text is at `path`."""
        self._continuing, self._path, self.block = self._latest, path, block

    def forget(self) -> None:
        """Forget the block, because it may have ended, or another block may have begun."""
        self._continuing, self.block = _NONE, None

    def _read(self, places: Any, event: Event) -> str | Sequence[Item]:
        if places is self._continuing:
            value = event.data
            for step in self._path:
                value = value[step]
            if type(value) is str:
                return value
        self._latest = places if type(places) is tuple else _NONE
        return items_in(places, event)
