"""Server-sent events (WHATWG HTML, 9.2). Every byte of the stream belongs to exactly one frame.

A frame ends with its blank line. A line ends with CR LF, LF or CR, which a stream may mix. Comments and keep-alives are
frames with an empty payload, so that the native way can forward them unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from gateway.contract.errors import BadFrame
from gateway.contract.flag import Frame

MAX_EVENT: Final = 32 * 1024 * 1024
"""Most bytes of one event; a provider that sends more without a blank line is broken or hostile."""

_END: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n?|\n)")
"""Two line ends in a row. A CR alone is a line end only if no LF follows it."""
_LINE: Final = re.compile(rb"\r\n|\n|\r")
_BOM: Final = b"\xef\xbb\xbf"
_LONGEST_END: Final = 4
_LF: Final = b"\n"


class Decoder:
    """Decodes bytes, in any chunks, to frames. `feed` raises `BadFrame` if an event grows past `MAX_EVENT`."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._ended_with_cr = False
        """True if the last frame ended with a CR, whose LF may still come."""

    @property
    def pending(self) -> int:
        """The number of bytes of an event that is not complete yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[Frame]:
        buffer = self._buffer
        buffer += data
        at = 0
        search = self._searched
        try:
            if self._ended_with_cr and buffer:
                # the event went out with its CR; its LF is no line of the next event
                self._ended_with_cr = False
                if buffer.startswith(_LF):
                    at = search = len(_LF)
                    yield Frame({}, b"", _LF)
            while (end := _END.search(buffer, search)) is not None:
                raw = bytes(buffer[at : end.end()])
                at = search = end.end()
                self._ended_with_cr = raw.endswith(b"\r")
                yield _frame(raw)
        finally:
            del buffer[:at]
            # an event that comes in many reads is searched once, but for what may be half of its end
            self._searched = max(0, len(buffer) - _LONGEST_END)
        if len(buffer) > MAX_EVENT:
            raise BadFrame(f"the provider's stream has an event of more than {MAX_EVENT} bytes")


def _frame(raw: bytes) -> Frame:
    headers: dict[str, str] = {}
    data: list[bytes] = []
    for line in _LINE.split(raw.removeprefix(_BOM)):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name:
            headers[name.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
    return Frame(headers, b"\n".join(data), raw)


def encode(payload: bytes, event: str = "") -> bytes:
    """Return one event. Each line of a payload gets its own `data:`, because a bare line break would end the data."""
    if b"\n" in payload or b"\r" in payload:
        payload = b"\ndata: ".join(payload.splitlines())
    name = b"event: " + event.encode() + b"\n" if event else b""
    return name + b"data: " + payload + b"\n\n"


def comment(text: str) -> bytes:
    """Return a line that clients skip. It shows that the connection is alive."""
    return b": " + text.encode() + b"\n\n"
