"""A parser of replies in HTTP/1.1. The gateway itself has written them, and sends the parsed heads and bodies in
HTTP/2.

It accepts only what the gateway writes: a body with `content-length`, or in chunks without extensions and trailers.
Everything else is a bug, and raises `BadReply`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from gateway.web.http2.requests import OF_CONNECTION

_CHUNK_LINE: Final = 18
"""Maximum length of a line with a chunk's size: 16 digits and the end of the line."""


class BadReply(Exception):
    """The error for a reply that the gateway has written and that HTTP/2 cannot carry."""


class ReplyHead(NamedTuple):
    status: int
    headers: list[tuple[bytes, bytes]]
    """The headers as HTTP/2 sends them, with the pseudo-header field `:status` first."""
    ends: bool
    """Whether the reply has no body. The stream then ends with the head."""
    closes: bool
    """Whether the connection closes after this reply."""


class ReplyParser:
    """Parses one reply, and the interim replies before it. `method` is the request's method."""

    def __init__(self, method: bytes) -> None:
        self._is_head = method == b"HEAD"
        self._rest = b""
        self._parse = self._parse_head
        self._left = 0
        """Number of missing bytes of the body, or of the current chunk."""
        self._parts: list[ReplyHead | bytes] = []
        self.is_complete = False

    def feed(self, data: bytes) -> list[ReplyHead | bytes]:
        """Return the heads and the pieces of the body that `data` completes. Raises `BadReply` for malformed data."""
        self._rest = self._rest + data if self._rest else data
        while self._rest and self._parse():
            pass
        parts, self._parts = self._parts, []
        return parts

    def _parse_head(self) -> bool:
        head, end, self._rest = self._rest.partition(b"\r\n\r\n")
        if not end:
            self._rest = head
            return False
        first, *lines = head.split(b"\r\n")
        version, _, status = first[:12].partition(b" ")
        if version != b"HTTP/1.1" or not status.isdigit():
            raise BadReply("the status line is not valid")
        fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
        self._begin(int(status), status, fields)
        return True

    def _begin(self, number: int, status: bytes, fields: list[tuple[bytes, bytes]]) -> None:
        """Add the head of a reply to the parts that `feed` returns, and prepare to parse the body. `number` is the
        status.

        Raises `BadReply` if the head does not give the length of the body.
        """
        values = dict(fields)
        headers = [(b":status", status), *(field for field in fields if field[0] not in OF_CONNECTION)]
        is_interim = number < 200
        if is_interim:
            ends = False
        elif self._is_head or number in {204, 304}:
            ends = self._end()
        elif values.get(b"transfer-encoding") == b"chunked":
            ends, self._parse = False, self._parse_size
        elif (length := values.get(b"content-length", b"")).isdigit():
            self._left, self._parse = int(length), self._parse_content
            ends = not self._left and self._end()
        else:
            raise BadReply("the reply says nothing about the length of its body")
        self._parts.append(ReplyHead(number, headers, ends, values.get(b"connection", b"").lower() == b"close"))

    def _parse_content(self) -> bool:
        self._take()
        if not self._left:
            self._end()
        return True

    def _parse_size(self) -> bool:
        line, end, rest = self._rest.partition(b"\r\n")
        if not end:
            if len(line) > _CHUNK_LINE:
                raise BadReply("the size of a chunk is too long")
            return False
        try:
            self._left, self._rest = int(line, 16), rest
        except ValueError:
            raise BadReply("the size of a chunk is no number") from None
        self._parse = self._parse_chunk if self._left else self._parse_last
        return True

    def _parse_chunk(self) -> bool:
        if self._left:
            self._take()
            return True
        if len(self._rest) < 2:
            return False
        self._expect_line_end()
        self._parse = self._parse_size
        return True

    def _parse_last(self) -> bool:
        if len(self._rest) < 2:
            return False
        self._expect_line_end()
        self._end()
        return True

    def _parse_nothing(self) -> bool:
        raise BadReply("there are bytes after the end of the reply")

    def _take(self) -> None:
        piece, self._rest = self._rest[: self._left], self._rest[self._left :]
        self._left -= len(piece)
        self._parts.append(piece)

    def _expect_line_end(self) -> None:
        if not self._rest.startswith(b"\r\n"):
            raise BadReply("a chunk is longer than its size says")
        self._rest = self._rest[2:]

    def _end(self) -> bool:
        self._parse = self._parse_nothing
        self.is_complete = True
        return True
