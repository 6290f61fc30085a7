"""Comparison of two price files, and checks for implausible prices, for people who maintain a price file.

- Prices are compared as a file has them: decimal strings in USD for 1M tokens or 1M searches. No costs are computed.
- The most common mistake is a factor of 1,000: some sellers publish prices for 1,000 tokens, others for 1,000,000.
  `doubts` checks prices against bounds. Every row of the built-in table is within these bounds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from gateway.money.prices.rates import KINDS
from gateway.money.prices.rows import Entry

PathPrices = Mapping[str, Decimal]
"""The prices of one row, by tier, kind and prompt length. Examples of keys: `input`, `flex input`, `flex input above
200000`."""

JUMP: Final = Decimal("0.5")
"""A price change is reported as a jump if it is at least this fraction of the old price, up or down."""
_LOWEST: Final = Decimal("0.004")
"""Lowest believable price of input in USD for 1M tokens. The cheapest models cost 0.005 USD."""
_HIGHEST: Final[Mapping[str, Decimal]] = {"input": Decimal(200), "output": Decimal(1000)}
"""Highest believable prices in USD for 1M tokens. The most expensive model ever published, o1-pro, cost 150 for input
and 600 for output."""
_RATIOS: Final[Mapping[str, tuple[str, Decimal, Decimal]]] = {
    "output": ("input", Decimal("0.25"), Decimal(160)),
    "cache_read": ("input", Decimal(0), Decimal("1.1")),
    "cache_write_5m": ("input", Decimal(0), Decimal("2.5")),
    "cache_write_1h": ("input", Decimal(0), Decimal("2.5")),
    "reasoning": ("input", Decimal("0.5"), Decimal(160)),
    "image_input": ("input", Decimal("0.1"), Decimal(100)),
    "image_output": ("input", Decimal(1), Decimal(200)),
    "audio_input": ("input", Decimal("0.1"), Decimal(100)),
}
"""Plausible ratios between two prices of one row. The key is the kind of the first price. The values are the kind of
the second price, the lowest ratio and the highest ratio.

For example, the price of `output` is 0.25 to 160 times the price of `input`.
"""
_TIER_RATIO: Final = (Decimal("0.1"), Decimal(20))
"""Believable ratios (lowest, highest) of a price for a service tier or a long prompt to the standard price. Real ratios
are 0.4 to 12."""
_SIBLINGS: Final = Decimal(30)
"""Highest plausible ratio between the input prices of one model at two sellers or in two regions. The highest ratio of
real prices is 24.
"""
_VENDORS: Final = re.compile(r"^(\w+[./])+(?=[a-z])")
_ENDINGS: Final = re.compile(r"(-v\d+(:\d+)?|-\d+:\d+|[-@]\d{8}|-\d{4}-\d{2}-\d{2})+$")


class Key(NamedTuple):
    """The key of a row in a price file: seller, model, region, and the first day on which the price is valid."""

    book: str
    model: str
    geo: str = ""
    since: str = ""

    @property
    def name(self) -> str:
        model = f"{self.geo}.{self.model}" if self.geo else self.model
        return f"{self.book}/{model}@{self.since}" if self.since else f"{self.book}/{model}"


class Change(NamedTuple):
    """A price that differs between two files.

    `before` is None for a new price, and `after` is None for a removed price.
    """

    path: str
    before: Decimal | None
    after: Decimal | None

    @property
    def jump(self) -> bool:
        """True if the price changed by the fraction `JUMP` or more, or rose from 0."""
        if not self.before or self.after is None:
            return self.before is not None and bool(self.after)
        return not self.before * (1 - JUMP) < self.after < self.before * (1 + JUMP)

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.path} new {self.after:f}"
        if self.after is None:
            return f"{self.path} {self.before:f} gone"
        percent = f" ({(self.after / self.before - 1) * 100:+.1f} %)" if self.before else ""
        return f"{self.path} {self.before:f} -> {self.after:f}{percent}"


class Differences(msgspec.Struct, frozen=True):
    """The differences between an earlier and a later price file."""

    added: Mapping[Key, PathPrices] = msgspec.field(default_factory=dict)
    changed: Mapping[Key, tuple[Change, ...]] = msgspec.field(default_factory=dict)
    gone: Sequence[Key] = ()
    """The keys of the rows that are in the earlier file only."""
    kept: Mapping[Key, str] = msgspec.field(default_factory=dict)
    """The rows whose field `dropped` is new or has changed: the row's key, and the new text of the field.

    A price file may keep prices that their source no longer lists. Then `dropped` has the day on which they were first
    missing, and the names of these prices if other prices of the row are still listed.
    """
    doubts: Mapping[Key, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """The reasons to doubt a new or changed row, by the row's key: prices that are implausible or have jumped."""


def rows_by_key(entries: Iterable[Entry]) -> dict[Key, Entry]:
    return {Key(entry["book"], entry["model"], entry.get("geo", ""), entry.get("from", "")): entry for entry in entries}


def prices_of(entry: Entry) -> dict[str, Decimal]:
    """Return all prices in a row of a price file by tier, kind and prompt length.

    An example of a key is `batch input above 200000`.
    """
    found = dict(_tier(entry, ""))
    for tier, prices in entry.items():
        if isinstance(prices, Mapping):
            found |= dict(_tier(prices, f"{tier} "))
    return found


def _tier(prices: Entry, prefix: str) -> Iterator[tuple[str, Decimal]]:
    steps = [(prices, ""), *((step, f" above {step['tokens']}") for step in prices.get("above", ()))]
    for step, suffix in steps:
        for kind in KINDS:
            if kind in step:
                yield f"{prefix}{kind}{suffix}", Decimal(step[kind])


def compare(before: Iterable[Entry], after: Iterable[Entry], *, partial: bool = False) -> Differences:
    """Return the differences between two price files.

    `partial` is true if `after` contains only some of the rows. Then rows that are in `before` only are not reported as
    gone.
    """
    old, new = rows_by_key(before), rows_by_key(after)
    added = {key: prices_of(new[key]) for key in sorted(new.keys() - old.keys())}
    changed = {}
    for key in sorted(old.keys() & new.keys()):
        if changes := _changes(prices_of(old[key]), prices_of(new[key])):
            changed[key] = changes
    kept = {key: new[key]["dropped"] for key in sorted(new) if _is_kept(old.get(key), new[key])}
    reasons = doubts(new, {*added, *changed})
    for key, changes in changed.items():
        if jumps := [str(change) for change in changes if change.jump]:
            reasons[key] = (*reasons.get(key, ()), *jumps)
    gone = () if partial else tuple(sorted(old.keys() - new.keys()))
    return Differences(added, changed, gone, kept, dict(sorted(reasons.items())))


def _is_kept(before: Entry | None, after: Entry) -> bool:
    return "dropped" in after and before is not None and before.get("dropped") != after["dropped"]


def _changes(before: PathPrices, after: PathPrices) -> tuple[Change, ...]:
    paths = [*before, *(path for path in after if path not in before)]
    changes = (Change(path, before.get(path), after.get(path)) for path in paths)
    return tuple(change for change in changes if change.before != change.after)


def doubts(rows: Mapping[Key, Entry], keys: Iterable[Key]) -> dict[Key, tuple[str, ...]]:
    """Return the rows among `keys` that have implausible prices, with the reasons for doubt."""
    siblings: dict[str, list[tuple[Key, Decimal]]] = {}
    for key, entry in rows.items():
        if price := Decimal(entry.get("input", "0")):
            siblings.setdefault(_spelling(key.model), []).append((key, price))
    reasons = {}
    for key in keys:
        prices = prices_of(rows[key])
        named = [*_bounds(prices), *_ratios(prices), *_others(key, prices, siblings.get(_spelling(key.model), ()))]
        if named:
            reasons[key] = tuple(named)
    return reasons


def _spelling(model: str) -> str:
    """Return a model's name without vendor, version and date, to compare the names of different sellers."""
    return _ENDINGS.sub("", _VENDORS.sub("", model.lower().lstrip("~"))).replace(".", "-")


def _bounds(prices: PathPrices) -> Iterator[str]:
    for kind, highest in _HIGHEST.items():
        if prices.get(kind, highest) > highest:
            yield f"{kind} {prices[kind]:f} is above {highest}"
    if 0 < prices.get("input", _LOWEST) < _LOWEST:
        yield f"input {prices['input']:f} is below {_LOWEST}"


def _ratios(prices: PathPrices) -> Iterator[str]:
    for path, price in prices.items():
        *tier, kind = path.partition(" above ")[0].split(" ")
        if tier or " above " in path:
            yield from _ratio(path, price, kind, prices.get(kind), *_TIER_RATIO)
        elif kind in _RATIOS:
            other, lowest, highest = _RATIOS[kind]
            yield from _ratio(path, price, other, prices.get(other), lowest, highest)


def _ratio(
    path: str, price: Decimal, other: str, base: Decimal | None, lowest: Decimal, highest: Decimal
) -> Iterator[str]:
    if price and base and not lowest <= price / base <= highest:
        yield f"{path} {price:f} is {_factor(price / base)} times {other} {base:f}"


def _factor(ratio: Decimal) -> str:
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"


def _others(key: Key, prices: PathPrices, siblings: Iterable[tuple[Key, Decimal]]) -> Iterator[str]:
    price = prices.get("input")
    for other, base in siblings:
        if price and other != key and not 1 / _SIBLINGS <= price / base <= _SIBLINGS:
            yield f"input {price:f} is {_factor(price / base)} times {other.name} {base:f}"
            return
