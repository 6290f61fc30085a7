"""Decoder and encoder of a stream that is one JSON array, as in Google's APIs. Each object in the array is an event.

- Every byte of the stream belongs to exactly one frame. The payload of a frame is one object of the array. Its raw
  bytes also have the bracket or comma before the object.
- The closing bracket, and anything after it, are frames without a payload.
- An object without an array is a frame too, because some servers send an error in this form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from gateway.contract.errors import BadFrame
from gateway.contract.flag import Frame

CONTENT_TYPE: Final = "application/json"
BEGIN: Final = b"["
NEXT: Final = b",\n"
END: Final = b"]"

MAX_ITEM: Final = 32 * 1024 * 1024
"""Maximum number of bytes of one object. A provider that sends a longer object is broken or hostile."""
MAX_MARKS: Final = 1_000_000
"""Maximum number of strings and brackets in one object. An object with more is refused, so that parsing an object takes
less than a second."""

_MARK: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["{}\[\]]', re.DOTALL)
"""Pattern for a bracket, a complete string, or the opening quote of a string whose end has not been received yet."""
_STRING: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
"""Pattern for the bytes of a string up to its closing quote. If the quote has not been received, it matches all
received bytes, except an incomplete escape at their end.
"""
_QUOTE: Final = ord('"')
_ARRAY: Final = ord("[")
_OPENED_BY: Final = {ord("]"): _ARRAY, ord("}"): ord("{")}
"""The matching opening bracket of each closing bracket."""


class Decoder:
    r"""A decoder that makes frames from chunks of any size.

    `feed` raises `BadFrame` for a closing bracket that does not match the last open bracket.

    >>> decoder = json_array.Decoder()
    >>> [frame.payload for frame in decoder.feed(b'[{"a": 1},\n{"b": 2')], decoder.pending
    ([b'{"a": 1}'], 9)
    >>> [frame.payload for frame in decoder.feed(b"}]")], decoder.closed, decoder.rest()
    ([b'{"b": 2}', b''], True, None)
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0
        """The offset up to which the buffer has been read."""
        self._start = 0
        """The offset at which the current object begins."""
        self._in_string = False
        self._open = bytearray()
        """The brackets that are open, the innermost last."""
        self._base = 0
        """The number of open brackets around an item: 1 inside the array, and 0 for an object that stands alone."""
        self._marks = 0
        self.closed = False
        """True after the bracket that ends the array."""

    @property
    def pending(self) -> int:
        """The number of received bytes of an incomplete object."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that `data` completes."""
        self._buffer += data
        sent = 0
        try:
            while self._next_item():
                with memoryview(self._buffer) as view:
                    frame = Frame({}, bytes(view[self._start : self._at]), bytes(view[sent : self._at]))
                sent = self._at
                yield frame
        finally:
            del self._buffer[:sent]
            self._at -= sent
            self._start -= sent
        if self.closed and self._at == len(self._buffer) > 0:
            rest = Frame({}, b"", bytes(self._buffer))
            self._buffer.clear()
            self._at = 0
            yield rest
        if len(self._buffer) > MAX_ITEM:
            raise BadFrame(f"the provider's stream has an object of more than {MAX_ITEM} bytes")

    def rest(self) -> None:
        """Return None, because an incomplete object at the end of the stream is no event."""
        return

    def _next_item(self) -> bool:
        """Read up to the end of the next object, or up to the bracket that ends the array.

        Return True if this end has been received, and False if more bytes are needed.
        """
        while bracket := self._next_bracket():
            depth = len(self._open)
            if bracket not in _OPENED_BY:
                if bracket == _ARRAY and depth == self._base == 0:
                    self._base = 1
                elif depth == self._base:
                    self._start = self._at - 1
                    self._marks = 0
                self._open.append(bracket)
                continue
            if not depth or self._open.pop() != _OPENED_BY[bracket]:
                raise BadFrame("the provider's stream is no JSON array")
            if depth - 1 == self._base:
                return True
            if depth == self._base:
                self._base, self._start, self.closed = 0, self._at, True
                return True
        return False

    def _next_bracket(self) -> int:
        """Return the byte of the next bracket that is not inside a string, or 0 if more bytes are needed."""
        buffer = self._buffer
        while not self._in_string or self._ends_string():
            mark = _MARK.search(buffer, self._at)
            if mark is None:
                self._at = len(buffer)
                return 0
            self._at = mark.end()
            self._marks += 1
            if self._marks > MAX_MARKS:
                raise BadFrame(f"the provider's stream has an object of more than {MAX_MARKS} strings and brackets")
            if self._at - mark.start() == 1:
                if buffer[mark.start()] != _QUOTE:
                    return buffer[mark.start()]
                self._in_string = True
        return 0

    def _ends_string(self) -> bool:
        """Read the rest of the current string. Return True if its end has been received, and False if more bytes are
        needed.
        """
        rest = _STRING.match(self._buffer, self._at)
        self._at = rest.end() if rest else self._at
        if self._at == len(self._buffer) or self._buffer[self._at] != _QUOTE:
            return False
        self._at += 1
        self._in_string = False
        return True


def encode(payload: bytes, *, first: bool) -> bytes:
    r"""Return the bytes of one object of the array, with the bracket or comma before it.

    >>> json_array.encode(b'{"a": 1}', first=True) + json_array.encode(b'{"b": 2}', first=False) + json_array.END
    b'[{"a": 1},\n{"b": 2}]'
    """
    return (BEGIN if first else NEXT) + payload
