"""Finds the texts in the events of a stream, with little work for events that only continue one text.

Most events of a stream only continue the text of the event before them. Two shortcuts find the text of such an event:

- The plugins of the built-in API formats find texts by the function `places`. For an event that continues a text, they
  return the same tuple object as for the event before. So the text is at the same place as before.
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
"""The value of `_latest` and `_continuing` if there are no places. It differs from everything that a plugin can return.
"""
_MAX_UNLIKE: Final = 8
"""Number of unlike events in a row after which the bytes of events are not compared any more until the next block of
text begins.

An event is unlike if the bytes around its text differ from those in the event before.
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
        """Return the items (texts with their places) of an event.

        If the event only continues the text of the current block (`EventTexts.block`), return the text alone. Raises
        `PluginFailed` if the function `places` of the plugin fails.
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
        """Return the items (texts with their places) of an event, even if `next` would return only its text.

        Raises `PluginFailed` if the function `places` of the plugin fails.
        """
        self.forget()
        items = self.next(event)
        assert not isinstance(items, str)
        return items

    def remember(self, path: Sequence[str | int], block: Block) -> None:
        """Record that the latest event only continues the text of `block`, so that `next` finds the text of similar
        events faster.

        `path` is the JSON path of the text in the event.
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
