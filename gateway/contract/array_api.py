"""An encoder for API formats whose streams are JSON arrays.

To decode such a stream, use `sse_api.SseDecoder` with the argument `framing`:

    def decoder(request, target, head):
        return SseDecoder(kind_of, is_last, framing=json_array.Decoder())
"""

from __future__ import annotations

from gateway.contract import json_api
from gateway.contract.errors import Problem
from gateway.contract.flag import Event
from gateway.contract.framing import json_array


class ArrayEncoder:
    r"""An encoder that sends the events of a stream as the objects of one JSON array.

    >>> encoder = array_api.ArrayEncoder()
    >>> encoder.feed(event("chunk", {"text": "hi"})) + encoder.feed(event("chunk", {"text": "!"})) + encoder.close()
    b'[{"text":"hi"},\n{"text":"!"}]'
    """

    def __init__(self) -> None:
        self._begun = False

    def feed(self, event: Event) -> bytes:
        if not event.payload:
            return b""
        first, self._begun = not self._begun, True
        return json_array.encode(event.payload, first=first)

    def whole(self, body: bytes) -> bytes:
        return body

    def ping(self) -> bytes:
        """Return a line end, which keeps the connection open. JSON allows it between two objects (RFC 8259, 2)."""
        return b"\n"

    def fail(self, problem: Problem) -> bytes:
        return json_array.encode(json_api.error(problem)[2], first=not self._begun) + json_array.END

    def close(self) -> bytes:
        return json_array.END if self._begun else json_array.BEGIN + json_array.END
