"""A stream of an HTTP/2 connection, as the asyncio transport of an HTTP/1.1 protocol object.

- The protocol object is a `Connection` of `web/connections.py`. It serves exactly one request.
- The bytes that the protocol object writes are parsed (`replies.py`), and sent as far as the client's flow-control
  windows allow. While some are unsent, the protocol object must not write more. So its time limit for clients that do
  not read applies to each stream.
- While the protocol object pauses reading, it gets no more of the body, and the client's window does not grow.
- A stream whose reply is cut is reset, so that the client does not take the reply for complete.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final, Protocol

from gateway.web.http2.replies import BadReply, ReplyHead, ReplyParser
from gateway.web.http2.requests import Head

LAST_CHUNK: Final = b"0\r\n\r\n"


class Handler(Protocol):
    """A protocol of HTTP/1.1 that serves the request of a stream."""

    def connection_made(self, transport: asyncio.BaseTransport, /) -> None: ...

    def connection_lost(self, exc: BaseException | None, /) -> None: ...

    def data_received(self, data: bytes, /) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class Multiplexer(Protocol):
    """The methods of an HTTP/2 connection (`connection.py`) that its streams call."""

    def extra_info(self, name: str, default: Any) -> Any: ...

    def send_head(self, stream: Stream, head: ReplyHead) -> None: ...

    def send(self, stream: Stream) -> None:
        """Send the unsent bytes of the stream, as far as the flow-control windows allow. The rest is sent when the
        client enlarges the windows.
        """

    def acknowledge(self, stream: Stream, size: int) -> None:
        """Let the client send `size` more bytes of the body."""

    def reset(self, stream: Stream) -> None:
        """Tell the client that the reply is cut."""

    def leave(self, stream: Stream, handler: Handler) -> None:
        """Forget a stream that has ended, and the protocol object `handler` that served it."""


class Stream(asyncio.Transport):
    """A stream of an HTTP/2 connection. It is the asyncio transport of the HTTP/1.1 protocol that serves the stream's
    request.
    """

    def __init__(self, connection: Multiplexer, number: int, head: Head) -> None:
        super().__init__()
        self.number = number
        self.unsent = bytearray()
        """Bytes of the reply's body that are not sent yet."""
        self.is_last = False
        """Whether the connection accepts no more requests after this one."""
        self._connection = connection
        self._handler: Handler | None = None
        self._reply = ReplyParser(head.method)
        self._is_chunked = head.is_chunked
        self._held: deque[tuple[bytes, int]] = deque()
        """Pieces of the body that the protocol does not read yet, each with the number of bytes that it takes from the
        window.
        """
        self._has_body_end = False
        """Whether the whole body of the request has come."""
        self._is_reading = True
        self._is_feeding = False
        self._is_paused = False
        """Whether the protocol's writing is paused."""
        self._is_closing = False
        self._is_sent = False
        """Whether the end of the reply is sent."""
        self._is_served = False
        """Whether the protocol has finished the request."""

    def serve(self, handler: Handler, head: Head, *, has_body: bool) -> None:
        """Connect the stream to the HTTP/1.1 protocol `handler`, and pass the head of the request to this protocol."""
        self._handler = handler
        self._has_body_end = not has_body
        handler.connection_made(self)
        handler.data_received(head.data)

    # what comes from the client

    def body_received(self, data: bytes, size: int) -> None:
        """Pass a piece of the request's body on to the protocol. `size` is the number of bytes by which the piece
        reduces the flow-control window.
        """
        if data or size:
            self._held.append((data, size))
            self._feed()

    def body_ended(self) -> None:
        self._has_body_end = True
        if self._is_chunked:
            self._held.append((b"", 0))
            self._feed()

    def lose(self, reason: Exception | None) -> None:
        """Tell the protocol object that its connection is lost. `reason` is None if the stream ended normally."""
        self._is_closing = True
        handler, self._handler = self._handler, None
        if handler is None:
            return
        self.unsent.clear()
        self._connection.leave(self, handler)
        handler.connection_lost(reason)
        while self._held:
            self._connection.acknowledge(self, self._held.popleft()[1])

    def _feed(self) -> None:
        """Pass the waiting pieces of the request's body to the protocol, until the protocol pauses reading."""
        if self._is_feeding:
            return
        self._is_feeding = True
        try:
            while self._held and self._is_reading and self._handler is not None:
                data, size = self._held.popleft()
                if data or not size:
                    self._handler.data_received(self._framed(data))
                if size:
                    self._connection.acknowledge(self, size)
        finally:
            self._is_feeding = False

    def _framed(self, data: bytes) -> bytes:
        """Return a piece of the body in the framing of HTTP/1.1. An empty piece ends a chunked body."""
        if not self._is_chunked:
            return data
        return b"%x\r\n%b\r\n" % (len(data), data) if data else LAST_CHUNK

    # what the HTTP/2 connection asks for

    @property
    def awaits_window(self) -> bool:
        """True if a part of the reply waits until the client enlarges a flow-control window."""
        return bool(self.unsent) or (self._reply.is_complete and not self._is_sent)

    @property
    def ends_here(self) -> bool:
        """True if the unsent bytes are the last ones of the reply."""
        return self._reply.is_complete

    @property
    def is_whole(self) -> bool:
        """True if the whole request has arrived, with its body."""
        return self._has_body_end

    @property
    def is_sent(self) -> bool:
        return self._is_sent

    def sent(self, *, is_end: bool) -> None:
        """Record that a frame of the reply has been sent. `is_end` is true for the last frame of the reply."""
        if is_end:
            self._is_sent = True
            self._finish()
        self._balance()

    def served(self) -> None:
        """Record that the protocol object has served the request. The stream ends when the reply is sent too."""
        self._is_served = True
        self._finish()

    def _finish(self) -> None:
        """End the stream if the reply is sent and the protocol has finished.

        The stream ends in the next iteration of the event loop, because the protocol may be the caller of this method.
        """
        if self._is_sent and (self._is_served or self._is_closing):
            asyncio.get_running_loop().call_soon(self.lose, None)

    def _balance(self) -> None:
        """Let the protocol object pause its writing while there are unsent bytes, and resume it when there are none."""
        if self._handler is None or self._is_paused is self.awaits_window:
            return
        self._is_paused = not self._is_paused
        if self._is_paused:
            self._handler.pause_writing()
        else:
            self._handler.resume_writing()

    # the transport of the protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return a value such as "peername" of the client's connection. For "socket", return None, so that no stream
        sets options of the shared socket.
        """
        return None if name == "socket" else self._connection.extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing or not data:
            return
        try:
            parts = self._reply.feed(bytes(data))
        except BadReply:
            self.abort()
            raise
        for part in parts:
            if isinstance(part, ReplyHead):
                self._is_sent = self._is_sent or part.ends
                self.is_last = part.closes and part.status < 400
                self._connection.send_head(self, part)
            else:
                self.unsent += part
        if self.awaits_window:
            self._connection.send(self)
        self._balance()
        if self._is_sent:
            self._finish()

    def get_write_buffer_size(self) -> int:
        return len(self.unsent)

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        """End the stream after the unsent bytes, or reset it at once if the reply is not complete."""
        if not self._is_closing:
            self._is_closing = True
            if self._reply.is_complete:
                self._finish()
            else:
                self._cut()

    def abort(self) -> None:
        """Reset the stream, unless the whole reply is sent."""
        self._is_closing = True
        if self._is_sent:
            self._finish()
        else:
            self._cut()

    def _cut(self) -> None:
        self._connection.reset(self)
        asyncio.get_running_loop().call_soon(self.lose, None)

    def is_reading(self) -> bool:
        return self._is_reading

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        self._is_reading = True
        self._feed()
