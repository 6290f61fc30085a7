"""An HTTP/2 client for tests. It can break the protocol's rules."""

import asyncio
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("h2", reason="h2 is not there; pip install -e '.[test]' brings it")

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.settings import SettingCodes

__all__ = ["H2", "ErrorCodes", "H2Configuration", "Http2Client", "Reset", "SettingCodes", "events", "http2"]

AUTHORITY = "127.0.0.1"


class Reset(Exception):
    """The error for a stream that the gateway has reset, or whose connection it has ended. The argument is the error
    code.
    """


class H2(H2Connection):
    """The client's side of the protocol. Open streams continue after GOAWAY, as RFC 9113, 6.8, says."""

    def _receive_goaway_frame(self, frame):
        event = ConnectionTerminated()
        event.error_code, event.last_stream_id = frame.error_code, frame.last_stream_id
        return [], [event]


class Http2Client:
    """One connection. If `reads` is false, reading data does not enlarge the client's flow-control windows."""

    def __init__(self, reader, writer, window=None, *, reads=True):
        self.reader, self.writer, self.reads = reader, writer, reads
        checks = dict.fromkeys(("validate_outbound_headers", "normalize_outbound_headers"), False)
        self.h2 = H2(H2Configuration(client_side=True, header_encoding="utf-8", **checks))
        if window is not None:
            self.h2.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = window
            self.h2.local_settings.acknowledge()
        self.h2.initiate_connection()
        self.events = []
        self.goaway = None
        self.changed = asyncio.Event()
        self.flush()
        self.task = asyncio.create_task(self._read())

    def flush(self):
        self.writer.write(self.h2.data_to_send())

    async def _read(self):
        try:
            while data := await self.reader.read(65536):
                for event in self.h2.receive_data(data):
                    self._take(event)
                self.flush()
        except ConnectionError:
            pass
        self.events.append(None)
        self.changed.set()

    def _take(self, event):
        self.events.append(event)
        if isinstance(event, ConnectionTerminated):
            self.goaway = event.error_code
        if isinstance(event, DataReceived) and self.reads and event.flow_controlled_length:
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self.changed.set()

    async def until(self, check):
        """Wait until `check` returns a true value, and return this value."""
        async with asyncio.timeout(10):
            while not (result := check()):
                self.changed.clear()
                await self.changed.wait()
        return result

    def ask(self, path, body=None, *, method=None, headers=(), ends=True):
        """Send a request, and return the number of its stream. If `ends` is false, the stream stays open for more of
        the body.
        """
        number = self.h2.get_next_available_stream_id()
        method = method or ("GET" if body is None else "POST")
        pseudo = [(":method", method), (":scheme", "http"), (":path", path), (":authority", AUTHORITY)]
        self.h2.send_headers(number, [*pseudo, *headers], end_stream=body is None and ends)
        if body is not None and len(body) <= self.h2.local_flow_control_window(number):
            self.h2.send_data(number, body, end_stream=ends)
        self.flush()
        return number

    async def send_body(self, number, body):
        """Send a body, as fast as the flow-control windows allow."""
        while body:
            await self.until(lambda: self.h2.local_flow_control_window(number) > 0)
            size = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size, len(body))
            self.h2.send_data(number, body[:size], end_stream=size == len(body))
            body = body[size:]
            self.flush()

    def of(self, number, kind):
        return [event for event in self.events if isinstance(event, kind) and event.stream_id == number]

    def body(self, number):
        return b"".join(event.data for event in self.of(number, DataReceived))

    def heads(self, number):
        return self.of(number, ResponseReceived)

    def interim(self, number):
        return [dict(event.headers)[":status"] for event in self.of(number, InformationalResponseReceived)]

    async def reply(self, number):
        """Return the status, the headers and the body of a reply. Raises `Reset` if the reply is not complete."""

        def ended():
            return self.of(number, (StreamEnded, StreamReset)) or self.events[-1:] == [None]

        await self.until(ended)
        if resets := self.of(number, StreamReset):
            if not self.of(number, StreamEnded):
                raise Reset(resets[0].error_code)
        elif not self.of(number, StreamEnded):
            raise Reset(self.goaway)
        (head,) = self.heads(number)
        headers = dict(head.headers)
        return int(headers.pop(":status")), headers, self.body(number)

    async def get(self, path, body=None, **options):
        return await self.reply(self.ask(path, body, **options))

    async def ended(self):
        """Wait until the gateway closes the connection, and return the error code of its GOAWAY."""
        await self.until(lambda: self.events[-1:] == [None])
        return self.goaway


@asynccontextmanager
async def http2(url="", *, unix="", first=b"", ssl=None, window=None, reads=True):
    """Yield an HTTP/2 connection to the gateway at `url`, or at the unix socket `unix`.

    The bytes `first` are sent before HTTP/2 begins.
    """
    if unix:
        reader, writer = await asyncio.open_unix_connection(unix)
    else:
        host, _, port = url.partition("://")[2].rpartition(":")
        name = {"server_hostname": "localhost"} if ssl else {}
        reader, writer = await asyncio.open_connection(host, int(port), ssl=ssl, **name)
    writer.write(first)
    client = Http2Client(reader, writer, window, reads=reads)
    yield client
    client.task.cancel()
    writer.transport.abort()
    await asyncio.gather(client.task, return_exceptions=True)
