"""Lines of the journal: a call with the balances that it left in quota buckets, or a change of the configuration.

- Lines are encoded on the event loop and decoded in the follower's thread.
- Fields are only ever added, so that lines of older releases can be read.
- Texts, lists and numbers of clients and providers are bounded when a line is read: a row that a store cannot write
  would block all rows after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from gateway.contract.record import Record

MAX_TEXT: Final = 1024
"""Most characters stored of one text; the longest honest ones are ARNs and error names."""
MAX_LIST: Final = 256
"""Most entries stored of a call's tools, or of its dropped fields."""
MAX_INTEGER: Final = 2**53
"""Highest count or price: JSON readers take it exactly, and sums of very many stay within 64 bits."""


class Balance(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The balance of a quota bucket after a change. The last one of a bucket counts."""

    bucket: str
    amount: int
    """Nanodollars; below 0 where a call cost more than the balance."""
    remainder: int
    """Inflow below a nanodollar, in the ledger's unit."""
    at: float
    """Unix time in seconds."""


class Version(msgspec.Struct, frozen=True, gc=False):
    """A configuration that was applied."""

    at: float
    who: str
    """A login, or "file"."""
    etag: str
    changed: tuple[str, ...]
    """Dotted paths; never a value."""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One line of the journal."""

    call: Record | None = None
    balances: tuple[Balance, ...] = ()
    version: Version | None = None


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Entry)


def encode(entry: Entry) -> bytes:
    """Return a line without its line end."""
    try:
        return _ENCODER.encode(entry)
    except (UnicodeEncodeError, OverflowError):
        # aiohttp decodes a header's bytes that are no UTF-8 to halves of surrogate pairs; providers report any number
        return _ENCODER.encode(_clean(msgspec.to_builtins(entry)))


def decode(lines: Iterable[bytes]) -> tuple[Sequence[Entry], int]:
    """Return the entries of lines, and the number of lines that cannot be read."""
    entries = []
    unreadable = 0
    for line in lines:
        try:
            entry = _DECODER.decode(line)
            # a short ASCII line holds no text that is too long; most lines are short
            short = len(line) <= MAX_TEXT and line.isascii()
            entries.append(entry if short else msgspec.convert(_bounded(msgspec.to_builtins(entry)), Entry))
        except (msgspec.DecodeError, UnicodeDecodeError):
            unreadable += 1
    return entries, unreadable


def _clean(value: Any) -> Any:
    """Return a value without texts and numbers that JSON cannot hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int):
        return max(-MAX_INTEGER, min(value, MAX_INTEGER))
    if isinstance(value, dict):
        return {_clean(name): _clean(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(inner) for inner in value]
    return value


def _bounded(value: Any) -> Any:
    """Return a value with texts and lists cut to their limits."""
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else value[: MAX_TEXT - 1] + "…"
    if isinstance(value, dict):
        return {_bounded(name): _bounded(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_bounded(inner) for inner in value[:MAX_LIST]]
    return value
