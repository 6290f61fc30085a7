"""Entries of the journal, one in each line, and their encoding as JSON.

Four kinds of entries are usual:

- a call that is about to be sent
- a call that has ended, with the new balances of its quota buckets
- balances after a refill or a change of the quotas
- a change of the configuration

Three more kinds occur only in a spool. A spool is a second journal, which one process writes and another process reads:

- the ids of the calls that are still open in a process that has been replaced
- a call that has ended in a replaced process, with its bill. The new process charges the bill.
- the amounts that a worker has charged for a call. The keeper (the process that keeps the balances) subtracts them from
  the balances.

Lines are encoded on the event loop and decoded in another thread. New releases only add fields, so lines of older
releases can be read.

When a line is read, texts and lists from clients and providers are cut to a maximum length. Without this, a row that is
too large for the store would block all later rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from gateway.contract.record import Moment, Record, Small
from gateway.money.quotas.buckets import Kind

MAX_TEXT: Final = 1024
"""Maximum number of stored characters of a text. The longest legitimate texts are ARNs and error names."""
MAX_LIST: Final = 256
"""Maximum number of stored items of a list, such as a call's tools or dropped fields."""
_LONG_TEXT: Final = re.compile(rb'"[^"]{%d}' % (MAX_TEXT + 1))
MAX_INTEGER: Final = 2**53
"""Maximum of a stored count or cost. JSON readers that use floats read it exactly, and a sum of a thousand such numbers
fits into 64 bits."""


class Balance(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The balance of a quota bucket after a change. The last `Balance` of a bucket in the journal is the bucket's
    current balance.
    """

    bucket: str
    amount: int
    """Balance in nanodollars. It is negative if calls cost more than the bucket contained."""
    remainder: int
    """A fraction of a nanodollar that belongs to the balance, because balances are refilled in fractions. The fraction
    is `remainder` divided by the period of the bucket's rule."""
    at: float
    """Time of the change, as Unix time in seconds."""
    terms: str = ""
    """The rule by which the balance refills (`money.quotas.buckets.Rule.terms`). It is "" in lines of older
    releases.
    """


class Version(msgspec.Struct, frozen=True, gc=False):
    """An applied change of the configuration."""

    at: float
    who: str
    """Login of the administrator who changed the configuration, or "file" if the file was edited."""
    etag: str
    changed: tuple[str, ...]
    """Changed settings as dotted paths, without their values."""


class SentCall(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The data of a call that is about to be sent to a provider.

    If the gateway is killed during the call, the next process uses these data to record and charge the call. The data
    are encoded as an array, which is shorter than an object. New releases add fields at the end, with defaults.
    """

    id: str
    session_id: str
    at: Moment
    """The time at which the request arrived, in seconds of Unix time."""
    identity: str
    node: str
    provider: str
    model: str
    api: str
    upstream_api: str
    operation: str
    stream: bool
    agent: str
    cost: Small | None = None
    """Maximum cost of the call in nanodollars. It is None if the model's price is unknown."""
    cost_basis: str = ""
    """The rows of the price table that give `cost`, in the form of `Record.cost_basis`."""
    chains: tuple[tuple[tuple[str, str], ...], ...] = ()
    """Chains of quota buckets to which the call is charged. If a bucket's balance is too low, the rest is charged to
    the next bucket of the chain. Each bucket is a pair: its name, and its rule as text (`Rule.terms`)."""
    parts: tuple[SentPart, ...] = ()
    """The charged attempts of the call, if there are several: the maximum cost of each attempt, and its quota buckets.

    If the call was sent only once, this is empty. The whole `cost` is then charged to `chains`."""
    headers: Mapping[str, str] = {}
    """The recorded headers of the request, in the form of `Record.headers`."""


class SentPart(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One of several charged attempts of a call: its maximum cost, and the quota buckets to which it is charged."""

    cost: Small | None = None
    """Maximum cost of the attempt in nanodollars. It is None if the price of the attempt's model is unknown."""
    chains: tuple[tuple[tuple[str, str], ...], ...] = ()
    """Chains of quota buckets to which the attempt is charged, in the form of `SentCall.chains`."""


class Bill(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The requests, tokens and money to charge for a call, and the quota buckets to which they are charged."""

    chains: tuple[tuple[tuple[Kind, str, str], ...], ...] = ()
    """Chains of quota buckets to which the call is charged. If a bucket's balance is too low, the rest is charged to
    the next bucket of the chain. Each bucket is a triple: its kind, its name, and its rule as text (`Rule.terms`)."""
    requests: int = 0
    tokens: int = 0
    money: int = 0
    """Cost of the call in nanodollars."""
    estimated: bool = False
    others: tuple[Bill, ...] = ()
    """The bills of further attempts. If several attempts of a call are charged, one attempt has the outer `Bill`, and
    each other attempt has a bill in `others`."""


class Charged(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An amount that a worker process has charged to a quota bucket.

    The worker charges its slice: the part of the bucket's balance that it may spend (`money/quotas/slices.py`).
    """

    kind: Kind
    bucket: str
    amount: int
    terms: str
    """The rule of the bucket as text (`money.quotas.buckets.Rule.terms`)."""
    estimated: bool = False


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The content of one line of the journal."""

    sent: SentCall | None = None
    call: Record | None = None
    balances: tuple[Balance, ...] = ()
    version: Version | None = None
    bill: Bill | None = None
    open: tuple[str, ...] = ()
    """Ids of the calls that are still open in a replaced process."""
    charged: tuple[Charged, ...] = ()
    """The amounts that a worker process has charged for a call. The keeper (the process that keeps the balances of the
    quota buckets) subtracts these amounts from the balances."""


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Entry)
_SENT_CALL_DECODER = msgspec.json.Decoder(SentCall)
_EMPTY = Entry()


def encode(entry: Entry) -> bytes:
    """Return an entry as a line of JSON, without a line feed."""
    try:
        return _ENCODER.encode(entry)
    except (UnicodeEncodeError, OverflowError):
        # aiohttp decodes bytes of a header that are not UTF-8 to lone surrogates; a provider may report a huge number
        return _ENCODER.encode(_clean(msgspec.to_builtins(entry)))


def decode(lines: Iterable[bytes]) -> tuple[Sequence[Entry], Sequence[bytes]]:
    """Return the entries of the readable lines, and the unreadable lines. Blank lines are skipped.

    A line counts as unreadable if it has no known key. A later release may have written it.
    """
    entries = []
    unreadable = []
    for line in lines:
        try:
            entry = _DECODER.decode(line)
            if entry == _EMPTY:
                unreadable.append(line)
                continue
            entries.append(entry if _is_bounded(line) else msgspec.convert(_bounded(msgspec.to_builtins(entry)), Entry))
        except (msgspec.DecodeError, UnicodeDecodeError):
            if line.strip():
                unreadable.append(line)
    return entries, unreadable


def decode_sent_call(line: bytes) -> SentCall | None:
    """Return a call from its line in the store's table of open calls, or None if the line is damaged."""
    try:
        return _SENT_CALL_DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError):
        return None


def _is_bounded(line: bytes) -> bool:
    """Return True if it is certain that no text in a line is longer than `MAX_TEXT`, and no list longer than
    `MAX_LIST`.

    This check is fast, and returns True for nearly all lines. If it returns False, the texts and lists may still be
    short enough.
    """
    if not line.isascii():
        return False
    if len(line) <= MAX_TEXT:
        return True
    # a list has a comma fewer than items; without escapes, a text stands between two quotes
    return line.count(b",") < MAX_LIST and b"\\" not in line and _LONG_TEXT.search(line) is None


def _clean(value: Any) -> Any:
    """Return the value with lone surrogates replaced, because JSON cannot contain them. Integers are limited to
    `MAX_INTEGER`.
    """
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
    """Return the value with its texts cut to `MAX_TEXT` characters, and its lists to `MAX_LIST` items."""
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else value[: MAX_TEXT - 1] + "…"
    if isinstance(value, dict):
        return {_bounded(name): _bounded(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_bounded(inner) for inner in value[:MAX_LIST]]
    return value
