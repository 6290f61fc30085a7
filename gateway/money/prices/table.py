"""Finds the prices of a provider's models.

- A price depends on the provider's price list (`cost_basis`), the model's name and the rules in `model_cost_map`.
- The id of a Bedrock model may begin with a region (`us.`). For any other id, the price list determines the region.
- If no price is found, the result is None.

`rates.py` computes costs. `rows.py` looks rows up by a model's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, Protocol

import msgspec

from gateway.contract.capabilities import base_id, geo
from gateway.contract.flag import BY_REGION
from gateway.money.prices.modifiers import of_book
from gateway.money.prices.rates import PLACES, Priced
from gateway.money.prices.rows import Entry, Row, Rows, spellings

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
        "bedrock-us-gov": ("bedrock", "us-gov"),
        "azure": ("azure", ""),
        "azure-eu": ("azure", "eu"),
        "openrouter": ("openrouter", ""),
        "vercel": ("vercel", ""),
    }
)
"""Maps each price list (`cost_basis`) to a pair: the book (the prices of one seller), and the region.

The region applies to models whose id does not begin with a region. The price lists have the names that Aperture
(another AI gateway) gives them, except `bedrock-us-gov`, the list of AWS GovCloud.
"""
ONE_PRICE: Final = frozenset({"bedrock"})
"""Sellers for whose models a price without a region is also valid in every region that has no price of its own.

For example, a Bedrock model without inference profiles has only one price, which names no region. Azure is not in this
set, because its data zones cost more than its global price.
"""

MAX_SERVED: Final = 512
"""Maximum number of cached results of `Prices.served`. Its arguments include model names from replies, so without a
limit a provider could fill the memory.
"""
MAX_SERVED_NAME: Final = 256
"""Maximum number of characters of a model's name in a reply. Longer names have no price. Real names are shorter."""
_MAKER: Final = re.compile(r"[a-z][a-z0-9-]*[./](?=[a-z])")
"""Pattern for the vendor at the beginning of a model's id: `anthropic.claude-opus-4-8`, `anthropic/claude-opus-4.8`."""
_NUMBER: Final = re.compile(r"\d")

Source = Literal["explicit", "inferred", "none"]

BUILTIN_FILE: Final = Path(__file__).with_name("table.json")
"""The gateway's own price file. `tests/tools/build_prices.py` builds the file."""


class CostRule(msgspec.Struct, frozen=True):
    """One entry of `model_cost_map`: models that match a pattern have the price of another model, times a factor."""

    match: str
    """A pattern of model names in the syntax of Go's path.Match (`compile_glob`)."""
    priced_as: str
    """The model whose price is used: a model of the provider's price list, or `<price list>/<model>`. It is "" if the
    price of the called model itself is used.
    """
    adjustment: Decimal = Decimal(1)
    """Factor for the price, with at most `ADJUSTMENT_PLACES` decimals."""


ADJUSTMENT_PLACES: Final = 6
"""Maximum number of decimals of `CostRule.adjustment`. So a price times the adjustment is an integer in a unit with
this many more decimals (`Priced.places`).
"""


class PricedProvider(Protocol):
    """The fields of a provider that determine its prices. `gateway.config.model.Provider` has these fields."""

    @property
    def id(self) -> str: ...
    @property
    def cost_basis(self) -> str | None: ...
    @property
    def model_cost_map(self) -> tuple[CostRule, ...]: ...
    @property
    def base_models(self) -> Mapping[str, str]: ...
    @property
    def price_lists(self) -> tuple[str, ...]: ...


class PriceKey(NamedTuple):
    """The key of a look-up: a price list, a model, and the factor to apply to the model's prices."""

    basis: str
    model: str
    adjustment: Decimal = Decimal(1)


class Prices:
    """The prices of all models of one configuration.

    Every result is cached. Only the cache of `served` needs a limit (`MAX_SERVED`), because a configuration has few
    models.
    """

    def __init__(self, table: Rows, overlay: Rows, *, infer: bool = True) -> None:
        self._lists = (overlay, table)
        self._infer = infer
        self._by_key: dict[PriceKey, Priced | None] = {}
        self._by_model: dict[tuple[str, str], Priced | None] = {}
        self._by_served: dict[tuple[str, str, str, bool], Priced | None] = {}

    @classmethod
    def load(cls, overlay: Sequence[Entry] = (), *, infer: bool = True) -> Prices:
        """Return the prices of the built-in table. Rows of an operator's file (`overlay`) take precedence."""
        return cls(builtin(), Rows(overlay), infer=infer)

    def of(self, provider: PricedProvider, model: str) -> Priced | None:
        """Return the prices of a provider's model, or None if they are unknown.

        They are always unknown for the model "", which stands for a called model that is not known.
        """
        if not model:
            return None
        key = (provider.id, model)
        if key not in self._by_model:
            keys = price_keys(provider, model, infer=self._infer)
            self._by_model[key] = next(filter(None, (self.find(*one) for one in keys)), None)
        return self._by_model[key]

    def served(self, provider: PricedProvider, model: str, served: str, *, is_other: bool) -> Priced | None:
        """Return the prices of the model `served`, which a reply names, or None if they are unknown. `model` is the
        called model.

        - If `served` lacks a region or a vendor, those of `model` are used. For example, `claude-opus-4-8` is looked up
          as `us.anthropic.claude-opus-4-8`.
        - If `served` only spells `model` differently, and `model_cost_map` or `base_models` sets the price of `model`,
          that price is used.
        - If the operator's price file has a price for `model`, that price is used even for another name. This does not
          apply if the provider has reported that another model did the work (`is_other`).
        """
        if len(served) > MAX_SERVED_NAME:
            return None
        key = (provider.id, model, served, is_other)
        if key not in self._by_served:
            if len(self._by_served) >= MAX_SERVED:
                self._by_served.clear()
            self._by_served[key] = self._served(provider, model, served, is_other=is_other)
        return self._by_served[key]

    def _served(self, provider: PricedProvider, model: str, served: str, *, is_other: bool) -> Priced | None:
        own = self.of(provider, model)
        if served == model or (not is_other and own is not None and self._is_in_file(provider, model)):
            return own
        for name in _full_names(provider.base_models.get(model, model), served):
            keys = list(price_keys(provider, name, infer=self._infer))
            candidates = (_priced(tuple(self._rows(one.basis, one.model)), one.adjustment) for one in keys)
            found = next(filter(None, candidates), None)
            if found is None or not _is_meant(found, keys[0].model):
                continue
            is_called = own is not None and spellings(_bare(own.name))[-1] == spellings(_bare(found.name))[-1]
            return own if is_called and _is_set(provider, model) else found
        return None

    def _is_in_file(self, provider: PricedProvider, model: str) -> bool:
        """Return whether the operator's file has a price for a model."""
        keys = price_keys(provider, model, infer=self._infer)
        return any(self._added(one.basis, one.model) for one in keys)

    def source(self, provider: PricedProvider) -> Source:
        """Return the origin of a provider's price list: configured, inferred from its API formats, or missing."""
        if provider.cost_basis:
            return "explicit"
        return "inferred" if self._infer and inferred(provider.price_lists) else "none"

    def find(self, basis: str, model: str, adjustment: Decimal = Decimal(1)) -> Priced | None:
        """Return the prices of a model in a price list, or None if they are unknown.

        They are unknown if the list does not exist or does not have the model. The same holds for an ARN as `model` if
        it does not contain the model's name.
        """
        key = PriceKey(basis, model, adjustment)
        if key not in self._by_key:
            self._by_key[key] = _priced(tuple(self._rows(basis, model)), adjustment)
        return self._by_key[key]

    def _rows(self, basis: str, model: str) -> list[Row]:
        """Return the rows of a model, ordered by their first day.

        If the operator's price file has rows for the model, they replace the built-in rows of the same and later days.
        """
        for book, region, name in _places(basis, model):
            added, known = (rows.find(book, region, name) for rows in self._lists)
            if added or known:
                return [*(row for row in known if not added or row.since < added[0].since), *added]
        return []

    def _added(self, basis: str, model: str) -> bool:
        return any(self._lists[0].find(*place) for place in _places(basis, model))


def _places(basis: str, model: str) -> list[tuple[str, str, str]]:
    """Return where to look for the prices of a model, as triples (book, region, model's name), the best one first.

    A book has the prices of one seller.
    """
    if basis not in BASES:
        return []
    book, region = BASES[basis]
    name, own = base_id(model), _region(model) if book == "bedrock" else ""
    if book != "bedrock":
        name = model if book in {"openrouter", "vercel"} else name
    regions = [own] if own else [region, ""] if book in ONE_PRICE else [region]
    return [(book, where, name) for where in dict.fromkeys(regions)]


def _region(model: str) -> str:
    """Return the region of a Bedrock model's id: its prefix, such as `us`, or `us-gov` for an ARN of AWS GovCloud.
    Return "" if it has none.
    """
    return geo(model) or ("us-gov" if model.startswith("arn:aws-us-gov:") else "")


@cache
def builtin() -> Rows:
    """Return the rows of `table.json`."""
    return Rows.of_json(BUILTIN_FILE.read_bytes())


def inferred(price_lists: Sequence[str]) -> tuple[str, ...]:
    """Return the price lists to use for a provider whose configuration names none.

    `price_lists` has the price list of each API format of the provider. If a format is Bedrock's, the result is empty,
    because Bedrock's prices depend on the region.
    """
    return () if BY_REGION in price_lists else tuple(price_lists)


def matching_rule(provider: PricedProvider, model: str) -> CostRule | None:
    """Return the first rule of the provider's `model_cost_map` that matches a model's name."""
    return next((rule for rule in provider.model_cost_map if compile_glob(rule.match).fullmatch(model)), None)


def price_keys(provider: PricedProvider, model: str, *, infer: bool) -> Iterator[PriceKey]:
    """Yield the keys under which to look for the price of a provider's model. The first key with a price is used.

    The keys have the model that the first matching rule of `model_cost_map` names. Without such a rule, they have the
    underlying model (`base_models`), or else the model itself.
    """
    rule = matching_rule(provider, model)
    name = (rule.priced_as if rule else "") or provider.base_models.get(model, model)
    adjustment = rule.adjustment if rule else Decimal(1)
    own = (provider.cost_basis,) if provider.cost_basis else inferred(provider.price_lists) if infer else ()
    for basis in own:
        yield PriceKey(basis, name, adjustment)
    basis, slash, rest = name.partition("/")
    if rule and slash and basis in BASES:
        yield PriceKey(basis, rest, adjustment)


def _full_names(model: str, served: str) -> Iterator[str]:
    """Yield the names by which to look up the price of the model `served`, which a reply names. The most complete name
    comes first.

    The region and the vendor of the called model, `model`, are added: for example, `claude-opus-4-8` becomes
    `us.anthropic.claude-opus-4-8`. A vendor ends with a dot (Bedrock) or a slash (routers).
    """
    region, base = geo(model), base_id(model)
    maker = _MAKER.match(base)
    prefix = f"{region}." if region else ""
    if maker and not _MAKER.match(base_id(served)):
        yield f"{prefix}{maker[0]}{served}"
    if prefix and not geo(served):
        yield f"{prefix}{served}"
    yield served


def _is_meant(priced: Priced, name: str) -> bool:
    """Return whether the prices `priced`, which were found for a `name` in a reply, can be trusted.

    The look-up finds the prices of `claude-v1` for the name `claude`, which may mean any version. So for a name without
    a number, the result is True only if the found row has exactly this name.
    """
    return bool(_NUMBER.search(name)) or _bare(priced.name) == name.rpartition("/")[2]


def _bare(row: str) -> str:
    """Return the name of a row without seller, region and vendor: only the model's name."""
    model = base_id(row.partition("/")[2])
    maker = _MAKER.match(model)
    return model[maker.end() :] if maker else model


def _is_set(provider: PricedProvider, model: str) -> bool:
    """Return whether a rule or an underlying model in the configuration sets the price of a model."""
    return model in provider.base_models or matching_rule(provider, model) is not None


def resembles(model: str, served: str) -> bool:
    """Return whether the name in a reply may be another name of the called model.

    The result is True if one of the names contains the other, or if the name in the reply has no number, and thus no
    version.
    """
    one, other = base_id(model).lower(), base_id(served).lower()
    return one in other or other in one or not _NUMBER.search(other)


def _priced(rows: tuple[Row, ...], adjustment: Decimal) -> Priced | None:
    if not rows:
        return None
    factor = int(adjustment.scaleb(ADJUSTMENT_PLACES)) if adjustment != 1 else 1
    places = PLACES + (ADJUSTMENT_PLACES if adjustment != 1 else 0)
    periods = tuple((row.since, row.rates.times(factor) if factor != 1 else row.rates) for row in rows)
    modifiers = of_book(rows[-1].book)
    return Priced(rows[-1].name, periods, adjustment, places, modifiers.times(factor) if factor != 1 else modifiers)


@cache
def compile_glob(pattern: str) -> re.Pattern[str]:
    """Return the regular expression for a pattern in the syntax of Go's path.Match.

    `*` and `?` do not match "/", `[a-z]` and `[^a-z]` are character classes, and a backslash escapes the next
    character. Raises `ValueError` for a malformed pattern.
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
