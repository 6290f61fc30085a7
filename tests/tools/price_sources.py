"""Reads the two published price maps for `build_prices.py`, and gives their fields the same names.

Run by hand, never by the gateway. LiteLLM has a row for each id, but no past prices. genai-prices has rules that match
ids, and the days on which prices changed. Neither is trusted alone: if they differ, `build_prices.py` decides. This
module imports nothing else of this project, so that it runs in an environment with only the two packages.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

GEOS: Final = ("us", "eu", "apac", "jp", "au", "ca", "in", "global", "us-gov")


class Kind(NamedTuple):
    """The use that a price is for, such as input tokens (`name`), and the conditions under which the price applies."""

    name: str
    tier: str = ""
    """Service tier, such as batch or flex. It is "" for the standard tier."""
    above: int = 0
    """The price applies to prompts with more than this number of tokens."""


Prices = dict[Kind, Decimal]
"""Unit prices, in USD for 1M tokens or searches."""

INPUT: Final = Kind("input")
NAMES: Final[Mapping[str, tuple[str, str]]] = {
    "input": ("input_cost_per_token", "input_mtok"),
    "output": ("output_cost_per_token", "output_mtok"),
    "cache_read": ("cache_read_input_token_cost", "cache_read_mtok"),
    "cache_write_5m": ("cache_creation_input_token_cost", "cache_write_mtok"),
    "cache_write_1h": ("cache_creation_input_token_cost_above_1hr", "cache_write_1h_mtok"),
    "reasoning": ("output_cost_per_reasoning_token", "output_reasoning_mtok"),
    "image_input": ("input_cost_per_image_token", "input_image_mtok"),
    "image_output": ("output_cost_per_image_token", "output_image_mtok"),
    "audio_input": ("input_cost_per_audio_token", "input_audio_mtok"),
    "audio_output": ("output_cost_per_audio_token", "output_audio_mtok"),
    "web_search": ("search_context_cost_per_query", "web_searches_kcount"),
}
"""The key in LiteLLM's map, and the attribute in genai-prices, for each kind of price."""
TIERS: Final[Mapping[str, str]] = {
    "": "", "batches": "batch", "flex": "flex", "priority": "priority", "ultrafast": "ultrafast",
}  # fmt: skip
"""Service tiers, by the suffix of LiteLLM's keys for their prices.

The suffixes "balanced" and "decisions" are left out. Only other gateways have these tiers, and this project has no
price list for other gateways.
"""

_MILLION: Final = 1_000_000
_PLAIN_KEYS: Final = {ours: name for name, (ours, _) in NAMES.items() if name != "web_search"}
_KEY: Final = re.compile(rf"({'|'.join(_PLAIN_KEYS)}(?:_above_1hr)?)(?:_above_(\d+)k_tokens)?(?:_([a-z]+))?")
_MODES: Final = {"chat", "responses", "completion", "embedding"}
_SKIPPED: Final = re.compile(
    r"ft:|.*(commitment|claude_platform|invoke)/|.*(audio|realtime|speech|-tts|-live|lyria|transcribe)"
    r"|(.*/)?claude-.*-v\d:|bedrock_mantle/.*anthropic|.*3-7-sonnet-2024|.*model[-_]router"
)
"""Matches the ids in LiteLLM's map that are not read:

- fine-tuned models, provisioned throughput, models for sound, and models of other services
- unusual spellings of ids that have a row under their usual spelling too, and the ids of Claude 3.7 Sonnet that name a
  wrong year
- routers, whose price is only a fee on top of the price of the chosen model
"""
_UNFIT: Final = re.compile(r"audio|tts|-live|\bft\b|:extended|davinci|curie|babbage|^ada$|^ada ")
"""Models of genai-prices that have further charges which the gateway does not count, or that are no longer served."""
_BOOKS: Final[Mapping[str, str]] = {
    "bedrock": "bedrock", "anthropic": "anthropic", "openai": "openai", "gemini": "google", "vertex": "vertex",
    "azure": "azure", "vercel": "vercel",
}  # fmt: skip
"""The name of the gateway's price list (`Key.book`), by the first word of LiteLLM's name for the provider."""
_PREFIX: Final = re.compile(r"^(bedrock(_mantle)?|gemini|vertex_ai|azure(_ai)?|vercel_ai_gateway)/")
_ZONE: Final = re.compile(r"^(eu|us|us-gov|apac|global|global-standard)/")
"""Matches the data zone at the beginning of an Azure id, such as `eu/`. An id without a data zone counts as global."""


@dataclass(frozen=True, order=True)
class Key:
    book: str
    model: str
    geo: str = ""
    since: str = ""
    """First day (UTC) of the price. It is "" for a price without a first day."""

    @property
    def id(self) -> str:
        return f"{self.geo}.{self.model}" if self.geo and self.book == "bedrock" else self.model


@dataclass
class Row:
    prices: Prices
    source: str = ""
    why: str = ""
    other: str = ""
    dropped: str = ""
    """The day on which the row was first missing in the sources. A value such as "2026-09-01: flex input" means that on
    this day only the prices after the colon were missing.
    """

    def differs(self, other: Row) -> bool:
        """Return whether this row and `other` have different prices for a kind that both have."""
        return any(self.prices[kind] != other.prices[kind] for kind in self.prices.keys() & other.prices.keys())

    def times(self, factor: Decimal, source: str = "derived", why: str = "derived", other: str = "") -> Row:
        return Row({kind: price * factor for kind, price in self.prices.items()}, source, why, other)


@dataclass
class History:
    """The prices of one model in genai-prices: those of today, and those of earlier and later days."""

    now: Row
    since: str = ""
    others: dict[str, Row] = field(default_factory=dict)
    """The rows that are not valid today, because their prices are past or future. The key is the first day of the row's
    prices, as in `Key.since`.
    """


def key(book: str, name: str) -> Key:
    """Return the key of a model id in the price list `book`. In Bedrock's list, an id may begin with a group of
    regions, such as `us.`, which becomes `Key.geo`.
    """
    geo, _, rest = name.partition(".")
    return Key(book, rest, geo) if book == "bedrock" and geo in GEOS else Key(book, name)


def litellm() -> Iterator[tuple[Key, Row, str]]:
    """Yield (key, row, place) for each text model with a price in LiteLLM's map, if its provider is in `_BOOKS`.

    `place` is the region or endpoint that the id names, or "".
    """
    spec = find_spec("litellm")
    if spec is None or spec.origin is None:
        sys.exit("litellm is not installed here")
    path = Path(spec.origin).with_name("model_prices_and_context_window_backup.json")
    entries: dict[str, Any] = json.loads(path.read_bytes(), parse_float=Decimal)
    for name, entry in entries.items():
        book = _BOOKS.get(str(entry.get("litellm_provider")).split("_")[0], "")
        if not book or entry.get("mode") not in _MODES or _SKIPPED.match(name):
            continue
        row = Row(_litellm_prices(entry, book))
        if row.prices.get(INPUT):
            where, place = _placed(book, name)
            yield where, row, place


def _placed(book: str, name: str) -> tuple[Key, str]:
    """Return the key of the row for LiteLLM's id `name`, and the region or endpoint that the id names, or "".

    For example, the id `bedrock/us-east-1/anthropic.claude-v2` names the region `us-east-1`.
    """
    model = _PREFIX.sub("", name)
    if book == "bedrock":
        region, _, rest = model.rpartition("/")
        return key(book, rest), region or ("mantle" if name.startswith("bedrock_mantle/") else "")
    zone = _ZONE.match(model) if book == "azure" else None
    if zone is None:
        return key(book, model), ""
    return Key(book, model[zone.end() :], "" if zone[1].startswith("global") else zone[1]), ""


def _litellm_prices(entry: Mapping[str, Any], book: str) -> Prices:
    prices: Prices = {}
    for name, value in entry.items():
        match = _KEY.fullmatch(name)
        if match and match[1] in _PLAIN_KEYS and (match[3] or "") in TIERS and value is not None:
            kind = Kind(_PLAIN_KEYS[match[1]], TIERS[match[3] or ""], int(match[2] or 0) * 1000)
            prices[kind] = Decimal(value) * _MILLION
    # a step that names no price of input is no step: the other prices of a longer prompt would be unknown
    steps = {(kind.tier, kind.above) for kind in prices if kind.name == "input"}
    prices = {kind: price for kind, price in prices.items() if not kind.above or (kind.tier, kind.above) in steps}
    searches = set((entry.get("search_context_cost_per_query") or {}).values())
    # where the price depends on how much is read, a reply does not tell which it was; Bedrock has no such tool
    if len(searches) == 1 and book != "bedrock":
        prices[Kind("web_search")] = Decimal(searches.pop()) * _MILLION
    return prices


class Genai:
    """The prices in the Python package genai-prices. Its models have rules that match ids, but no list of their ids."""

    _providers: Final = {
        "bedrock": "aws", "anthropic": "anthropic", "openai": "openai", "google": "google", "vertex": "google",
        "azure": "azure", "openrouter": "openrouter",
    }  # fmt: skip

    def __init__(self, today: date) -> None:
        data = importlib.import_module("genai_prices.data")
        providers = {provider.id: provider.models for provider in data.providers}
        self._models = {book: list(providers[name]) for book, name in self._providers.items()}
        # Google's own API serves Gemini and Gemma; the others there are Vertex'
        self._models["google"] = [model for model in self._models["google"] if model.id.startswith("gem")]
        self._today = today

    def find(self, where: Key) -> History | None:
        models = self._models.get(where.book, ())
        model = next((model for model in models if model.is_match(where.id)), None)
        return None if model is None or (where.geo and where.book == "azure") else self._history(model)

    def unknown(self, known: Iterable[Key]) -> Iterator[tuple[Key, History]]:
        """Yield (key, prices) for the models that match none of the ids in `known`."""
        keys = list(known)
        for book, models in self._models.items():
            ids = [where.id for where in keys if where.book == book]
            for model in models:
                if not _UNFIT.search(f"{model.id} {model.prices}") and not any(map(model.is_match, ids)):
                    history = self._history(model)
                    if history.now.prices.get(INPUT):
                        yield from ((where, history) for where in _genai_keys(book, model.id))

    def _history(self, model: Any) -> History:
        periods = _periods(model)
        # a price of a future day is there, and is not that of today
        current = max(first for first in periods if first <= self._today)
        rows = {
            _day(first): _genai_row(model, prices, max(first, date(2000, 1, 1))) for first, prices in periods.items()
        }
        now = _genai_row(model, periods[current], self._today)
        others = {since: row for since, row in rows.items() if since != _day(current)}
        return History(now, _day(current), others)


def _day(first: date) -> str:
    return "" if first == date.min else first.isoformat()


def _periods(model: Any) -> dict[date, Any]:
    """Return prices by their first day. Prices that change with the time of the day are left out."""
    if not isinstance(model.prices, list):
        return {date.min: model.prices}
    periods = {date.min: model.prices[0].prices}
    for entry in model.prices:
        first = getattr(entry.constraint, "start_date", None)
        if first is not None:
            periods[first] = entry.prices
    return periods


def _genai_row(model: Any, prices: Any, day: date) -> Row:
    row = Row({})
    _add(row.prices, prices, "")
    at = datetime.combine(day, time(12), UTC)
    for variant in model.price_variants or ():
        (key_, value), *more = variant.when.items()
        named = key_ in {"processing", "service_tier", "speed"} and value != "default" and not more
        if named and (variant.constraint is None or variant.constraint.active(at)):
            _add(row.prices, variant.prices, value)
    return row


def _add(entries: Prices, prices: Any, tier: str) -> None:
    for name, (_, attribute) in NAMES.items():
        value = getattr(prices, attribute, None)
        factor = 1000 if name == "web_search" else 1
        if isinstance(value, Decimal):
            entries.setdefault(Kind(name, tier), value * factor)
        elif value is not None:
            entries.setdefault(Kind(name, tier), value.base)
            for step in value.tiers:
                entries.setdefault(Kind(name, tier, step.start), step.price)


_DATED: Final = re.compile(r"[-@](\d{8}|\d{4}-\d{2}-\d{2})$|[-@](latest|default)$")


def undated(where: Key) -> Key:
    return replace(where, model=_DATED.sub("", where.model))


def _genai_keys(book: str, name: str) -> Iterator[Key]:
    if book == "bedrock" and name.startswith("regional."):
        for geo in ("", *(geo for geo in GEOS if geo not in {"global", "us-gov"})):
            yield Key(book, name.removeprefix("regional."), geo)
    else:
        yield undated(key(book, name)) if book == "anthropic" else key(book, name)
