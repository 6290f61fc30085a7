"""Removes the gateway's keys from the bytes of a reply below `/direct`, while these bytes are passed on.

If the last bytes of a read may be the beginning of a key, they are held back until the next read shows whether the rest
of the key follows. Keys are found in the forms that `call/key_redaction.py` names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from gateway.call.key_redaction import KNOWN_BY, Redaction, any_form, base64_forms

FORM_BYTES: Final = 12
"""Maximum number of bytes of one escaped character of a key. Escapes are long in nested JSON, where backslashes are
escaped too: `\\\\\\\\u002d`.
"""
_CUT_ESCAPE: Final = rb"(?:\\+(?:u[0-9a-fA-F]{0,3})?|%[0-9a-fA-F]?)"
"""Pattern for an escaped character that is not complete yet."""


class _Beginning(NamedTuple):
    """The patterns that find where a certain key begins in the bytes of a reply."""

    known: re.Pattern[bytes]
    """Pattern for the first `KNOWN_BY` characters of the key, plain or escaped."""
    cut: re.Pattern[bytes]
    """Pattern for the beginning of the key at the very end of the bytes. It matches as many of the key's first
    characters as the bytes end with, from none to `KNOWN_BY`.
    """
    encoded: tuple[bytes, ...]
    """The first `KNOWN_BY` characters of the key, in each form that they can have within base64 (`base64_forms`)."""
    longest: int
    """Maximum number of bytes of the whole key."""


class ByteRedaction:
    """Removes keys from the bytes of one reply."""

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._beginnings = [_beginning(secret) for secret in redaction.secrets]
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return the bytes that were held back before, followed by `data`, with all keys removed.

        If the last of these bytes may be the beginning of a key, they are held back until `feed` is called again.
        """
        clean = self._redaction.bytes(self._held + data)
        at = min((_begins(clean, one) for one in self._beginnings), default=len(clean))
        self._held = clean[at:]
        return clean[:at]

    def rest(self) -> bytes:
        """Return the bytes that are held back at the end of a complete reply. They contain no whole key."""
        held, self._held = self._held, b""
        return held


def _begins(data: bytes, key: _Beginning) -> int:
    """Return the offset from which `data` must be held back, because a key may begin there.

    If no key can begin in `data`, return the length of `data`.
    """
    start = max(0, len(data) - key.longest)
    found = [match.start() for pattern in (key.known, key.cut) if (match := pattern.search(data, start))]
    for form in key.encoded:
        at = data.find(form, start)
        found.append(at if at >= 0 else len(data) - _overlap(data, form))
    return min(found)


def _overlap(data: bytes, form: bytes) -> int:
    """Return the number of bytes at the end of `data` that are the beginning of `form`."""
    return next((size for size in range(min(len(form) - 1, len(data)), 0, -1) if data.endswith(form[:size])), 0)


@lru_cache(maxsize=64)
def _beginning(secret: str) -> _Beginning:
    forms = [any_form(character) for character in secret[:KNOWN_BY]]
    encoded = tuple(base64_forms(secret[:KNOWN_BY].encode("utf-8", "surrogateescape")))
    return _Beginning(re.compile(b"".join(forms)), _cut(forms), encoded, len(secret) * FORM_BYTES)


def _cut(forms: Sequence[bytes]) -> re.Pattern[bytes]:
    """Return a pattern that finds the beginning of a key at the very end of some bytes.

    `forms` has a pattern for each of the key's first characters, in order. The returned pattern matches as many of
    these characters as the bytes end with, even none. An incomplete escape may follow them.
    """
    nested = b""
    for form in reversed(forms):
        nested = b"(?:%b%b)?" % (form, nested)
    return re.compile(rb"%b%b?\Z" % (nested, _CUT_ESCAPE))
