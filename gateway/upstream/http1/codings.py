"""Decodes a body that comes compressed with gzip or deflate, although the gateway asks providers for `identity`.

Each step returns a bounded number of bytes, so that a few kilobytes cannot become gigabytes at once.
"""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.upstream.http1.exchange import BrokenOff, Quick, not_quick

CODINGS: Final = frozenset({"gzip", "x-gzip", "deflate"})
"""The content codings that are decoded (RFC 9110, 8.4.1)."""
STEP_BYTES: Final = 256 * 1024
"""Maximum number of bytes that one step of decoding returns."""
MAX_MEMBERS: Final = 64
"""Maximum number of members (RFC 1952, 2.2) of a gzip body. Thousands of empty members in a few kilobytes would
block the event loop."""
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
"""zlib's argument for data with the header of gzip or of zlib."""

Read = Callable[[], Awaitable[bytes]]
"""A function that returns the next bytes of a body, or b"" at the end of the body."""


class Inflated:
    """The decoded form of a compressed body."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._zlib = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._is_empty = True
        self._members = 1

    async def read(self, _quick: Quick = not_quick) -> bytes:
        """Return the next decoded bytes, or b"" at the end. Raises `BrokenOff` if the body is damaged or too short."""
        while True:
            rest = self._zlib.unconsumed_tail or self._zlib.unused_data
            data = rest or await self._read()
            if not data and not (self._zlib.eof or self._is_empty):
                raise BrokenOff("the compressed body ends too early")
            if not data:
                return b""
            try:
                decoded = self._step(data)
            except zlib.error as error:
                raise BrokenOff(f"the compressed body is damaged: {error}") from None
            if decoded:
                return decoded

    def _step(self, data: bytes) -> bytes:
        if self._is_empty and data[0] & 0x0F != zlib.DEFLATED and data[0] != 0x1F:
            self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)  # deflate without zlib's header, which some servers send
        elif self._zlib.eof:
            self._members += 1
            if self._members > MAX_MEMBERS:
                raise zlib.error(f"more than {MAX_MEMBERS} members")
            self._zlib = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._is_empty = False
        return self._zlib.decompress(data, STEP_BYTES)
