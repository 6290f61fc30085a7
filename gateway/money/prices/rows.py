"""Rows of a price file (`table.json` or an operator's file), and their look-up by a model's name.

A row has the prices of one model at one seller (`book`) in one region, valid from a certain day. Prices are decimal
strings in USD for 1M tokens or 1M searches. `table.py` decides which price list and region apply to a model, and
`rates.py` computes costs. `tests/tools/build_prices.py` builds `table.json`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import Raw

from gateway.money.prices.rates import KINDS, PER_MILLION, PLACES, UNKNOWN, Rates, Steps, Units

BOOKS: Final = ("anthropic", "openai", "google", "vertex", "bedrock", "azure", "openrouter", "vercel")
TIERS: Final = ("batch", "flex", "priority", "fast", "ultrafast")
"""Service tiers for which sellers publish prices."""

_SPELLINGS: Final = (
    re.compile(r"[-@](latest|default)$"),
    re.compile(r"-v\d+(:\d+)?$|(?<=b)-\d+:\d+$"),
    re.compile(r"[-@](\d{8}|\d{4}-\d{2}-\d{2})$"),
    re.compile(r"(?<=-\d)-0$"),
)
"""Patterns for endings of a model's id that do not change which model is meant. They are removed in this order:
`latest` or `default`, a version, a date, and the `-0` of `opus-4-0`.
"""
_LARGEST: Final = 10**9
"""Maximum price in USD for 1M tokens. A higher price is a mistake."""

Entry = Mapping[str, Any]


class Row(msgspec.Struct, frozen=True):
    """The prices of one model at one seller (`book`) in one region, valid from a certain day."""

    book: str
    model: str
    geo: str
    since: float
    """Unix time from which the prices are valid. It is 0 if they have always been valid."""
    rates: Rates
    source: str = ""

    @property
    def name(self) -> str:
        """The name of the row as seller, region and model: `bedrock/us.anthropic.claude-opus-4-6-v1`. Records of calls
        contain it.
        """
        return f"{self.book}/{self.geo}.{self.model}" if self.geo else f"{self.book}/{self.model}"


class Rows:
    """The rows of one price file, by model. The rows of one model are ordered by their first day."""

    def __init__(self, entries: Iterable[Entry | Raw]) -> None:
        self._entries: dict[str, list[Entry | Raw]] = {}
        for entry in entries:
            book = _BOOK.decode(entry).book if isinstance(entry, Raw) else entry["book"]
            self._entries.setdefault(book, []).append(entry)
        self._books: dict[str, _Book] = {}

    @classmethod
    def of_json(cls, data: bytes) -> Rows:
        """Return the rows of a price file. Its entries stay JSON text until their first use, to save memory."""
        return cls(_FILE.decode(data).rows)

    def find(self, book: str, geo: str, model: str) -> tuple[Row, ...]:
        """Return the rows of the model `model` of the seller `book` in the region `geo`. Return () if there are none.

        The endings of ids do not matter, such as a version or a date (`_SPELLINGS`).
        """
        if book not in self._entries:
            return ()
        if book not in self._books:
            self._books[book] = _Book(self._entries[book])
        return self._books[book].find(geo, model)


class _File(msgspec.Struct):
    """The top level of a price file. Its entries stay undecoded JSON."""

    rows: list[Raw]


class _BookOf(msgspec.Struct):
    """The seller in an entry of a price file. The other fields of the entry are not decoded."""

    book: str


class _NameOf(msgspec.Struct):
    """The fields of a price file's entry that name the model and the region. The other fields are not decoded."""

    model: str
    geo: str = ""


_FILE: Final = msgspec.json.Decoder(_File)
_BOOK: Final = msgspec.json.Decoder(_BookOf)
_NAME: Final = msgspec.json.Decoder(_NameOf)
_ENTRY: Final = msgspec.json.Decoder(dict[str, Any])
_Grouped = dict[tuple[str, str], list[Entry | Raw]]


class _Book:
    """The rows of one seller, by region and model. They are parsed at their first use, because few models are used."""

    def __init__(self, entries: Iterable[Entry | Raw]) -> None:
        self._exact: _Grouped = {}
        for entry in entries:
            self._exact.setdefault(_name(entry), []).append(entry)
        self._alias = _aliases(self._exact)
        self._parsed: dict[int, tuple[Row, ...]] = {}

    def find(self, geo: str, model: str) -> tuple[Row, ...]:
        for spelling in spellings(model):
            key = (geo, spelling)
            entries = self._exact.get(key) or self._alias.get(key)
            if entries is not None:
                return self._rows(entries)
        return ()

    def _rows(self, entries: list[Entry | Raw]) -> tuple[Row, ...]:
        if id(entries) not in self._parsed:
            rows = map(parse_row, map(_decoded, entries))
            self._parsed[id(entries)] = tuple(sorted(rows, key=lambda one: one.since))
        return self._parsed[id(entries)]


def _name(entry: Entry | Raw) -> tuple[str, str]:
    """Return the region and the model of an entry."""
    if isinstance(entry, Raw):
        name = _NAME.decode(entry)
        return name.geo, name.model
    return entry.get("geo", ""), entry["model"]


def _decoded(entry: Entry | Raw) -> Entry:
    return _ENTRY.decode(entry) if isinstance(entry, Raw) else entry


def spellings(name: str) -> list[str]:
    """Return a model's id, and the shorter ids that remain when its endings (`_SPELLINGS`) are removed."""
    spellings = [name]
    for ending in _SPELLINGS:
        shorter = ending.sub("", spellings[-1])
        if shorter != spellings[-1]:
            spellings.append(shorter)
    return spellings


def _aliases(grouped: _Grouped) -> _Grouped:
    """Return a mapping like `grouped`, with the models' shorter ids (`spellings`) in the keys in place of their full
    ids.

    A shorter id that belongs to two models with different prices is left out.
    """
    aliases: _Grouped = {}
    ambiguous = set()
    for (geo, model), entries in grouped.items():
        for spelling in spellings(model)[1:]:
            key = (geo, spelling)
            other = aliases.setdefault(key, entries)
            if other is not entries and list(map(_prices, other)) != list(map(_prices, entries)):
                ambiguous.add(key)
    return {key: entries for key, entries in aliases.items() if key not in ambiguous}


def _prices(entry: Entry | Raw) -> dict[str, Any]:
    return {key: value for key, value in _decoded(entry).items() if key in {"from", "above", *KINDS, *TIERS}}


def parse_row(entry: Entry) -> Row:
    """Return a parsed row. Raises `ValueError` for a malformed date, or for a price that `parse_price` refuses."""
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
    """Return the prices of one tier by length of the prompt.

    If the tier has no price of a search, the standard tier's price is used (Anthropic's and OpenAI's price pages).
    """
    base = _units(prices, standard.web_search)
    longer = ((step["tokens"], _units(step, base.web_search)) for step in prices.get("above", ()))
    return ((0, base), *sorted(longer, key=lambda step: step[0]))


def _complete(steps: Steps, standard: Steps) -> Steps:
    """Return `steps`, a tier's prices by length of the prompt, with a step for each length at which `standard` has one.

    An added step has unknown prices. The tier would otherwise seem to have the same price above that length.
    """
    known = {above for above, _ in steps}
    missing = [(above, UNKNOWN) for above, _ in standard if above not in known]
    return tuple(sorted([*steps, *missing], key=lambda step: step[0]))


def _units(prices: Entry, web_search: int | None) -> Units:
    known = {kind: parse_price(prices[kind]) for kind in KINDS if kind in prices}
    return Units(**{"web_search": web_search, **known})


@lru_cache(maxsize=4096)
def parse_price(text: str) -> int:
    """Convert a price from USD for 1M tokens to an integer in 1e-15 USD for one token, exactly.

    Raises `ValueError` for text that is not a number, and for a price that is negative, too high or has more than nine
    decimals.
    """
    try:
        price = Decimal(text).scaleb(PLACES - PER_MILLION)
    except InvalidOperation:
        price = Decimal(-1)
    if not price.is_finite() or not 0 <= price <= _LARGEST * 10 ** (PLACES - PER_MILLION) or price != int(price):
        raise ValueError(f'{text!r} is no price in USD for 1M tokens with at most nine decimals, such as "3.30"')
    return int(price)
