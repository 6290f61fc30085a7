"""Decoders of the content codings in which clients may send a body: gzip, deflate, br and zstd (RFC 9110, 8.4.1).

- A body is decoded in small steps until the decoded size exceeds `limit`. So a "zip bomb", a few kilobytes that decode
  to gigabytes, is refused after `limit` bytes.
- A client may apply several codings in sequence. The result of each decoding must stay within the limit.
- Nothing here reads a request. Decoding a large body takes time, so `request_body.py` decodes in a thread. The event
  loop keeps running, because all four libraries release the interpreter's lock.
"""

from __future__ import annotations

import importlib
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from gateway.contract.errors import TOO_LARGE, UNSUPPORTED_CODING, Problem, Refused, invalid

STEP: Final = 64 * 1024
"""Maximum number of bytes that a decoder reads in one step. The same number limits its output in one step."""
SLICE: Final = 1024 * 1024
"""Number of decoded bytes after which decoding pauses, so that the caller can reserve memory for them."""
MAX_CODINGS: Final = 4
"""Maximum number of codings of one body. Each coding may take as long to decode as a body of the maximum size."""
MAX_FRAMES: Final = 1000
"""Maximum number of gzip members or zstd frames in one body. Without this limit, a body of many empty frames would take
long to decode, although its decoded size is 0.
"""
_SHOWN: Final = 50
"""Maximum number of characters of an unknown coding's name in the error message."""
_WINDOW_LOG: Final = 23
"""Binary logarithm of zstd's largest window: 8 MB, the maximum for the content coding (RFC 9659, 3)."""
_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB_HEADER: Final = 2
"""Size in bytes of the header of zlib's format (RFC 1950, 2.2)."""

Decoder = Callable[[bytes], Iterator[bytes]]
"""A function that yields the decoded parts of a body. For damaged data, it raises an exception of the types that
`_errors_of` lists.
"""


class _Cut(ValueError):
    """The error for a body that ends too early for its coding, or has data after the end of its coding."""


def names(values: Iterable[str]) -> list[str]:
    """Return the codings in a request's `Content-Encoding` headers, except `identity`, in the order in which the client
    applied them (RFC 9110, 8.4).

    Raises `Refused` for an unknown coding, and for too many codings.
    """
    given = [name.strip().lower() for value in values for name in value.split(",")]
    codings = [_OTHER_NAMES.get(name, name) for name in given if name not in _NO_CODING]
    for name in codings:
        if name not in _DECODERS:
            # bytes of a header that are not UTF-8 could not be sent as JSON
            text = name[:_SHOWN].encode("ascii", "replace").decode()
            raise _unsupported(f'the body has the content coding "{text}", which is not one of {ACCEPTED}')
    if len(codings) > MAX_CODINGS:
        raise _unsupported(f"the body has {len(codings)} content codings; at most {MAX_CODINGS} are taken")
    return codings


class Decoding:
    """Decodes a body piece by piece. Between two pieces, the caller can reserve memory for the next one.

    An empty body stays empty, whatever codings the request names.
    """

    def __init__(self, body: bytes, codings: Iterable[str], limit: int) -> None:
        self.body = body
        """The result of the decodings so far: first the encoded body, and at the end the decoded body."""
        self._codings = list(codings)
        self._limit = limit
        self._slices = self._decode()

    def slice(self) -> int | None:
        """Decode about `SLICE` bytes. Return None when the whole body is decoded.

        Before that, return the number of bytes in memory: the input and the output so far of the coding that is being
        decoded. Raises `Refused` if the body is damaged, or if the output of one coding exceeds the limit.
        """
        return next(self._slices, None)

    def _decode(self) -> Iterator[int]:
        for name in reversed(self._codings):
            parts: list[bytes] = []
            for size in self._decode_one(name, parts):
                yield len(self.body) + size
            self.body = b"".join(parts)

    def _decode_one(self, name: str, parts: list[bytes]) -> Iterator[int]:
        """Decode the content coding `name` of the body, and append the decoded parts to `parts`.

        Each time at least `SLICE` bytes were added, yield the total size of `parts`.
        """
        size = counted = 0
        try:
            for part in _DECODERS[name](self.body) if self.body else ():
                size += len(part)
                if size > self._limit:
                    raise too_large(self._limit)
                parts.append(part)
                if size - counted >= SLICE:
                    counted = size
                    yield size
        except _errors_of(name) as error:
            raise invalid(f"the body is not valid {name} data, as its Content-Encoding says: {error}") from None


def too_large(limit: int) -> Refused:
    return Refused(Problem(TOO_LARGE, f"the request's body is larger than {limit} bytes, the limit of this gateway"))


def _unsupported(message: str) -> Refused:
    return Refused(Problem(UNSUPPORTED_CODING, message, accept_encoding=ACCEPTED))


def _gunzip(body: bytes) -> Iterator[bytes]:
    return _frames(body, lambda: _Inflater(_GZIP))


def _inflate(body: bytes) -> Iterator[bytes]:
    """Yield the parts of a body in the coding `deflate`: zlib's format, or raw data, which some clients send."""
    header = int.from_bytes(body[:_ZLIB_HEADER], "big")
    # method 8 in the low four bits of the first byte, and a header that is a multiple of 31 (RFC 1950, 2.2)
    is_zlib = len(body) >= _ZLIB_HEADER and body[0] & 0x0F == zlib.DEFLATED and header % 31 == 0
    return _frames(body, lambda: _Inflater(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS), most=1)


class _Inflater:
    """A zlib decompressor with the interface of a zstd decompressor, so that `_frames` can use both."""

    def __init__(self, bits: int) -> None:
        self._inner = zlib.decompressobj(bits)
        self._full = False

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._full

    def decompress(self, data: bytes, max_length: int) -> bytes:
        part = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        # zlib may hold back output although no input is left
        self._full = bool(self._inner.unconsumed_tail) or len(part) == max_length
        return part


def _unzstd(body: bytes) -> Iterator[bytes]:
    zstd = _library("zstd")
    options = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
    return _frames(body, lambda: zstd.ZstdDecompressor(options=options))


def _frames(body: bytes, new: Callable[[], Any], most: int = MAX_FRAMES) -> Iterator[bytes]:
    """Yield the decoded parts of a body of concatenated frames. `new` makes the decompressor of one frame. `most` is
    the maximum number of frames.

    Raises `_Cut` if the body has too many frames, or ends within a frame.
    """
    decompressor, count = new(), 1
    for start in range(0, len(body), STEP):
        data = body[start : start + STEP]
        while data or not (decompressor.eof or decompressor.needs_input):
            if decompressor.eof:
                count += 1
                if count > most:
                    raise _Cut(f"more data follows after {most} frames" if most > 1 else "more data follows its end")
                decompressor = new()
            yield decompressor.decompress(data, STEP)
            data = decompressor.unused_data if decompressor.eof else b""
    if not decompressor.eof:
        raise _Cut("it ends too early")


def _unbrotli(body: bytes) -> Iterator[bytes]:
    decompressor = _library("br").Decompressor()
    for start in range(0, len(body), STEP):
        part = decompressor.process(body[start : start + STEP], output_buffer_limit=STEP)
        # the decompressor may hold back output although it has taken all of its input
        while part or not (decompressor.can_accept_more_data() or decompressor.is_finished()):
            yield part
            part = decompressor.process(b"", output_buffer_limit=STEP)
    if not decompressor.is_finished():
        raise _Cut("it ends too early")


def _library(name: str) -> Any:
    """Import and return the module that decodes a coding. The import is late, because few clients use br or zstd."""
    return importlib.import_module(_LIBRARIES[name][0])


def _errors_of(name: str) -> tuple[type[Exception], ...]:
    """Return the exceptions that the decoder of a coding raises for damaged data."""
    return (getattr(_library(name), _LIBRARIES[name][1]), _Cut) if name in _LIBRARIES else (zlib.error, _Cut)


_LIBRARIES: Final[Mapping[str, tuple[str, str]]] = {
    # coding: (module, its exception for damaged data)
    "br": ("brotli", "error"),
    "zstd": ("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd", "ZstdError"),
}
_DECODERS: Final[Mapping[str, Decoder]] = {"gzip": _gunzip, "deflate": _inflate, "br": _unbrotli, "zstd": _unzstd}
_OTHER_NAMES: Final[Mapping[str, str]] = {"x-gzip": "gzip"}
"""Maps an alias of a content coding to the coding's usual name (RFC 9110, 8.4.1.3)."""
_NO_CODING: Final = frozenset({"", "identity"})
ACCEPTED: Final = ", ".join(_DECODERS)
"""The accepted codings, in the form of the header `Accept-Encoding` (RFC 9110, 12.5.3)."""
