"""Splits the bytes of an HTTP/2 client into frames, and limits the frames that cause work but carry no content.

- `h2` parses a frame in some 30 microseconds, and replies to SETTINGS and PING. A client could keep the gateway busy
  with frames of nine bytes. So each control frame and each tiny DATA frame takes a token from a budget. The budget
  grows with time, and with each frame of content that is sent or received. If no token is left, frames are not parsed.
- The compressed length of a head is limited too, even if many CONTINUATION frames carry it.

`connection.py` ends a connection that exceeds a limit.
"""

from __future__ import annotations

from time import monotonic
from typing import Final, NamedTuple

DATA: Final = 0x0
HEADERS: Final = 0x1
GOAWAY: Final = 0x7
CONTINUATION: Final = 0x9
MAX_FRAME: Final = 16 * 1024
"""Maximum number of bytes of a received frame: the initial SETTINGS_MAX_FRAME_SIZE (RFC 9113, 6.5.2)."""
SMALL_BYTES: Final = 128
"""Size in bytes below which a DATA frame counts as a control frame. The last frame of a stream does not count."""
EARNED: Final = 4
"""Number of further control frames that a client may send after each frame with content, sent or received.

Some clients send two WINDOW_UPDATE frames and a PING for each DATA frame.
"""
_HEAD_BYTES: Final = 9
_END_STREAM: Final = 0x1
_END_HEADERS: Final = 0x4


class Budget:
    """A token bucket for one kind of event, such as resets. It begins with `most` tokens, and gets `most` tokens a
    minute.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._left = float(most)
        self._since = monotonic()

    def take(self) -> bool:
        """Take one token. Return False if none is left."""
        if self._left < 1:
            now = monotonic()
            self._left = min(self._most, self._left + (now - self._since) * self._most / 60)
            self._since = now
        self._left -= 1
        return self._left >= 0

    def earn(self, number: int) -> None:
        self._left = min(self._most, self._left + number)


class Frame(NamedTuple):
    type: int
    data: bytes
    """All bytes of the frame, including its head."""


class Exceeded(Exception):
    """The error for a client that has exceeded a limit. The message names the limit."""


class TooLongFrame(Exception):
    """The error for a frame that is longer than `MAX_FRAME`."""


class Frames:
    """The received bytes, split into frames. `head_bytes` is the maximum length of a compressed head."""

    def __init__(self, control_frames: Budget, head_bytes: int) -> None:
        self._budget = control_frames
        self._head_bytes = head_bytes
        self._data = bytearray()
        self._block = 0
        """Number of bytes received so far of a head whose end has not arrived."""

    def add(self, data: bytes) -> None:
        self._data += data

    @property
    def is_empty(self) -> bool:
        return not self._data

    def next(self) -> Frame | None:
        """Return the next frame, or None if it has not come completely.

        Raises `TooLongFrame` if the frame is longer than `MAX_FRAME`. Raises `Exceeded` if the client has sent too many
        control frames, or if the head of a request is too long.
        """
        data = self._data
        if len(data) < _HEAD_BYTES:
            return None
        length, kind, flags = int.from_bytes(data[:3], "big"), data[3], data[4]
        if length > MAX_FRAME:
            raise TooLongFrame
        if len(data) < _HEAD_BYTES + length:
            return None
        self._check(length, kind, flags)
        frame = Frame(kind, bytes(data[: _HEAD_BYTES + length]))
        del data[: _HEAD_BYTES + length]
        return frame

    def _check(self, length: int, kind: int, flags: int) -> None:
        if kind in {HEADERS, CONTINUATION}:
            self._block += length
            if self._block > self._head_bytes:
                raise Exceeded("header_bytes")
            if flags & _END_HEADERS:
                self._block = 0
            is_free = kind == HEADERS
        else:
            is_free = kind == DATA and (length >= SMALL_BYTES or bool(flags & _END_STREAM))
        if kind == DATA and length >= SMALL_BYTES:
            self._budget.earn(EARNED)
        elif not is_free and not self._budget.take():
            raise Exceeded("control_frames_per_minute")
