"""Finds the texts in the events of a stream, with little work for events that only continue one text.

Most events of a stream only continue the text of the event before them. Two shortcuts find the text of such an event:

- The function `places` of a built-in API format's plugin returns where the texts are. As long as a text continues, it
  returns the same tuple object. So if the object is the same, the text is at the same place.
- In many streams, such events have equal bytes, except for the text. Then the text is cut out of the bytes. The event
  is not decoded, and the plugin is not called.
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
"""Stands for "no places" in `_latest` and `_continuing`. No plugin can return this object."""
_MAX_UNLIKE: Final = 8
"""Number of consecutive events whose bytes around the text differ from the event before. After this number, no bytes
are compared until the next block of text begins.
"""


class EventTexts:
    """Finds the texts in the events of one stream."""

    __slots__ = ("_around", "_continuing", "_hook", "_latest", "_path", "_unlike", "block")

    def __init__(self, places: Hook) -> None:
        self._hook = places
        self._latest: Any = _NONE
        """The places that the plugin returned for the latest event, if they are a tuple."""
        self._continuing: Any = _NONE
        """The places (a tuple) that the plugin returns for events that only continue `block`."""
        self._path: Sequence[str | int] = ()
        """The JSON path of the text in events that only continue `block`."""
        self._around: tuple[str, bytes, bytes] | None = None
        """Kind of the latest event that only continued `block`, the bytes before its text, and the bytes after it."""
        self._unlike = 0
        """Number of successive events whose bytes around the text differed (`_MAX_UNLIKE`)."""
        self.block: Block | None = None
        """The block that the next event probably continues."""

    def next(self, event: Event) -> str | Sequence[Item]:
        """Return the items (texts with their places) of an event. If the event only continues the text of the current
        block (`EventTexts.block`), return just the text, a `str`.

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
        """Return the items (texts with their places) of an event, even if the event only continues the current text.

        Raises `PluginFailed` if the function `places` of the plugin fails.
        """
        self.forget()
        items = self.next(event)
        assert not isinstance(items, str)
        return items

    def remember(self, path: Sequence[str | int], block: Block) -> None:
        """Record that the last event that `next` read only continues the text of `block`. `path` is the JSON path of
        that text.

        `next` then finds the text of similar events faster.
        """
        self._continuing, self._path, self.block = self._latest, path, block
        self._around, self._unlike = None, 0

    def forget(self) -> None:
        """Forget the current block of text, because it may have ended, or another block may have begun."""
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
