"""Rows of a price list, `table.json` or an operator's file, and how one is found by a model's name.

A row is the prices of one model in one region, from a day on. Prices are decimal strings in USD for 1M tokens (or
searches). Which list and region a call belongs to is decided in `table.py`, what it costs in `rates.py`; where the
rows of `table.json` come from is `tests/tools/build_prices.py`'s matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final

from gateway.money.prices.rates import KINDS, PER_MILLION, PLACES, UNKNOWN, Rates, Steps, Units

BOOKS: Final = ("anthropic", "openai", "google", "vertex", "bedrock", "azure", "openrouter", "vercel")
TIERS: Final = ("batch", "flex", "priority", "fast", "ultrafast")
"""Service tiers that the published maps have prices of."""

_SPELLINGS: Final = (
    re.compile(r"[-@](latest|default)$"),
    re.compile(r"-v\d+(:\d+)?$|(?<=b)-\d+:\d+$"),
    re.compile(r"[-@](\d{8}|\d{4}-\d{2}-\d{2})$"),
    re.compile(r"(?<=-\d)-0$"),
)
"""What ids of one model differ in, taken off one after the other: alias, version, date, and the 0 of `opus-4-0`."""
_LARGEST: Final = 10**9
"""USD for 1M: no price is near it, and what is larger is a slip."""

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """The prices of one model in one region, from a day on."""

    book: str
    model: str
    geo: str
    since: float
    """Unix time; 0 if the price has always held."""
    rates: Rates
    source: str = ""

    @property
    def name(self) -> str:
        """As records show it: `bedrock/us.anthropic.claude-opus-4-6-v1`."""
        return f"{self.book}/{self.geo}.{self.model}" if self.geo else f"{self.book}/{self.model}"


class Rows:
    """Rows by their names; those of one model in the order of their days."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        grouped: dict[tuple[str, str, str], list[Entry]] = {}
        for entry in entries:
            grouped.setdefault((entry["book"], entry.get("geo", ""), entry["model"]), []).append(entry)
        self._exact = grouped
        self._alias = _aliases(grouped)
        self._read: dict[int, tuple[Row, ...]] = {}

    def find(self, book: str, geo: str, model: str) -> tuple[Row, ...]:
        """The rows of a model, by any spelling of its id; () if there are none."""
        for spelling in _spellings(model):
            key = (book, geo, spelling)
            found = self._exact.get(key) or self._alias.get(key)
            if found is not None:
                return self._rows(found)
        return ()

    def _rows(self, entries: list[Entry]) -> tuple[Row, ...]:
        """Read when they are first needed: a configuration has few of the models that there are."""
        if id(entries) not in self._read:
            self._read[id(entries)] = tuple(sorted(map(parse_row, entries), key=lambda one: one.since))
        return self._read[id(entries)]


def _spellings(name: str) -> list[str]:
    """The id, and what is left of it step by step."""
    found = [name]
    for ending in _SPELLINGS:
        shorter = ending.sub("", found[-1])
        if shorter != found[-1]:
            found.append(shorter)
    return found


_Grouped = dict[tuple[str, str, str], list[Entry]]


def _aliases(grouped: _Grouped) -> _Grouped:
    """Shorter spellings that name one price only; where two models share one, neither is found by it."""
    found: _Grouped = {}
    ambiguous = set()
    for (book, geo, model), entries in grouped.items():
        for spelling in _spellings(model)[1:]:
            key = (book, geo, spelling)
            other = found.setdefault(key, entries)
            if other is not entries and list(map(_prices, other)) != list(map(_prices, entries)):
                ambiguous.add(key)
    return {key: entries for key, entries in found.items() if key not in ambiguous}


def _prices(entry: Entry) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key in {"from", "above", *KINDS, *TIERS}}


def parse_row(entry: Entry) -> Row:
    """A row as it is written. Raises `ValueError` for a price that is none, or has more digits than can be held."""
    since = entry.get("from", "")
    start = datetime.combine(date.fromisoformat(since), datetime.min.time(), UTC).timestamp() if since else 0
    return Row(entry["book"], entry["model"], entry.get("geo", ""), start, _rates(entry), entry.get("source", ""))


def _rates(entry: Entry) -> Rates:
    standard = _steps(entry, Units())
    tiers = {"": standard}
    for tier, prices in entry.items():
        if isinstance(prices, Mapping):
            tiers[tier] = _complete(_steps(prices, standard[0][1]), standard)
    return Rates(tiers)


def _steps(prices: Entry, standard: Units) -> Steps:
    """Searches cost the same in each tier (Anthropic's and OpenAI's price pages), and for prompts of any length."""
    base = _units(prices, standard.web_search)
    longer = ((step["tokens"], _units(step, base.web_search)) for step in prices.get("above", ()))
    return ((0, base), *sorted(longer, key=lambda step: step[0]))


def _complete(steps: Steps, standard: Steps) -> Steps:
    """A tier has no known price for lengths of prompts that the standard prices tell apart and its own do not."""
    known = {above for above, _ in steps}
    missing = [(above, UNKNOWN) for above, _ in standard if above not in known]
    return tuple(sorted([*steps, *missing], key=lambda step: step[0]))


def _units(prices: Entry, web_search: int | None) -> Units:
    found = {kind: parse_price(prices[kind]) for kind in KINDS if kind in prices}
    return Units(**{"web_search": web_search, **found})


@lru_cache(maxsize=4096)
def parse_price(text: str) -> int:
    """1e-15 USD for one from USD for 1M, exactly. Raises `ValueError`."""
    try:
        price = Decimal(text).scaleb(PLACES - PER_MILLION)
    except InvalidOperation:
        price = Decimal(-1)
    if not price.is_finite() or not 0 <= price <= _LARGEST * 10 ** (PLACES - PER_MILLION) or price != int(price):
        raise ValueError(f'{text!r} is no price in USD for 1M tokens with at most nine decimals, such as "3.30"')
    return int(price)
