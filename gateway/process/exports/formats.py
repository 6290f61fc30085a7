"""The formats of exported objects. An encoder gets calls one by one, and returns the object's content at the end."""

from __future__ import annotations

import base64
import gzip
import importlib
import io
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import orjson

from gateway.config.exporters import Format
from gateway.contract.record import Record
from gateway.process.exports.cbor import encoded
from gateway.process.exports.parquet import ParquetEncoder
from gateway.process.exports.values import exported
from gateway.store.captured import CapturedBodies

_ZSTD: Final = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
_GZIP_LEVEL: Final = 6


class Encoder(Protocol):
    """The encoder of one exported object (a file)."""

    @property
    def size(self) -> int:
        """An estimate of the memory in bytes that the encoder uses. The number grows with each added call."""

    def add(self, number: int, record: Record, bodies: CapturedBodies | None) -> None:
        """Add a call with its number in the store."""

    def finish(self) -> bytes:
        """Return the content of the exported object. No call may be added later."""


class CborEncoder:
    """An encoder of Aperture's format: a CBOR sequence, compressed with zstd."""

    def __init__(self) -> None:
        self.size = 0
        self._compressor = importlib.import_module(_ZSTD).ZstdCompressor()
        self._parts: list[bytes] = []

    def add(self, number: int, record: Record, bodies: CapturedBodies | None) -> None:
        data = encoded(exported(number, record, bodies))
        self.size += len(data)
        self._parts.append(self._compressor.compress(data))

    def finish(self) -> bytes:
        return b"".join([*self._parts, self._compressor.flush()])


class JsonEncoder:
    """An encoder of JSON lines, one for each call, compressed with gzip. Bytes are written in base64."""

    def __init__(self) -> None:
        self.size = 0
        self._output = io.BytesIO()
        # without a time and a name, so that the same calls are always the same bytes
        self._file = gzip.GzipFile("", "wb", _GZIP_LEVEL, self._output, mtime=0)

    def add(self, number: int, record: Record, bodies: CapturedBodies | None) -> None:
        data = orjson.dumps(exported(number, record, bodies), default=_base64, option=orjson.OPT_APPEND_NEWLINE)
        self.size += len(data)
        self._file.write(data)

    def finish(self) -> bytes:
        self._file.close()
        return self._output.getvalue()


def _base64(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError


ENCODERS: Final[Mapping[Format, Callable[[], Encoder]]] = {
    "cbor.zstd": CborEncoder,
    "json.gz": JsonEncoder,
    "parquet": ParquetEncoder,
}
SUFFIXES: Final[Mapping[Format, str]] = {"cbor.zstd": ".cbor.zstd", "json.gz": ".jsonl.gz", "parquet": ".parquet"}
"""The suffix of an object's name in each format."""
