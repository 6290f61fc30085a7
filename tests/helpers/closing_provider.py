"""A simulated provider that breaks the second request of each connection at a chosen place, and counts requests."""

import json
import socket
import struct
import threading
from contextlib import contextmanager

from tests.helpers.gateway import HAIKU

USAGE = {"inputTokens": 12, "outputTokens": 7, "totalTokens": 19}
REPLY = json.dumps(
    {
        "output": {"message": {"role": "assistant", "content": [{"text": "hello"}]}},
        "stopReason": "end_turn",
        "usage": USAGE,
        "metrics": {"latencyMs": 1},
    }
).encode()
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(REPLY)
PLACES = ("idle", "before reading", "after the head", "after half of the request", "after all", "amid the reply")
UNREAD = {"idle", "before reading"}
"""Places at which the provider closes the connection before it has read any part of the second request."""


class ClosingProvider:
    """A provider that answers the first request of each connection, and closes the connection during the second one.

    `place` is the point at which it closes the connection (`PLACES`).
    """

    def __init__(self, place):
        self.place = place
        self.posts = 0
        """Number of requests whose request line the provider has read."""
        self.closed = 0
        """Number of connections that the provider has closed."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            connection.settimeout(20)
            self._read(connection)
            connection.sendall(HEAD + REPLY)
            if self.place != "idle":
                self._break(connection)
        self.closed += 1

    def _break(self, connection):
        if not connection.recv(1, socket.MSG_PEEK):
            return
        if self.place == "before reading":
            # closing discards what was not read, so the gateway's side of the connection is reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        parts = {"after the head": 0.0, "after half of the request": 0.5}
        self._read(connection, parts.get(self.place, 1.0))
        if self.place == "amid the reply":
            connection.sendall(HEAD + REPLY[: len(REPLY) // 2])

    def _read(self, connection, part=1.0):
        """Read a request's head, and a part of its body. `part` is the fraction of the body to read."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(1 if part < 1 else 65536)
        self.posts += data.startswith(b"POST ")
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        read = len(body)
        while read < length * part:
            read += len(connection.recv(65536))


@contextmanager
def closing_provider(place):
    provider = ClosingProvider(place)
    try:
        yield provider
    finally:
        provider.close()


def chat(size=10):
    return {"model": HAIKU, "max_tokens": 10, "messages": [{"role": "user", "content": "a" * size}]}
