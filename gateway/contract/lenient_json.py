r"""A JSON parser that accepts incomplete characters, and a parser and an encoder for large integers.

- Some clients cut a text inside a character and send half of a surrogate pair, such as `"\ud83d"`. Some servers split a
  character between two events. Python's and JavaScript's parsers accept such text (anthropics/claude-code#60394,
  anomalyco/opencode#17758), but orjson and msgspec do not. `loads` replaces an incomplete character by U+FFFD.
- orjson rounds integers of more than 64 bits, and cannot write them. `exact` and `dumps` keep all digits.
- Bytes that are forwarded unchanged are not repaired.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
import orjson

_HALF: Final = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|[c-fC-F][0-9a-fA-F]{2}(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))"
)
"""Pattern for the JSON escape of half a surrogate pair without its other half. It must not be used on a text with
escaped backslashes (`_with_masks` replaces them).

Both alternatives of the pattern begin with the same bytes, which makes the search fast.
"""
_BOM: Final = b"\xef\xbb\xbf"
_BACKSLASH: Final = b"\\\\"
_MASK: Final = b"\0\0"
"""Bytes that replace an escaped backslash during a search. They cannot occur in valid JSON."""
_RAWS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_SPACE: Final = re.compile(rb"[\s,]*")


def loads(text: bytes | str, *, utf8: bool = False) -> Any:
    r"""Return the decoded value of a JSON text, with U+FFFD in place of each lone half of a surrogate pair.

    - By default, invalid UTF-8 is also replaced by U+FFFD, and a byte order mark is ignored (RFC 8259, 8.1). If `utf8`
      is true, both are errors.
    - Raises `orjson.JSONDecodeError` if the text is not valid JSON.

    >>> lenient_json.loads(rb'"half \ud83d"')
    'half �'
    """
    if isinstance(text, bytes) and not utf8:
        text = text.removeprefix(_BOM)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        given = text.encode("utf-8", "replace") if isinstance(text, str) else text
        whole = repaired(given if utf8 else given.decode("utf-8", "replace").encode())
        if whole == given:
            raise
    return orjson.loads(whole)


def loads_or_none(text: bytes | str) -> Any:
    """Return what `loads` returns, or None if the text is not JSON.

    >>> lenient_json.loads_or_none(b"<html>") is None
    True
    """
    try:
        return loads(text)
    except orjson.JSONDecodeError:
        return None


_TOO_LARGE: Final = "Integer exceeds 64-bit range"


def exact(text: bytes | str) -> Any:
    """Return the decoded value of a JSON text. Integers of any size keep all their digits.

    However, a text with lone halves of surrogate pairs or with invalid UTF-8 is decoded by `loads`, which rounds large
    integers. `exact` is slower than `loads`. Raises `orjson.JSONDecodeError` if the text is not valid JSON.

    >>> lenient_json.exact(b"[18446744073709551617]"), lenient_json.loads(b"[18446744073709551617]")
    ([18446744073709551617], [1.8446744073709552e+19])
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return loads(text)


def dumps(value: Any) -> bytes:
    """Return a value as JSON. Raises `orjson.JSONEncodeError` if it is nested too deeply or has a type unknown to JSON.

    >>> lenient_json.dumps({"amount": 18446744073709551617})
    b'{"amount":18446744073709551617}'
    """
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        if str(error) != _TOO_LARGE:
            raise
    return msgspec.json.encode(value)


def repaired(text: bytes) -> bytes:
    r"""Return JSON text with the escape `\ufffd` in place of each lone half of a surrogate pair.

    >>> lenient_json.repaired(rb'"half \ud83d"')
    b'"half \\ufffd"'
    """
    return _HALF.sub(rb"\\ufffd", _with_masks(text)).replace(_MASK, _BACKSLASH)


def without_surrogates(text: bytes) -> bytes:
    r"""Return JSON text that a strict parser accepts, because no escape in it is a surrogate.

    Each `\ud` and `\uD` is replaced by `\ue`. This changes characters, but no offsets. So use the result only to find
    offsets. This function is faster than `repaired`.

    >>> lenient_json.without_surrogates(rb'"half \ud83d"')
    b'"half \\ue83d"'
    """
    masked = _with_masks(text).replace(b"\\ud", b"\\ue").replace(b"\\uD", b"\\ue")
    return masked.replace(_MASK, _BACKSLASH)


def _with_masks(text: bytes) -> bytes:
    """Return JSON text with two zero bytes (`_MASK`) in place of each escaped backslash.

    After this, every backslash in the text begins an escape. Text that already has zero bytes is no valid JSON, and is
    returned unchanged.
    """
    return text if _MASK[:1] in text else text.replace(_BACKSLASH, _MASK)


def raw_items(text: bytes) -> list[bytes]:
    """Return the undecoded items of a JSON list. Raises `ValueError` if the text is not a JSON list.

    >>> lenient_json.raw_items(b'[1.0, {"a": 2}]')
    [b'1.0', b'{"a": 2}']
    """
    try:
        return [bytes(raw) for raw in _RAWS.decode(text)]
    except msgspec.DecodeError:
        pass
    try:
        raws = _RAWS.decode(without_surrogates(text))
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    items, at = [], text.index(b"[") + 1
    for raw in raws:
        gap = _SPACE.match(text, at)
        start = gap.end() if gap else at
        at = start + len(bytes(raw))
        items.append(text[start:at])
    return items
