"""application/vnd.amazon.eventstream: length-prefixed messages with typed headers and two checksums.

A message consists of the total length (4 bytes), the length of the headers (4 bytes), the CRC32 of these eight bytes,
the headers, the payload, and the CRC32 of everything before. Numbers are big-endian. Sources: botocore's
`eventstream.py` and smithy's `aws.protocols#eventStream`. The tests compare this decoder with botocore's decoder, which
is ten times slower.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final
from zlib import crc32

from gateway.contract.errors import BadFrame
from gateway.contract.flag import Frame

MAX_MESSAGE: Final = 25_165_824 + 131_072 + 16
"""Maximum number of bytes of a message: botocore's limits for payload and headers, plus the lengths and checksums."""

_OVERHEAD: Final = 16
_PRELUDE: Final = struct.Struct("!III")
_WORD: Final = struct.Struct("!I")
_STRING: Final = 7
_WIDTHS: Final[Mapping[int, int]] = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Number of bytes of a header's value, by its type. Values of the types 6 (bytes) and 7 (string) have any length."""
_MAX_CACHED_HEADERS: Final = 256
"""Maximum number of decoded header blocks in a decoder's cache. A stream has about six different blocks."""


class Decoder:
    """A decoder that makes frames from chunks of any size. `feed` raises `BadFrame` for an invalid message.

    >>> decoder = eventstream.Decoder()
    >>> message = eventstream.encode({":event-type": "chunk"}, b"{}")
    >>> list(decoder.feed(message[:20])), decoder.pending
    ([], 20)
    >>> [frame.headers for frame in decoder.feed(message[20:])]
    [{':event-type': 'chunk'}]
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._headers: dict[bytes, Mapping[str, str]] = {}

    @property
    def pending(self) -> int:
        """The number of received bytes of an incomplete message."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that `data` completes."""
        buffer = self._buffer
        unread: bytes | bytearray = data
        if buffer:
            buffer += data
            unread = buffer
        at, end = 0, len(unread)
        try:
            while end - at >= _PRELUDE.size:
                total, size, checksum = _PRELUDE.unpack_from(unread, at)
                if crc32(unread[at : at + 8]) != checksum:
                    raise BadFrame("the provider's event stream has a message with a wrong prelude checksum")
                if not _OVERHEAD + size <= total <= MAX_MESSAGE:
                    raise BadFrame(f"the provider's event stream has a message of impossible length {total}")
                if end - at < total:
                    break
                raw = bytes(unread[at : at + total])
                at += total
                yield self._frame(raw, size)
        finally:
            if unread is data:  # nearly all reads end with the end of a message
                buffer += data[at:]
            else:
                del buffer[:at]

    def _frame(self, raw: bytes, size: int) -> Frame:
        if crc32(memoryview(raw)[:-4]) != _WORD.unpack_from(raw, len(raw) - 4)[0]:
            raise BadFrame("the provider's event stream has a message with a wrong checksum")
        block = raw[12 : 12 + size]
        headers = self._headers.get(block)
        if headers is None:
            headers = _headers(block)
            if len(self._headers) < _MAX_CACHED_HEADERS:
                self._headers[block] = headers
        return Frame(headers, raw[12 + size : -4], raw)


def _headers(block: bytes) -> Mapping[str, str]:
    headers = {}
    at = 0
    try:
        while at < len(block):
            name_end = at + 1 + block[at]
            name = block[at + 1 : name_end].decode()
            kind = block[name_end]
            at = name_end + 1
            if kind in _WIDTHS:
                width = _WIDTHS[kind]
            else:
                width = int.from_bytes(block[at : at + 2], "big")
                at += 2
            value = block[at : at + width]
            if (kind not in _WIDTHS and kind not in {6, _STRING}) or len(value) != width:
                raise BadFrame(f"the provider's event stream has a malformed header {name!r}")
            headers[name] = value.decode() if kind == _STRING else value.hex()
            at += width
    except (IndexError, UnicodeDecodeError):
        raise BadFrame("the provider's event stream has a message with malformed headers") from None
    return headers


def encode(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Return the bytes of one message. All header values are strings, as in Bedrock's messages.

    >>> len(eventstream.encode({":event-type": "chunk"}, b"{}"))
    38
    """
    block = b"".join(
        bytes((len(key := name.encode()),)) + key + b"\x07" + len(text := value.encode()).to_bytes(2, "big") + text
        for name, value in headers.items()
    )
    lengths = struct.pack("!II", _OVERHEAD + len(block) + len(payload), len(block))
    message = lengths + _WORD.pack(crc32(lengths)) + block + payload
    return message + _WORD.pack(crc32(message))
