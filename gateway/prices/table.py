"""What a call costs: rows of `table.json`, found by cost basis and model, and exact sums in nanodollars.

Prices are decimal strings in the file and integers from the moment it is read; no float ever holds money. A price that
is not known makes the cost unknown (None), never 0. Where the rows come from is `build.py`'s matter; which basis a
provider has is the configuration's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from gateway.caps import base_id, geo
from gateway.flag import Usage

PRICED: Final = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
"""The kinds of `Usage` that are paid for; reasoning is part of the output."""

BASES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "anthropic": ("anthropic", ""),
        "openai": ("openai", ""),
        "bedrock": ("bedrock", ""),
        "bedrock-us": ("bedrock", "us"),
        "bedrock-eu": ("bedrock", "eu"),
        "bedrock-ap": ("bedrock", "apac"),
    }
)
"""Cost basis to the book, and to the region of ids that name none. A basis that is not here has no prices."""

_TABLE: Final = Path(__file__).with_name("table.json")
_SCALE: Final = 1_000_000
"""Units are held in 1e-15 USD for a token, and sums divided by this: nine decimals of USD for 1M tokens fit."""
_SPELLINGS: Final = (
    re.compile(r"[-@](latest|default)$"),
    re.compile(r"-v\d+(:\d+)?$|(?<=b)-\d+:\d+$"),
    re.compile(r"[-@](\d{8}|\d{4}-\d{2}-\d{2})$"),
    re.compile(r"(?<=-\d)-0$"),
)
"""What ids of one model differ in, taken off one after the other: alias, version, date, and the 0 of `opus-4-0`."""


class Units(NamedTuple):
    """Prices of one token by kind, in the order of `PRICED`; None where unknown."""

    input: int | None
    output: int | None
    cache_read: int | None
    cache_write_5m: int | None
    cache_write_1h: int | None


@dataclass(frozen=True, slots=True)
class Row:
    """The prices of one model in one region."""

    book: str
    model: str
    geo: str
    units: Units
    above: int = 0
    """Prompts of more tokens than this cost `tier` for the whole call; 0 if length does not matter."""
    tier: Units | None = None
    source: str = ""

    @property
    def name(self) -> str:
        """As records show it: `bedrock/us.anthropic.claude-opus-4-6-v1`."""
        return f"{self.book}/{self.geo}.{self.model}" if self.geo else f"{self.book}/{self.model}"

    def cost(self, usage: Usage) -> int | None:
        """Nanodollars, rounded half up once; None if a kind was used whose price is unknown."""
        counts = (usage.input, usage.output, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h)
        units = self.units
        if self.tier is not None and sum(counts) - usage.output > self.above:
            units = self.tier
        total = 0
        for count, unit in zip(counts, units, strict=True):
            if count:
                if unit is None:
                    return None
                total += count * unit
        return (total + _SCALE // 2) // _SCALE


class Prices:
    """All rows. Models are those of the configuration, so what was found can be kept for good."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = tuple(rows)
        self._exact = {(row.book, row.geo, row.model): row for row in self.rows}
        self._alias = _aliases(self.rows)
        self._found: dict[tuple[str, str], Row | None] = {}

    @classmethod
    def load(cls, path: Path = _TABLE) -> Prices:
        """Raises `ValueError` for a price that is no decimal, or that has more digits than can be held."""
        return cls(map(_row, json.loads(path.read_bytes())["rows"]))

    def find(self, cost_basis: str, model: str) -> Row | None:
        """The row by which a call is priced; None for an unknown basis or model, and for ids that hide their model."""
        key = (cost_basis, model)
        if key not in self._found:
            self._found[key] = self._find(cost_basis, model)
        return self._found[key]

    def _find(self, cost_basis: str, model: str) -> Row | None:
        if cost_basis not in BASES:
            return None
        book, region = BASES[cost_basis]
        own = geo(model)
        name = base_id(model)
        if own:
            return self._row(book, own, name)
        # a model without inference profiles has one price for all regions, where the maps know no other
        return self._row(book, region, name) or self._row(book, "", name)

    def _row(self, book: str, region: str, name: str) -> Row | None:
        for spelling in _spellings(name):
            row = self._exact.get((book, region, spelling)) or self._alias.get((book, region, spelling))
            if row is not None:
                return row
        return None


def _spellings(name: str) -> list[str]:
    """The id, and what is left of it step by step."""
    found = [name]
    for ending in _SPELLINGS:
        shorter = ending.sub("", found[-1])
        if shorter != found[-1]:
            found.append(shorter)
    return found


def _aliases(rows: Iterable[Row]) -> dict[tuple[str, str, str], Row]:
    """Shorter spellings that name one price only; where two models share one, neither is found by it."""
    found: dict[tuple[str, str, str], Row] = {}
    ambiguous = set()
    for row in rows:
        for spelling in _spellings(row.model)[1:]:
            key = (row.book, row.geo, spelling)
            other = found.setdefault(key, row)
            if (other.units, other.tier) != (row.units, row.tier):
                ambiguous.add(key)
    return {key: row for key, row in found.items() if key not in ambiguous}


def _row(entry: Mapping[str, Any]) -> Row:
    above = entry.get("above", {})
    return Row(
        entry["book"],
        entry["model"],
        entry["geo"],
        _units(entry),
        above.get("tokens", 0),
        _units(above) if above else None,
        entry["source"],
    )


def _units(entry: Mapping[str, str]) -> Units:
    return Units(*(_unit(entry[kind]) if kind in entry else None for kind in PRICED))


def _unit(text: str) -> int:
    """1e-15 USD per token from USD per 1M tokens."""
    price = Decimal(text) * 1_000_000_000
    if price != int(price) or price < 0:
        raise ValueError(f"{text!r} is no price in USD for 1M tokens with at most nine decimals")
    return int(price)
