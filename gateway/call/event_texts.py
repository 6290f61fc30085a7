"""Finds the texts in the events of one stream.

Most events of a stream only continue the text of the event before them. For such events, the plugins of the built-in
API formats return the same tuple of places each time. The places in a tuple cannot change. So if a plugin returns the
tuple that it returned for an earlier event, the two events differ only in their texts.

Many providers also repeat every byte of such an event but its text. The text of the next one is then found without
decoding the event, and without a call of the plugin.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from gateway.call.text_blocks import Block
from gateway.call.text_work import Item, items_in, text_span
from gateway.contract.errors import BadFrame
from gateway.contract.hooks import Hook
from gateway.contract.messages import Event

_NONE: Final = object()
"""A value that no plugin returns."""
_MAX_UNLIKE: Final = 8
"""Number of successive events with other bytes beside the text, after which these bytes are no longer remembered."""


class EventTexts:
    """Finds the texts in events, quickly in those that only continue one block."""

    __slots__ = ("_around", "_continuing", "_hook", "_latest", "_path", "_unlike", "block")

    def __init__(self, places: Hook) -> None:
        self._hook = places
        self._latest: Any = _NONE
        """The places that the plugin returned for the latest event, if they are a tuple."""
        self._continuing: Any = _NONE
        """The places of events that only continue `block`."""
        self._path: Sequence[str | int] = ()
        """The path of the text in these events."""
        self._around: tuple[str, bytes, bytes] | None = None
        """The kind of the latest of these events, and its bytes before and after the characters of its text."""
        self._unlike = 0
        """Number of successive events in which the bytes were others."""
        self.block: Block | None = None
        """The block that `next` may continue."""

    def next(self, event: Event) -> str | Sequence[Item]:
        """Return the texts of an event. If it only continues `block`, return its text instead.

        Raises `PluginFailed` if the function `places` of the plugin fails.
        """
        payload = event.payload
        if not payload or event.raw == b"":
            return ()
        if self._around is not None:
            kind, before, after = self._around
            if payload.startswith(before) and payload.endswith(after) and event.kind == kind:
                try:
                    text: str = orjson.loads(payload[len(before) - 1 : len(payload) - len(after) + 1])
                except orjson.JSONDecodeError:  # the bytes between have more than one string
                    text = ""
                if text:
                    self._unlike = 0
                    return text
        try:
            found = self._hook.read(self._read, event)
        except BadFrame:  # a client that gets the provider's bytes gets these too, although they are not JSON
            return ()
        if self._unlike < _MAX_UNLIKE and isinstance(found, str):
            self._unlike += 1
            span = text_span(payload, found)
            self._around = span and (event.kind, payload[: span[0] + 1], payload[span[1] - 1 :])
        return found

    def all(self, event: Event) -> Sequence[Item]:
        """Return the texts of an event, even if it only continues `block`. Raises the exceptions of `next`."""
        self.forget()
        items = self.next(event)
        assert not isinstance(items, str)
        return items

    def remember(self, path: Sequence[str | int], block: Block) -> None:
        """Remember that the latest event only continues `block`. Its text is at `path`."""
        self._continuing, self._path, self.block = self._latest, path, block
        self._around, self._unlike = None, 0

    def forget(self) -> None:
        """Forget the block, because it may have ended, or another block may have begun."""
        self._continuing, self.block, self._around = _NONE, None, None

    def _read(self, places: Any, event: Event) -> str | Sequence[Item]:
        if places is self._continuing:
            value = event.data
            for step in self._path:
                value = value[step]
            if type(value) is str:
                return value
        self._latest = places if type(places) is tuple else _NONE
        return items_in(places, event)
