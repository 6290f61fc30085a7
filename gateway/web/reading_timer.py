"""The time limit for a client that reads its reply too slowly."""

from __future__ import annotations

import asyncio
from typing import Final

UNREAD_SECONDS: Final = 120.0
"""Seconds in which a client must read `MIN_READ_BYTES` of a reply. Otherwise the connection is closed."""
MIN_READ_BYTES: Final = 1024 * 1024
"""Minimum number of bytes that a client must read of a long reply in `UNREAD_SECONDS`.

This is about 8 KB per second, like the minimum rate of request bodies (`Limits.body_bytes_per_second`)."""


class ReadingTimer:
    """The timer of one connection. It aborts the connection if its client reads too slowly.

    It runs only while the system's send buffer is full, or while a closing connection has bytes to send.
    """

    __slots__ = ("_timer",)

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    def start(self, transport: asyncio.Transport) -> None:
        """Begin to check how fast the client reads. Call this when the send buffer is full. Do nothing if the timer
        already runs.
        """
        if self._timer is None:
            self._expect(transport)

    def end(self, transport: asyncio.Transport, seconds: float) -> None:
        """Abort the closing connection after `seconds`, unless `stop` is called before."""
        self.stop()
        self._timer = asyncio.get_running_loop().call_later(seconds, transport.abort)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expect(self, transport: asyncio.Transport) -> None:
        """Abort the connection if the client does not read at least `MIN_READ_BYTES` in the next `UNREAD_SECONDS`."""
        unread = transport.get_write_buffer_size()
        self._timer = asyncio.get_running_loop().call_later(UNREAD_SECONDS, self._check, transport, unread)

    def _check(self, transport: asyncio.Transport, unread: int) -> None:
        """Abort the connection if the client has read too little in the last `UNREAD_SECONDS`. If not, wait once more.

        `unread` is the number of bytes that the client had not read at the start of this time.
        """
        if unread - transport.get_write_buffer_size() < MIN_READ_BYTES:
            transport.abort()
        else:
            self._expect(transport)
