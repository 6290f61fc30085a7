"""Encoding of values as CBOR (RFC 8949). Encoded values that follow one another are a CBOR sequence (RFC 8742).

Only the types that an exported record has are encoded: numbers, texts, bytes, booleans, null, lists and objects.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

_INTEGER, _NEGATIVE, _BYTES, _TEXT, _LIST, _MAP = range(6)
"""Major types (RFC 8949, 3.1)."""
_SIMPLE: Final[Mapping[bool | None, bytes]] = {False: b"\xf4", True: b"\xf5", None: b"\xf6"}
_FLOAT: Final = b"\xfb"
_SIZES: Final = ((24, ">B", 1 << 8), (25, ">H", 1 << 16), (26, ">I", 1 << 32), (27, ">Q", 1 << 64))
"""The encodings of an argument (RFC 8949, 3) of 24 or more. The argument follows the first byte in 1, 2, 4 or 8 bytes.

A tuple describes one encoding: its code in the first byte, its format string for `struct`, and a limit. The argument
must be less than this limit.
"""
_AT_ONCE: Final = 24
"""An argument (RFC 8949, 3) below this number is encoded in the first byte of the value."""
_LONGEST_CACHED: Final = 32
"""Maximum number of characters of a text whose encoding is cached."""


def encoded(value: Any) -> bytes:
    """Return a value as CBOR, in the shortest form. Floats always have 64 bits.

    Raises `TypeError` for a type that no exported record has, and `OverflowError` for an integer of more than 64 bits.
    """
    output = bytearray()
    _add(value, output)
    return bytes(output)


def _add(value: Any, output: bytearray) -> None:
    add = _WRITERS.get(type(value))
    if add is None:
        raise TypeError(f"a {type(value).__name__} has no form in an export")
    add(value, output)


def _add_simple(value: bool | None, output: bytearray) -> None:
    output += _SIMPLE[value]


def _add_integer(value: int, output: bytearray) -> None:
    output += _head(_INTEGER, value) if value >= 0 else _head(_NEGATIVE, -1 - value)


def _add_float(value: float, output: bytearray) -> None:
    output += _FLOAT + struct.pack(">d", value)


def _add_text(value: str, output: bytearray) -> None:
    output += _cached_text(value) if len(value) <= _LONGEST_CACHED else _text(value)


def _add_bytes(value: bytes, output: bytearray) -> None:
    output += _head(_BYTES, len(value)) + value


def _add_list(value: Sequence[Any], output: bytearray) -> None:
    output += _head(_LIST, len(value))
    for item in value:
        _add(item, output)


def _add_map(value: Mapping[str, Any], output: bytearray) -> None:
    output += _head(_MAP, len(value))
    for key, item in value.items():
        _add_text(key, output)
        _add(item, output)


_WRITERS: Final[Mapping[type, Callable[[Any, bytearray], None]]] = {
    type(None): _add_simple,
    bool: _add_simple,
    int: _add_integer,
    float: _add_float,
    str: _add_text,
    bytes: _add_bytes,
    list: _add_list,
    tuple: _add_list,
    dict: _add_map,
}


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "replace")
    return _head(_TEXT, len(data)) + data


_cached_text: Final = lru_cache(1024)(_text)
"""`_text` with a cache, because names of members and of models are in every record."""


def _head(major: int, argument: int) -> bytes:
    """Return the head of a value (RFC 8949, 3): the major type, and the argument.

    The argument of an integer is its value. The argument of any other value is its length.
    """
    if argument < _AT_ONCE:
        return bytes((major << 5 | argument,))
    for code, form, limit in _SIZES:
        if argument < limit:
            return bytes((major << 5 | code,)) + struct.pack(form, argument)
    raise OverflowError("an integer of more than 64 bits")
