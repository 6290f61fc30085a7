"""Sends the replies of all streams of an HTTP/2 connection, as its windows allow.

- Streams take turns, one DATA frame each, so that a long reply does not delay a short one.
- All frames of one iteration of the event loop go to the socket in one write. Its size is limited.
- No part of a body is sent while the socket's buffer is full.
"""

from __future__ import annotations

import asyncio
from typing import Final

from h2.connection import H2Connection

from gateway.web.http2.frames import EARNED, Budget
from gateway.web.http2.replies import ReplyHead
from gateway.web.http2.streams import Stream

BYTES_AT_ONCE: Final = 64 * 1024
"""Maximum number of bytes of bodies that are sent in one iteration of the event loop."""
MAX_SENT_FRAME: Final = 16 * 1024
"""Maximum length of a DATA frame that is sent, even if the client would accept longer ones."""


class Sender:
    """Sends the replies of one connection.

    Each sent frame adds `EARNED` tokens to `control_frames`, the budget of the client's control frames.
    """

    def __init__(self, h2: H2Connection, control_frames: Budget) -> None:
        self._h2 = h2
        self._budget = control_frames
        self._raw: asyncio.Transport | None = None
        self.is_paused = False
        """Whether the socket's buffer is full."""
        self._waiting: dict[int, Stream] = {}
        """The streams that have unsent bytes, by number."""
        self._ready: dict[int, Stream] = {}
        """The waiting streams whose windows may allow a frame, in the order of their turns."""
        self._left = BYTES_AT_ONCE
        self._next: asyncio.Handle | None = None

    def open(self, raw: asyncio.Transport) -> None:
        self._raw = raw

    def close(self) -> None:
        self._raw = None
        if self._next is not None:
            self._next.cancel()

    @property
    def _is_closed(self) -> bool:
        return self._raw is None or self._raw.is_closing()

    def send_head(self, stream: Stream, head: ReplyHead) -> None:
        if self._is_closed:
            return
        self._h2.send_headers(stream.number, head.headers, end_stream=head.ends)
        self._budget.earn(EARNED)
        self.flush_soon()

    def send(self, stream: Stream) -> None:
        """Send the unsent bytes of a stream's reply, as far as the flow-control windows allow. The rest is sent when
        the client enlarges the windows.
        """
        self._waiting[stream.number] = self._ready[stream.number] = stream
        self._send_ready()

    def forget(self, stream: Stream) -> None:
        self._waiting.pop(stream.number, None)
        self._ready.pop(stream.number, None)

    def window_opened(self, number: int) -> None:
        """Send what has waited for a flow-control window that the client has enlarged now.

        `number` is the number of the stream, or 0 for the window of the whole connection.
        """
        if not number:
            self._ready = dict(self._waiting)
        elif (stream := self._waiting.get(number)) is not None:
            self._ready[number] = stream
        self._send_ready()

    def send_all(self) -> None:
        """Continue to send. Call this when the socket's buffer is no longer full."""
        self._send_ready()

    def flush_soon(self) -> None:
        """Write to the socket, in the next iteration of the event loop, all bytes that `h2` has ready."""
        if self._next is None and self._raw is not None:
            self._next = asyncio.get_running_loop().call_soon(self._flush_next)

    def flush(self, last: bytes = b"") -> None:
        """Write to the socket all bytes that `h2` has ready, and then the bytes `last`."""
        data = self._h2.data_to_send() + last
        if data and self._raw is not None and not self._is_closed:
            self._raw.write(data)

    def _flush_next(self) -> None:
        self._next = None
        self.flush()
        self._left = BYTES_AT_ONCE
        self._send_ready()

    def _send_ready(self) -> None:
        if self._is_closed:
            return
        while self._ready and self._left > 0 and not self.is_paused:
            number, stream = next(iter(self._ready.items()))
            del self._ready[number]
            if self._send_frame(stream):
                self._ready[number] = stream
        if self._ready and not self.is_paused:
            self.flush_soon()

    def _send_frame(self, stream: Stream) -> bool:
        """Send one frame of a stream. Return whether the stream has further bytes to send."""
        number, unsent = stream.number, stream.unsent
        if unsent:
            size = min(len(unsent), self._h2.local_flow_control_window(number), MAX_SENT_FRAME)
            if size <= 0:
                return False
            is_end = stream.ends_here and size == len(unsent)
            self._h2.send_data(number, bytes(unsent[:size]), end_stream=is_end)
            del unsent[:size]
            self._left -= size
        else:
            is_end = True
            self._h2.end_stream(number)
        self._budget.earn(EARNED)
        if is_end or not unsent:
            del self._waiting[number]
        self.flush_soon()
        stream.sent(is_end=is_end)
        return bool(unsent) and not is_end
