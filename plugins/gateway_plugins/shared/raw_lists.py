"""Changes single items in the JSON text of a list, and keeps all other bytes of the text.

The list is not decoded and encoded again. That would lose digits of numbers, and take milliseconds for a list with
images.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from gateway.contract import lenient_json

_GAP: Final = re.compile(rb"[\s,]*")


class RawList:
    """The items of a list, as JSON text. The constructor raises `ValueError` if the text is not a list.

    The methods return a changed text, and do not change the object.
    """

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.items = lenient_json.raw_items(text)
        self._ends: list[int] = []
        at = text.index(b"[") + 1
        for item in self.items:
            gap = _GAP.match(text, at)
            at = (gap.end() if gap else at) + len(item)
            self._ends.append(at)

    def changed(self, items: Mapping[int, bytes]) -> bytes:
        """Return the text with some items replaced. `items` maps the index of such an item to its new text."""
        parts, at = [], 0
        for index in sorted(items):
            end = self._ends[index]
            parts += [self.text[at : end - len(self.items[index])], items[index]]
            at = end
        return b"".join((*parts, self.text[at:]))

    def with_item_after(self, index: int, item: bytes) -> bytes:
        """Return the text with an item inserted after the item at `index`."""
        end = self._ends[index]
        return self.text[:end] + b"," + item + self.text[end:]

    def without_item(self, index: int) -> bytes:
        """Return the text without the item at `index`, and without the comma before it.

        `index` must not be 0, because the first item has no comma before it.
        """
        return self.text[: self._ends[index - 1]] + self.text[self._ends[index] :]
