"""Server-sent events (WHATWG HTML, 9.2). Every byte of the stream belongs to exactly one frame.

- A frame ends with a blank line. Lines end with CR LF, LF or CR, and one stream may use all three.
- A comment is a frame too, without a payload. So comments can be forwarded unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from gateway.contract.errors import BadFrame
from gateway.contract.flag import Frame

CONTENT_TYPE: Final = "text/event-stream"

MAX_EVENT: Final = 32 * 1024 * 1024
"""Maximum number of bytes of one event. A provider that sends a longer event is broken or hostile."""

LARGE: Final = 64 * 1024
"""Size in bytes above which the lines of an event are read one by one, because reading them together copies the
event."""
MAX_LINES: Final = 20_000
"""Maximum number of lines of one event. Most events have two lines."""
MAX_FIELD: Final = 4096
"""Maximum number of bytes that are read from a line that is no `data` line, such as the event's name."""
_DATA: Final = b"data:"
_END: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n?|\n)")
"""A pattern for the end of an event: two line ends in a row. CR followed by LF is one line end, not two."""
_USUAL: Final = re.compile(rb"(?:event: ?([^\r\n]{0,256}+)\n)?data: ?([^\r\n]*+)\n\n")
"""Pattern for the usual form of an event: at most one `event` line, and then one `data` line. If a chunk is exactly one
such event, the decoder does not search it for lines.
"""
_BOM: Final = b"\xef\xbb\xbf"
_BLANK: Final = b"\n\n"
_LONGEST_END: Final = 4
LF: Final = b"\n"
"""The bytes of a frame that is only an LF.

If a chunk ends between CR and LF, the event is yielded at once. The LF comes with the next chunk, and becomes a frame
of its own.
"""


class Decoder:
    r"""A decoder that divides server-sent events into frames. The chunks that it gets may have any size.

    `feed` raises `BadFrame` if an event is longer than `MAX_EVENT`.

    >>> decoder = sse.Decoder()
    >>> [(frame.headers, frame.payload) for frame in decoder.feed(b'event: chunk\ndata: {"a": 1}\n\ndata: {')]
    [({'event': 'chunk'}, b'{"a": 1}')]
    >>> decoder.pending, decoder.rest().payload
    (7, b'{')
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._ended_with_cr = False
        """True if the last frame ended with a CR: the next chunk may begin with the LF that belongs to this CR."""

    @property
    def pending(self) -> int:
        """The number of received bytes of an incomplete event."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that `data` completes."""
        buffer = self._buffer
        if not buffer and not self._ended_with_cr and (usual := _USUAL.fullmatch(data)) and len(data) <= LARGE:
            name, payload = usual.groups()
            yield Frame({} if name is None else {"event": name.decode("utf-8", "replace")}, payload, data)
            return
        buffer += data
        at = 0
        search = self._searched
        try:
            if self._ended_with_cr and buffer:
                # the event was yielded with its CR, so an LF that follows is not a line of the next event
                self._ended_with_cr = False
                if buffer.startswith(LF):
                    at = search = len(LF)
                    yield Frame({}, b"", LF)
            while (end := _END.search(buffer, search)) is not None:
                with memoryview(buffer) as view:
                    raw = bytes(view[at : end.end()])
                at = search = end.end()
                self._ended_with_cr = raw.endswith(b"\r")
                yield _frame(raw)
        finally:
            del buffer[:at]
            # the next search skips the searched bytes, except the last few: an event's end may begin in them
            self._searched = max(0, len(buffer) - _LONGEST_END)
        if len(buffer) > MAX_EVENT:
            raise BadFrame(f"the provider's stream has an event of more than {MAX_EVENT} bytes")

    def rest(self) -> Frame | None:
        """Return the last event of a stream that ended without a blank line. Return None if no received bytes are left.

        The blank line is added to `raw`, because a client ignores an event without it. If the stream ended too early,
        the event may be incomplete.
        """
        raw = bytes(self._buffer)
        return _frame(raw + _BLANK) if raw else None


def _frame(raw: bytes) -> Frame:
    headers: dict[str, str] = {}
    data: list[bytes] = []
    for line in raw.removeprefix(_BOM).splitlines() if len(raw) <= LARGE else _lines(raw):
        if line.startswith(_DATA):
            data.append(line[len(_DATA) + (line[len(_DATA) : len(_DATA) + 1] == b" ") :])
            continue
        name, _, value = line[:MAX_FIELD].partition(b":")
        if name == b"data":
            data.append(b"")
        elif name:
            headers[name.decode("utf-8", "replace")] = value.removeprefix(b" ").decode("utf-8", "replace")
    return Frame(headers, data[0] if len(data) == 1 else b"\n".join(data), raw)


def _lines(raw: bytes) -> Iterator[bytes]:
    """Yield the lines of a large event one by one. Raises `BadFrame` if there are more than `MAX_LINES`."""
    if b"\r" in raw:
        raw = raw.replace(b"\r\n", LF).replace(b"\r", LF)
    at = len(_BOM) if raw.startswith(_BOM) else 0
    for _ in range(MAX_LINES):
        end = raw.find(LF, at)
        if end < 0:
            return
        yield raw[at:end]
        at = end + 1
    raise BadFrame(f"the provider's stream has an event of more than {MAX_LINES} lines")


def encode(payload: bytes, event: str = "") -> bytes:
    r"""Return the bytes of one event. Each line of the payload becomes a `data` line.

    >>> sse.encode(b'{"a": 1}', "chunk")
    b'event: chunk\ndata: {"a": 1}\n\n'
    """
    if b"\n" in payload or b"\r" in payload:
        payload = b"\ndata: ".join(payload.splitlines())
    name = b"event: " + event.encode() + b"\n" if event else b""
    return name + b"data: " + payload + b"\n\n"


def comment(text: str) -> bytes:
    r"""Return the bytes of a comment, which clients ignore. Comments keep an idle connection open.

    >>> sse.comment("ping")
    b': ping\n\n'
    """
    return b": " + text.encode() + b"\n\n"
