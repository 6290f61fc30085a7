"""Which price a model of a provider has: by its price list, its own name, and what the operator says of it.

A model's own region prefix decides the region; the price list (`cost_basis`) decides for ids without one. What is not
known is None and never a guess. How a sum is made is in `rates.py`, how rows are found by a name in `rows.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from gateway.contract.capabilities import base_id, geo
from gateway.money.prices.rates import PLACES, Priced
from gateway.money.prices.rows import Entry, Row, Rows

if TYPE_CHECKING:
    from gateway.config.model import Provider
    from gateway.upstream.catalog import Offer

BASES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "anthropic": ("anthropic", ""),
        "openai": ("openai", ""),
        "google": ("google", ""),
        "vertex": ("vertex", ""),
        "bedrock": ("bedrock", ""),
        "bedrock-us": ("bedrock", "us"),
        "bedrock-eu": ("bedrock", "eu"),
        "bedrock-ap": ("bedrock", "apac"),
        "azure": ("azure", ""),
        "azure-eu": ("azure", "eu"),
        "openrouter": ("openrouter", ""),
        "vercel": ("vercel", ""),
    }
)
"""Cost basis (aperture.md section 6) to the book, and to the region of ids that name none."""
ONE_PRICE: Final = frozenset({"bedrock"})
"""Books in which a model that no row names for a region has one price for all: those without inference profiles.
Azure's data zones cost more than its global price, so there nothing can be said of a zone without a row."""

INFERRED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "anthropic_messages": "anthropic",
        "openai_chat": "openai",
        "openai_responses": "openai",
        "gemini_generate_content": "google",
        "google_generate_content": "google",
        "google_raw_predict": "vertex",
        "experimental_gemini_cli_vertex_compat": "vertex",
    }
)
"""The list by a flag, where the provider names none (`auto_cost_basis`). Bedrock's depends on a region that nothing
tells, so a provider that speaks any of its flags has none."""
REGIONAL: Final = "bedrock_"
"""How the flags begin of providers whose prices depend on the region."""

Source = Literal["explicit", "inferred", "none"]

_TABLE: Final = Path(__file__).with_name("table.json")


@dataclass(frozen=True, slots=True)
class CostRule:
    """One entry of `model_cost_map`: models that match are priced as another one, times the adjustment."""

    match: str
    """A glob as Go's path.Match has it."""
    priced_as: str
    """A model of the provider's price list, or `basis/model`; "" is the model itself."""
    adjustment: Decimal = Decimal(1)
    """At most `FINEST` decimals."""


FINEST: Final = 6
"""Decimals of an adjustment: the sums stay exact integers."""


class Where(NamedTuple):
    """What a price is looked up by."""

    basis: str
    model: str
    adjustment: Decimal = Decimal(1)


class Prices:
    """The prices of one configuration. Its models are few, so what was found is kept for good."""

    def __init__(self, table: Rows, overlay: Rows, *, infer: bool = True) -> None:
        self._lists = (overlay, table)
        self._infer = infer
        self._found: dict[Where, Priced | None] = {}
        self._offers: dict[tuple[str, str], Priced | None] = {}

    @classmethod
    def load(cls, overlay: Sequence[Entry] = (), *, infer: bool = True) -> Prices:
        """The table that comes with the gateway, and the rows of an operator's file before it."""
        return cls(builtin(), Rows(overlay), infer=infer)

    def of(self, offer: Offer) -> Priced | None:
        """What calls of an offer cost; None if no price is known."""
        return self.of_model(offer.provider, offer.model)

    def of_model(self, provider: Provider, model: str) -> Priced | None:
        """The same for a model of a provider that may be disabled, and then has no offer."""
        key = (provider.id, model)
        if key not in self._offers:
            tries = looked_up(provider, model, infer=self._infer)
            self._offers[key] = next(filter(None, (self.find(*where) for where in tries)), None)
        return self._offers[key]

    def source(self, provider: Provider) -> Source:
        """Where the price list of a provider comes from."""
        if provider.cost_basis:
            return "explicit"
        return "inferred" if self._infer and inferred(provider.flags) else "none"

    def find(self, basis: str, model: str, adjustment: Decimal = Decimal(1)) -> Priced | None:
        """By a price list and a model's name; None for what either does not know, and for ids that hide a model."""
        key = Where(basis, model, adjustment)
        if key not in self._found:
            self._found[key] = _priced(tuple(self._rows(basis, model)), adjustment)
        return self._found[key]

    def _rows(self, basis: str, model: str) -> list[Row]:
        """Rows of the operator count from their first day on; before it, those of the table do."""
        if basis not in BASES:
            return []
        book, region = BASES[basis]
        name, own = base_id(model), geo(model) if book == "bedrock" else ""
        if book != "bedrock":
            name = model if book in {"openrouter", "vercel"} else name
        regions = [own] if own else [region, ""] if book in ONE_PRICE else [region]
        for where in dict.fromkeys(regions):
            added, known = (rows.find(book, where, name) for rows in self._lists)
            if added or known:
                return [*(row for row in known if not added or row.since < added[0].since), *added]
        return []


@cache
def builtin() -> Rows:
    """`table.json`."""
    return Rows(json.loads(_TABLE.read_bytes())["rows"])


def inferred(flags: Sequence[str]) -> tuple[str, ...]:
    """The price lists that a provider's flags tell of, in their order; () if they tell of none."""
    if any(flag.startswith(REGIONAL) for flag in flags):
        return ()
    return tuple(dict.fromkeys(INFERRED[flag] for flag in flags if flag in INFERRED))


def looked_up(provider: Provider, model: str, *, infer: bool) -> Iterator[Where]:
    """Where the price of a provider's model may be found, the first that is there counts.

    The first rule of `model_cost_map` that matches the model's name decides what it is priced as; without one that is
    the model behind the name.
    """
    rule = next((rule for rule in provider.model_cost_map if compile_glob(rule.match).fullmatch(model)), None)
    name = (rule.priced_as if rule else "") or provider.base_models.get(model, model)
    adjustment = rule.adjustment if rule else Decimal(1)
    own = (provider.cost_basis,) if provider.cost_basis else inferred(provider.flags) if infer else ()
    for basis in own:
        yield Where(basis, name, adjustment)
    basis, slash, rest = name.partition("/")
    if rule and slash and basis in BASES:
        yield Where(basis, rest, adjustment)


def _priced(rows: tuple[Row, ...], adjustment: Decimal) -> Priced | None:
    if not rows:
        return None
    factor = int(adjustment.scaleb(FINEST)) if adjustment != 1 else 1
    places = PLACES + (FINEST if adjustment != 1 else 0)
    periods = tuple((row.since, row.rates.times(factor) if factor != 1 else row.rates) for row in rows)
    return Priced(rows[-1].name, periods, adjustment, places)


@cache
def compile_glob(pattern: str) -> re.Pattern[str]:
    """A pattern as Go's path.Match reads it: `*` and `?` do not cross "/", `[a-z]` and `[^a-z]` are classes, a
    backslash quotes. Raises `ValueError` for one that Go refuses.
    """
    return re.compile("".join(_translated(pattern)), re.DOTALL)


_GLOB: Final = re.compile(r"\*+|\?|\[\^?(?:(?:\\.|[^\\\]-])(?:-(?:\\.|[^\\\]-]))?)+\]|\\.|[^\\\[*?]+", re.DOTALL)
_IN_CLASS: Final = re.compile(r"\\?(.)(?:-\\?(.))?", re.DOTALL)


def _translated(pattern: str) -> Iterator[str]:
    at = 0
    while at < len(pattern):
        token = _GLOB.match(pattern, at)
        if token is None:
            raise ValueError(f'the pattern is broken at "{pattern[at : at + 10]}"; write "\\\\[" for a bracket')
        at, text = token.end(), token[0]
        if text[0] == "*":
            yield "[^/]*"
        elif text == "?":
            yield "[^/]"
        elif text[0] == "[":
            yield _class(text)
        else:
            yield re.escape(text.removeprefix("\\"))


def _class(text: str) -> str:
    inner = text[1:-1]
    negated, inner = inner.startswith("^"), inner.removeprefix("^")
    parts = [(first, last or first) for first, last in _IN_CLASS.findall(inner)]
    if any(last < first for first, last in parts):
        raise ValueError(f'"{text}" is a range that runs backwards')
    listed = "".join(f"{re.escape(first)}-{re.escape(last)}" for first, last in parts)
    return f"[^{listed}]" if negated else f"[{listed}]"
