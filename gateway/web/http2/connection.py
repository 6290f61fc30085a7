"""A client's connection that speaks HTTP/2.

- The connection is counted as one connection (`web/connection_limits.py`). It is idle while it has no stream.
- The library `h2` keeps the protocol's rules. It gets whole frames, a few in each iteration of the event loop.
- Each stream is served as a connection of HTTP/1.1 (`streams.py`).
- There are limits on open streams, resets, control frames (`frames.py`), the length of a head, and the time in which a
  client must read. A client that exceeds a limit gets GOAWAY with ENHANCE_YOUR_CALM.
- A draining connection sends GOAWAY, and ends after its last stream. A connection drains when the gateway stops, or
  after a successful reply with `connection: close`. It does not drain after an error reply with this header.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final, Protocol, cast

from h2 import events
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError, StreamClosedError
from hyperframe.frame import GoAwayFrame

from gateway.call.guard import new_id
from gateway.web.connection_limits import Connections, Room
from gateway.web.connections import CLOSE_SECONDS, HTTP2
from gateway.web.http2.frames import GOAWAY, Budget, Exceeded, Frame, Frames, TooLongFrame
from gateway.web.http2.replies import ReplyHead
from gateway.web.http2.requests import MalformedRequest, http1_head
from gateway.web.http2.sending import Sender
from gateway.web.http2.state import new_h2, settings_bytes
from gateway.web.http2.stream_room import StreamRoom
from gateway.web.http2.streams import Handler, Stream
from gateway.web.reading_timer import ReadingTimer

FRAMES_AT_ONCE: Final = 16
"""Maximum number of frames that are handled in one iteration of the event loop."""
OTHER_LINES: Final = 48 * 1024
"""Bytes that all headers of a request together may have in addition to the maximum length of one header line.

The number is limited because `h2` takes about 10 ms to decompress 64 KiB.
"""


class Server(Protocol):
    """The methods of the HTTP/1.1 server (`web/http_server.py`) that an HTTP/2 connection calls."""

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None: ...

    def connection_lost(self, handler: Any, exc: BaseException | None = None) -> None: ...

    def connection(self, room: Room) -> Any:
        """Return a new asyncio protocol object that serves HTTP/1.1. It reads its limits from `room`, and tells `room`
        when it is open, busy, idle or closed.
        """


class Http2Connection(asyncio.Protocol):
    """A client's HTTP/2 connection. `line_bytes` is the maximum length of a header line."""

    _task_handler = None
    """None, because an HTTP/2 connection has no task for which aiohttp's `Server` must wait when the connection is
    lost.
    """

    def __init__(self, connections: Connections, server: Server, line_bytes: int) -> None:
        limits = connections.limits()
        self._connections = connections
        self._server = server
        self._room = StreamRoom(connections, self._served)
        self._streams: dict[int, Stream] = {}
        self._by_handler: dict[Handler, Stream] = {}
        self._lingering: dict[int, asyncio.TimerHandle] = {}
        """Timers of the streams whose reply is sent while the request's body still arrives, by stream number."""
        self._has_no_stream = asyncio.Event()
        self._has_no_stream.set()
        self._raw: asyncio.Transport | None = None
        self._h2 = new_h2(line_bytes + OTHER_LINES)
        self._control_frames = Budget(limits.control_frames_per_minute)
        self._resets = Budget(limits.resets_per_minute)
        self._frames = Frames(self._control_frames, line_bytes + OTHER_LINES)
        self._preface = len(HTTP2)
        """Number of bytes of the preface that `h2` has not seen yet."""
        self._sender = Sender(self._h2, self._control_frames)
        self._next: asyncio.Handle | None = None
        """The scheduled callback that handles further frames. It is None if no frame waits."""
        self._is_draining = False
        """Whether the connection ends after its last stream."""
        self._is_ended = False
        """True if nothing more is read or sent."""
        self._reading = ReadingTimer()

    # as `Connections` and aiohttp's server see it

    @property
    def awaits_head(self) -> bool:
        """True if no stream is open, so that no request is in progress. A part of the next request's head may have
        arrived.
        """
        return not self._streams

    @property
    def has_no_head(self) -> bool:
        """True if no stream is open.

        The bytes of a next request do not count, even if some have arrived. If the connection ends, GOAWAY tells the
        client that this request was not processed, so the client can send it again.
        """
        return not self._streams

    def close(self) -> None:
        """Accept no further request, and end after the last stream."""
        if not self._is_draining and not self._is_ended:
            self._is_draining = True
            self._send_goaway(ErrorCodes.NO_ERROR)
        self._close_if_drained()

    def force_close(self) -> None:
        """End the connection without waiting for its streams. Bytes that are already waiting for the socket are still
        sent.
        """
        if not self._is_ended:
            self._send_goaway(ErrorCodes.NO_ERROR)
            self._end()

    def abort(self) -> None:
        """End the connection at once. Bytes that are not sent yet are lost."""
        self._is_ended = True
        if self._raw is not None:
            self._raw.abort()

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 (aiohttp's interface)
        """End the connection after its last stream, or after `timeout` seconds."""
        self.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._has_no_stream.wait()
        self._end()

    # the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast("asyncio.Transport", transport)
        if not self._connections.admit(self, self._connections.client(transport)):
            self.abort()
            return
        self._server.connection_made(self, self._raw)
        self._sender.open(self._raw)
        self._sender.flush(settings_bytes(self._h2, self._connections.limits().streams_per_connection))

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_ended = True
        self._connections.remove(self)
        self._server.connection_lost(self, exc)
        self._reading.stop()
        for timer in (self._next, *self._lingering.values()):
            if timer is not None:
                timer.cancel()
        self._sender.close()
        self._lose_streams(exc or ConnectionResetError("the connection is closed"))
        self._raw = None

    def data_received(self, data: bytes) -> None:
        if self._is_ended:
            return
        if self._preface:
            self._h2.receive_data(data[: self._preface])
            data, self._preface = data[self._preface :], 0
        self._frames.add(data)
        if self._next is None:
            self._handle_frames()

    def pause_writing(self) -> None:
        self._sender.is_paused = True
        self._balance_reading()
        if self._raw is not None and not self._is_ended:
            self._reading.start(self._raw)

    def resume_writing(self) -> None:
        self._sender.is_paused = False
        self._balance_reading()
        if not self._is_ended:
            self._reading.stop()
        self._sender.send_all()

    # what the client sends

    def _handle_frames(self) -> None:
        """Handle a few received frames now. The other frames are handled in the next iteration of the event loop."""
        self._next = None
        try:
            for _ in range(FRAMES_AT_ONCE):
                if (frame := self._frames.next()) is None:
                    break
                self._handle(frame)
                if self._is_ended:
                    return
            else:
                if not self._frames.is_empty:
                    self._next = asyncio.get_running_loop().call_soon(self._handle_frames)
        except Exceeded as error:
            self._refuse(str(error))
        except TooLongFrame:
            self._fail(ErrorCodes.FRAME_SIZE_ERROR, "TooLongFrame")
        except ProtocolError as error:
            self._fail(error.error_code, type(error).__name__)
        self._balance_reading()
        self._sender.flush()

    def _handle(self, frame: Frame) -> None:
        if frame.type == GOAWAY:  # after it, `h2` would send nothing more
            self._is_draining = True
            self._close_if_drained()
            return
        for event in self._h2.receive_data(frame.data):
            match event:
                case events.RequestReceived():
                    self._open(event)
                case events.DataReceived(stream_id=number):
                    self._receive_body(number, event.data, event.flow_controlled_length)
                case events.StreamEnded(stream_id=number):
                    self._end_lingering(number)
                    if number in self._streams:
                        self._streams[number].body_ended()
                case events.StreamReset(stream_id=number):
                    self._was_reset(number)
                case events.WindowUpdated(stream_id=number):
                    self._sender.window_opened(number)
                case events.RemoteSettingsChanged():
                    self._sender.window_opened(0)

    def _open(self, event: events.RequestReceived) -> None:
        """Begin to serve a request. Reset its stream instead if the request is malformed or no further stream is
        allowed.
        """
        number, has_body = event.stream_id, event.stream_ended is None
        if self._is_draining or len(self._streams) >= self._connections.limits().streams_per_connection:
            self._reset(number, ErrorCodes.REFUSED_STREAM)
            return
        try:
            head = http1_head(cast("Any", event.headers), has_body=has_body)
        except MalformedRequest as error:
            self._connections.malformed(type(error).__name__, new_id(), None)
            self._reset(number, ErrorCodes.PROTOCOL_ERROR)
            return
        if not self._streams:
            self._connections.busy(self)
            self._has_no_stream.clear()
        stream = self._streams[number] = Stream(self, number, head)
        handler = cast("Handler", self._server.connection(self._room))
        self._by_handler[handler] = stream
        stream.serve(handler, head, has_body=has_body)

    def _receive_body(self, number: int, data: bytes, size: int) -> None:
        if (stream := self._streams.get(number)) is not None:
            stream.body_received(data, size)
        elif size:
            self._h2.acknowledge_received_data(size, number)

    def _was_reset(self, number: int) -> None:
        """End a stream that the client has reset, or on which the client has broken a rule of the protocol."""
        if number in self._lingering:
            self._end_lingering(number)  # the client has the whole reply
            return
        if not self._resets.take():
            raise Exceeded("resets_per_minute")
        if (stream := self._streams.get(number)) is not None:
            stream.lose(ConnectionResetError("the client has reset the stream"))

    # what the streams ask for

    def extra_info(self, name: str, default: Any) -> Any:
        """Return a value such as "peername" of the socket's transport, as `get_extra_info` of asyncio does. For
        "connection", return the transport itself.
        """
        if self._raw is None:
            return default
        return self._raw if name == "connection" else self._raw.get_extra_info(name, default)

    def send_head(self, stream: Stream, head: ReplyHead) -> None:
        self._sender.send_head(stream, head)

    def send(self, stream: Stream) -> None:
        self._sender.send(stream)

    def acknowledge(self, stream: Stream, size: int) -> None:
        if not self._is_ended and size:
            self._h2.acknowledge_received_data(size, stream.number)
            self._sender.flush_soon()

    def reset(self, stream: Stream) -> None:
        if not self._is_ended:
            self._reset(stream.number, ErrorCodes.INTERNAL_ERROR)
            self._sender.flush_soon()

    def leave(self, stream: Stream, handler: Handler) -> None:
        del self._by_handler[handler]
        self._sender.forget(stream)
        del self._streams[stream.number]
        if stream.is_sent and not stream.is_whole and not self._is_ended:
            self._linger(stream.number)
        if stream.is_last:
            self.close()
        if not self._streams:
            self._connections.idle(self)
            self._has_no_stream.set()
            self._close_if_drained()

    def _linger(self, number: int) -> None:
        """Read the rest of a body for a short time, although the reply is sent.

        Some clients, such as curl 7, lose a reply that is followed by a reset at once.
        """
        if len(self._lingering) < self._connections.limits().streams_per_connection:
            self._lingering[number] = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._stop_body, number)
        else:
            self._stop_body(number)

    def _stop_body(self, number: int) -> None:
        """Tell the client that the rest of a request's body is not needed (RFC 9113, 8.1)."""
        self._end_lingering(number)
        if not self._is_ended:
            with suppress(StreamClosedError):
                self._h2.reset_stream(number, ErrorCodes.NO_ERROR)
            self._sender.flush_soon()

    def _end_lingering(self, number: int) -> None:
        if (timer := self._lingering.pop(number, None)) is not None:
            timer.cancel()

    def _served(self, handler: Handler) -> None:
        if (stream := self._by_handler.get(handler)) is not None:
            stream.served()

    # the end

    def _reset(self, number: int, code: ErrorCodes) -> None:
        """Reset a stream. Do nothing if the client has reset it already.

        Raises `Exceeded` if the client has caused too many resets. A reset because of an error of the gateway does not
        count.
        """
        try:
            self._h2.reset_stream(number, code)
        except StreamClosedError:
            return  # the client has reset it
        if code is not ErrorCodes.INTERNAL_ERROR and not self._resets.take():
            raise Exceeded("resets_per_minute")

    def _send_goaway(self, code: ErrorCodes) -> None:
        """Send GOAWAY, and continue to send the replies of open streams.

        The frame is not made by `h2`, because `h2` sends nothing more after its own GOAWAY.
        """
        frame = GoAwayFrame(0, last_stream_id=self._h2.highest_inbound_stream_id, error_code=code)
        self._sender.flush(frame.serialize())

    def _refuse(self, limit: str) -> None:
        """End the connection of a client that has exceeded the limit `limit`, such as `resets_per_minute`."""
        self._connections.exceeded(self, limit)
        self._fail(ErrorCodes.ENHANCE_YOUR_CALM, "")

    def _fail(self, code: ErrorCodes | int, kind: str) -> None:
        """End the connection of a client that has broken a rule of HTTP/2. `kind` names the fault in the log. With "",
        nothing is logged.
        """
        if kind:
            self._connections.malformed(kind, new_id(), None)
        self._h2.clear_outbound_data_buffer()
        self._send_goaway(ErrorCodes(code))
        self._end()
        self._lose_streams(ConnectionResetError("the client has broken a rule of HTTP/2"))

    def _lose_streams(self, reason: Exception) -> None:
        for stream in list(self._streams.values()):
            stream.lose(reason)

    def _close_if_drained(self) -> None:
        if self._is_draining and not self._streams:
            self._end()

    def _end(self) -> None:
        """Close the socket after the waiting bytes are sent, or after `CLOSE_SECONDS`."""
        self._is_ended = True
        if self._raw is not None and not self._raw.is_closing():
            self._sender.flush()
            self._raw.close()
            self._reading.end(self._raw, CLOSE_SECONDS)

    def _balance_reading(self) -> None:
        """Pause reading while received frames wait to be handled, or while the client does not read the replies.

        Without this pause, received frames and unsent replies could fill the memory.
        """
        if self._raw is None or self._is_ended:
            return
        if self._sender.is_paused or self._next is not None:
            self._raw.pause_reading()
        else:
            self._raw.resume_reading()
