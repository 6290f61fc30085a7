r"""A JSON parser that replaces an incomplete character by U+FFFD instead of raising an error, and a JSON encoder.

- A client that cuts a text between two UTF-16 units sends `"\ud83d"`, the first half of a character, in this and all
  later turns. Python's and JavaScript's JSON parsers accept such a half, and so do providers
  (anthropics/claude-code#60394, anomalyco/opencode#17758). orjson and msgspec do not.
- Some servers split a stream's text between bytes or UTF-16 units, so that one event has the first part of a character
  and the next event has the rest.

A text is parsed strictly first, and repaired only if that fails. Bytes that are forwarded unchanged are not repaired.

orjson rounds whole numbers of more than 64 bits, such as amounts of a cryptocurrency, and cannot write them. `exact`
and `dumps` keep all their digits.
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
"""The escape of one half of a character, without the other half beside it. Escaped backslashes must be masked before
the search.

Both alternatives begin with the same bytes, which makes the search fast."""
_BOM: Final = b"\xef\xbb\xbf"
_BACKSLASH: Final = b"\\\\"
_MASK: Final = b"\0\0"
"""Bytes that replace an escaped backslash during a search. Valid JSON has no zero bytes."""
_RAWS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_SPACE: Final = re.compile(rb"[\s,]*")


def loads(text: bytes | str, *, utf8: bool = False) -> Any:
    r"""Return the decoded value, with incomplete characters replaced.

    Raises `orjson.JSONDecodeError` for text with other faults. If `utf8` is true, bytes that are not UTF-8 are a fault
    too. So a client that uses another encoding gets an error, and its text is not changed silently.

    A byte order mark before the bytes of a reply is ignored (RFC 8259, 8.1).

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


_TOO_LARGE: Final = "Integer exceeds 64-bit range"


def exact(text: bytes | str) -> Any:
    """Return the decoded value. Whole numbers keep all their digits, however large they are.

    Only in a text with incomplete characters are large numbers rounded, as by `loads`. This function is slower than
    `loads`, and raises the same exception.

    >>> lenient_json.exact(b"[18446744073709551617]"), lenient_json.loads(b"[18446744073709551617]")
    ([18446744073709551617], [1.8446744073709552e+19])
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return loads(text)


def dumps(value: Any) -> bytes:
    """Return a value as JSON. Raises `orjson.JSONEncodeError` if it is nested too deeply or is no JSON value.

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
    r"""Return JSON text in which the escape `\ufffd` replaces each lone half of a surrogate pair.

    >>> lenient_json.repaired(rb'"half \ud83d"')
    b'"half \\ufffd"'
    """
    return _HALF.sub(rb"\\ufffd", _with_masks(text)).replace(_MASK, _BACKSLASH)


def without_surrogates(text: bytes) -> bytes:
    r"""Return JSON text without escapes of UTF-16 surrogates: every `\ud` or `\uD` is replaced by `\ue`.

    The length does not change, so all offsets stay valid. The new characters are for private use, so a changed name
    cannot equal the name of a known member. This is faster than `repaired`, especially with millions of halves.

    >>> lenient_json.without_surrogates(rb'"half \ud83d"')
    b'"half \\ue83d"'
    """
    masked = _with_masks(text).replace(b"\\ud", b"\\ue").replace(b"\\uD", b"\\ue")
    return masked.replace(_MASK, _BACKSLASH)


def _with_masks(text: bytes) -> bytes:
    """Return JSON text with `_MASK` in place of each escaped backslash. Every other backslash begins an escape.

    Text with zero bytes is returned unchanged, because a mask consists of zero bytes. Such text is not JSON.
    """
    return text if _MASK[:1] in text else text.replace(_BACKSLASH, _MASK)


def raw_items(text: bytes) -> list[bytes]:
    """Return the items of a JSON list, each as its undecoded bytes. Raises `ValueError` for anything else.

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
