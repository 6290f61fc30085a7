"""The reply to one request while it arrives: the head, then the pieces of the body.

llhttp, the parser of Node.js, reads the messages (httptools). This module has no socket and no timer. `connection.py`
passes the received bytes to `Exchange.feed`, and pauses if the reader is slow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import httptools

from gateway.contract.flag import Head
from gateway.contract.http_headers import joined_headers

MAX_FRAMING_BYTES: Final = 64 * 1024
"""Maximum number of bytes in a row that neither complete the head nor add to the body.

Such bytes are interim replies (100, 103), chunk extensions and trailers. The parser keeps a header in memory until it
is complete, so an endless trailer would fill the memory.
"""
MAX_BUFFERED_BYTES: Final = 128 * 1024
"""Number of unread bytes of a body above which the connection stops reading."""
CLOSED: Final = "the provider closed the connection"
"""Text of the error `BrokenOff` if the provider closed the connection."""
_LENIENCIES: Final = {"lenient_optional_cr_before_lf": True, "lenient_spaces_after_chunk_size": True}
"""Options of the parser: framing errors that it accepts, because small servers make them. They cannot change the
meaning of a message, and aiohttp's client accepts them too."""


Quick = Callable[[bytes], bool]
"""A function that processes bytes of a body as soon as they arrive. It returns False if it cannot process them."""


def not_quick(_data: bytes) -> bool:
    return False


class BrokenOff(Exception):
    """The error for a connection that ended, or whose framing was damaged, before the reply was complete.

    The text is the reason.
    """


class Exchange:
    """The reply to one request. httptools calls the methods whose names begin with `on_`."""

    __slots__ = (
        "_buffered", "_error", "_framing_bytes", "_has_body", "_head", "_is_delimited", "_pairs", "_parser", "_parts",
        "_pause", "_paused", "_quick", "_resume", "_waiter", "is_complete", "is_reusable",
    )  # fmt: skip

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None], *, has_body: bool = True) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(**_LENIENCIES)
        self._has_body = has_body
        """Whether the request's method allows a reply with a body. Replies to HEAD have none, even with a
        `Content-Length`.
        """
        self._pause = pause
        self._resume = resume
        self._paused = False
        self._pairs: list[tuple[str, str]] = []
        self._head: Head | None = None
        self._framing_bytes = 0
        self._is_delimited = False
        """True if the body has a length or chunks. False if only the end of the connection shows where the body ends.
        """
        self._parts: list[bytes] = []
        self._buffered = 0
        self._error: BaseException | None = None
        self._quick: Quick = not_quick
        """A function that is called with the bytes that arrive while a read waits."""
        self._waiter: asyncio.Future[None] | None = None
        self.is_complete = False
        """Whether the whole reply has arrived."""
        self.is_reusable = False
        """Whether the reply allows that the connection is used again."""

    @property
    def has_head(self) -> bool:
        return self._head is not None

    @property
    def received_head(self) -> Head:
        assert self._head is not None
        return self._head

    @property
    def has_ended(self) -> bool:
        """Whether the reply is complete, or has ended with an error."""
        return self.is_complete or self._error is not None

    def feed(self, data: bytes) -> None:
        """Parse bytes that have arrived on the connection."""
        if self.has_ended:
            self._refuse()
            return
        self._framing_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._damaged("the provider switched to another protocol")
        except httptools.HttpParserError as error:
            self._damaged(f"damaged HTTP: {error}")
        if self._framing_bytes > MAX_FRAMING_BYTES:
            self._damaged(f"more than {MAX_FRAMING_BYTES} bytes of headers")
        if self._parts and self._waiter is not None and not self._waiter.done():
            data = self._taken()
            if not self._quick(data):
                self._parts.append(data)
                self._waiter.set_result(None)

    def end(self, error: Exception | None) -> None:
        """Handle the end of the connection. `error` is its cause. It is None if the provider closed the connection."""
        if self.has_ended:
            return
        if error is None and self._head is not None and not self._is_delimited:
            self.is_complete = True
            self.wake()
            return
        self.fail(BrokenOff(type(error).__name__ if error is not None else CLOSED))

    def fail(self, error: BaseException) -> None:
        """End the reply with an error. If a read is waiting, this read raises the error. If none is waiting, the next
        read does.
        """
        if not self.has_ended:
            self._error = error
            self._refuse()
            self.wake()

    def give_up(self) -> None:
        """Stop waiting for the head of the reply: if it has not arrived yet, end the reply with a `TimeoutError`."""
        if self._head is None:
            self.fail(TimeoutError())

    async def head(self) -> Head:
        """Wait for the head, and return it. If the reply fails before its head has come, raise the error."""
        while self._head is None:
            if self._error is not None:
                raise self._error
            await self.change()
        return self._head

    async def read(self, quick: Quick = not_quick) -> bytes:
        """Return the bytes of the body that have arrived, or b"" at the end. If there are none, wait for them.

        Bytes that arrive during the wait are passed to `quick`. If it returns True, it has processed them, and the wait
        goes on. If it returns False, the bytes are returned.

        If an error has ended the reply, the bytes that arrived before the error are returned first. The next `read`
        raises the error.
        """
        self._quick = quick
        while not self._parts:
            if self._error is not None:
                raise self._error
            if self.is_complete:
                return b""
            await self.change()
        return self._taken()

    def rest(self) -> bytes:
        """Return the bytes of a complete body that have not been read yet."""
        assert self.is_complete
        return self._taken()

    async def change(self) -> None:
        """Wait for the next event of the connection: bytes or an error arrive, or more of the request can be sent."""
        self._waiter = waiter = asyncio.get_running_loop().create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def on_message_begin(self) -> None:
        if self.is_complete:
            # bytes after the reply: a second reply, which no request has asked for
            self.is_reusable = False
        self._pairs = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head is None:  # the others are trailers
            self._pairs.append((name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200 or self.has_head or self.has_ended:
            return
        headers = joined_headers(self._pairs)
        coding = headers.get("transfer-encoding", "").strip().lower()
        if status < 100 or coding not in {"", "chunked"}:
            self._damaged(f"transfer coding {coding[:50]}" if status >= 100 else f"status {status}")
            return
        self._is_delimited = bool(coding) or "content-length" in headers
        self._framing_bytes = 0
        self._head = Head(status, headers)
        if self._has_body:
            self.wake()
        else:
            self.on_message_complete()

    def on_body(self, body: bytes) -> None:
        if self._head is None:
            self._damaged("an interim reply has a body")
        if self.has_ended:
            self._refuse()
            return
        self._framing_bytes = 0
        self._parts.append(body)
        self._buffered += len(body)
        if self._buffered > MAX_BUFFERED_BYTES:
            self._hold()

    def on_message_complete(self) -> None:
        head = self._head
        if head is None or self.has_ended:
            return
        self.is_complete = True
        # HTTP/1.0 has no chunks, so the framing is faulty if a proxy of that version passes them on (RFC 9112, 6.1)
        is_faulty = "transfer-encoding" in head.headers and self._parser.get_http_version() == "1.0"
        self.is_reusable = self._parser.should_keep_alive() and not is_faulty
        self.wake()

    def _taken(self) -> bytes:
        """Remove and return the bytes of the body that have arrived, and resume reading."""
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._buffered = 0
        if self._paused and not self.has_ended:
            self._paused = False
            self._resume()
        return data

    def _damaged(self, reason: str) -> None:
        """End the reply with the error `BrokenOff`, because its framing is damaged."""
        self._refuse()
        self.fail(BrokenOff(reason))

    def _refuse(self) -> None:
        """Stop reading from the connection, and do not use it for another request."""
        self.is_reusable = False
        self._hold()

    def _hold(self) -> None:
        if not self._paused:
            self._paused = True
            self._pause()
