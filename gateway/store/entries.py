"""What a line of the journal says: a call with what it left in quota buckets, or a change that somebody made.

Encoded on the event loop, read again by whoever keeps the store; a line that an older release wrote is read as well,
since fields are only ever added. Whatever a client or a provider made up is bounded where a line is read, so that no
value can be one that a store refuses: a row that cannot be written would hold up all that come after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from gateway.contract.record import Record

MAX_TEXT: Final = 1024
"""Characters kept of one text; the longest honest ones are ARNs and error names."""
MAX_LIST: Final = 256
"""Entries kept of a call's tools, or of its dropped fields."""
MAX_INTEGER: Final = 2**53
"""Of a count or a price: what JSON's readers take exactly, and so small that sums of very many stay in 64 bits."""


class Balance(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is in a quota bucket after something changed it. The last one of a bucket counts."""

    bucket: str
    amount: int
    """Nanodollars; below 0 where a call cost more than was there."""
    remainder: int
    """What a refill has accrued below a nanodollar, in the ledger's own unit."""
    at: float
    """Unix time in seconds."""


class Version(msgspec.Struct, frozen=True, gc=False):
    """A configuration that was taken over."""

    at: float
    who: str
    """A login, or "file"."""
    etag: str
    changed: tuple[str, ...]
    """Dotted paths; never a value."""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One line."""

    call: Record | None = None
    balances: tuple[Balance, ...] = ()
    version: Version | None = None


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Entry)


def encode(entry: Entry) -> bytes:
    """One line, without its end."""
    try:
        return _ENCODER.encode(entry)
    except (UnicodeEncodeError, OverflowError):
        # aiohttp decodes a header's bytes that are no UTF-8 to halves of surrogate pairs; providers report any number
        return _ENCODER.encode(_clean(msgspec.to_builtins(entry)))


def decode(lines: Iterable[bytes]) -> tuple[Sequence[Entry], int]:
    """The entries, and how many lines were none: half a line, or somebody else's."""
    entries = []
    wrong = 0
    for line in lines:
        try:
            entry = _DECODER.decode(line)
            # what is shorter than one text may be, and ASCII, holds none that is too long: that is most lines
            short = len(line) <= MAX_TEXT and line.isascii()
            entries.append(entry if short else msgspec.convert(_bounded(msgspec.to_builtins(entry)), Entry))
        except (msgspec.DecodeError, UnicodeDecodeError):
            wrong += 1
    return entries, wrong


def _clean(value: Any) -> Any:
    """Without what JSON cannot hold."""
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
    """Without what is longer than anybody reads."""
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else value[: MAX_TEXT - 1] + "…"
    if isinstance(value, dict):
        return {_bounded(name): _bounded(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_bounded(inner) for inner in value[:MAX_LIST]]
    return value
