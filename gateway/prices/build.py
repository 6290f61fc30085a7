"""Builds `table.json` from two published price maps. Run by hand, never by the gateway.

    python -m venv VENV && VENV/bin/pip install litellm genai-prices
    VENV/bin/python gateway/prices/build.py

Needs nothing of this project, so that it runs in an environment that holds only the two. Neither map is trusted alone:
each row says where it comes from, and where the two disagree also which was taken and what the other one says. The
grounds for each choice are `REASONS`, which the table carries too. How a row is found and used is `table.py`'s matter.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

Prices = dict[str, Decimal]
"""Unit price by kind, in USD for 1M tokens."""

GEOS: Final = ("us", "eu", "apac", "jp", "au", "ca", "in", "global", "us-gov")
KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "input": ("input_cost_per_token", "input_mtok"),
    "output": ("output_cost_per_token", "output_mtok"),
    "cache_read": ("cache_read_input_token_cost", "cache_read_mtok"),
    "cache_write_5m": ("cache_creation_input_token_cost", "cache_write_mtok"),
    "cache_write_1h": ("cache_creation_input_token_cost_above_1hr", "cache_write_1h_mtok"),
}
"""Our kind: its key in LiteLLM's map, its attribute in genai-prices."""

REASONS: Final[Mapping[str, str]] = {
    "in-region": "The regional price taken: that of genai-prices, or of the us row. A bare id is served inside one "
    "region, and AWS charges 10 % more for regional than for global endpoints since Claude 4.5; LiteLLM gives most "
    "bare ids the global price.",
    "own-row": "litellm taken. It has a row for this very id, read from AWS's price list; genai-prices has one rule "
    "for several regions.",
    "tier": "The price for long prompts is kept where either map has one: where the limit is lower, it never applies.",
    "derived": "In neither map. Claude since 4.5: 1.10 times the global price in a region, 1.20 in GovCloud; older "
    "Claude: one price everywhere; Nova: jp, au and in as apac, ca as the bare id, GovCloud 1.20 (the "
    "ratios of all rows that the maps do have).",
}

_REGIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "us": ("us-east-1", "us-west-2", "us-east-2"),
    "eu": ("eu-west-1", "eu-central-1", "eu-north-1", "eu-west-3", "eu-west-2"),
    "apac": ("ap-northeast-1", "ap-southeast-2", "ap-southeast-3", "ap-south-1"),
    "ca": ("ca-central-1",),
    "us-gov": ("us-gov-west-1", "us-gov-east-1"),
}
"""For models without inference profiles: the region whose price stands for the scope, the first one that has any."""
_MODES: Final = {"chat", "responses", "completion", "embedding"}
_SKIPPED: Final = re.compile(
    r"ft:|.*(commitment|claude_platform|invoke)/|.*audio"
    r"|.*@|(.*/)?claude-.*-v\d:|bedrock_mantle/.*anthropic|.*3-7-sonnet-2024"
)
"""Fine-tunes, provisioned throughput, other services, sound; spellings of ids that have rows, and a false date."""
_UNFIT: Final = re.compile(r"audio|image|tts|\bft\b|:extended|davinci|curie|babbage|^ada ")
"""Models of genai-prices that are paid for by more than tokens of text, or that are no longer served."""
_NEW_CLAUDE: Final = re.compile(r"anthropic\.claude-(?!3|v\d|instant|sonnet-4-2|opus-4-2|opus-4-1-|mythos-preview)")
_DATED: Final = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2})$|-latest$")


@dataclass(frozen=True, order=True)
class Key:
    book: str
    model: str
    geo: str = ""

    @property
    def id(self) -> str:
        return f"{self.geo}.{self.model}" if self.geo else self.model


@dataclass
class Row:
    prices: Prices
    above: int = 0
    """The tier's prices hold from one token more than this; 0 if there is no tier."""
    tier: Prices = field(default_factory=dict)
    source: str = ""
    why: str = ""
    other: str = ""

    def same(self, other: Row) -> bool:
        """Agreement on every kind that both know."""
        common = self.prices.keys() & other.prices.keys()
        tiers = self.tier.keys() & other.tier.keys()
        return all(self.prices[kind] == other.prices[kind] for kind in common) and all(
            self.tier[kind] == other.tier[kind] for kind in tiers
        )


def litellm() -> Iterator[tuple[Key, Row, str]]:
    """Every priced text model of the three books, and the region where its id names one."""
    spec = find_spec("litellm")
    if spec is None or spec.origin is None:
        sys.exit("litellm is not installed here")
    path = Path(spec.origin).with_name("model_prices_and_context_window_backup.json")
    entries: dict[str, Any] = json.loads(path.read_bytes(), parse_float=Decimal)
    for name, entry in entries.items():
        book = str(entry.get("litellm_provider")).split("_")[0]
        if book not in {"bedrock", "anthropic", "openai"} or entry.get("mode") not in _MODES or _SKIPPED.match(name):
            continue
        row = _litellm_row(entry)
        if row.prices.get("input"):
            model = re.sub(r"^bedrock(_mantle)?/", "", name)
            region, _, rest = model.rpartition("/")
            yield _key(book, rest), row, region or ("mantle" if name.startswith("bedrock_mantle/") else "")


def _key(book: str, name: str) -> Key:
    geo, _, rest = name.partition(".")
    return Key(book, rest, geo) if book == "bedrock" and geo in GEOS else Key(book, name)


def _litellm_row(entry: Mapping[str, Any]) -> Row:
    row = Row(_decimals({kind: entry.get(key) for kind, (key, _) in KINDS.items()}))
    for above in (100, 200, 272):
        suffix = f"_above_{above}k_tokens"
        if f"input_cost_per_token{suffix}" in entry:
            row.above = above * 1000
            row.tier = _decimals({kind: entry.get(key + suffix) for kind, (key, _) in KINDS.items()})
    return row


def _decimals(found: Mapping[str, Any]) -> Prices:
    return {kind: Decimal(value) * 1_000_000 for kind, value in found.items() if value is not None}


class Genai:
    """genai-prices: rules that match ids, so it can only be asked."""

    _providers: Final = {"bedrock": "aws", "anthropic": "anthropic", "openai": "openai"}

    def __init__(self) -> None:
        data = importlib.import_module("genai_prices.data")
        self._models = {book: _provider(data.providers, name).models for book, name in self._providers.items()}
        self._now = datetime.now(UTC)

    def find(self, key: Key) -> Row | None:
        model = next((model for model in self._models[key.book] if model.is_match(key.id)), None)
        return None if model is None else self._row(model)

    def unknown(self, known: Iterable[Key]) -> Iterator[tuple[Key, Row]]:
        """Models that match none of these ids, under the ids of their own."""
        keys = list(known)
        for book, models in self._models.items():
            ids = [key.id for key in keys if key.book == book]
            for model in models:
                if not _UNFIT.search(f"{model.id} {model.prices}") and not any(map(model.is_match, ids)):
                    row = self._row(model)
                    if row.prices.get("input"):
                        yield from ((key, row) for key in _genai_keys(book, model.id))

    def _row(self, model: Any) -> Row:
        found = model.get_prices(self._now)
        row = Row({})
        for kind, (_, name) in KINDS.items():
            value = getattr(found, name)
            if isinstance(value, Decimal):
                row.prices[kind] = value
            elif value is not None:
                row.prices[kind] = value.base
                row.above = value.tiers[0].start
                row.tier[kind] = value.tiers[0].price
        return row


def _provider(providers: Iterable[Any], name: str) -> Any:
    return next(provider for provider in providers if provider.id == name)


def _genai_keys(book: str, name: str) -> Iterator[Key]:
    if book == "bedrock" and name.startswith("regional."):
        for geo in ("", *(geo for geo in GEOS if geo not in {"global", "us-gov"})):
            yield Key(book, name.removeprefix("regional."), geo)
    else:
        yield _key(book, _DATED.sub("", name) if book == "anthropic" else name)


def merged(key: Key, ours: Row, theirs: Row | None, sources: tuple[str, str]) -> Row:
    """One row of two, with the choice recorded where they disagree."""
    first, second = sources
    if theirs is None:
        ours.source = first
        return ours
    if ours.same(theirs):
        ours.source = f"{first}, {second}"
        ours.prices = theirs.prices | ours.prices
        if bool(ours.above) != bool(theirs.above):
            ours.why, ours.other = "tier", f"{second if ours.above else first}: no tier"
            ours.above, ours.tier = (ours.above, ours.tier) if ours.above else (theirs.above, theirs.tier)
        return ours
    if not key.geo and theirs.prices["input"] == ours.prices["input"] * Decimal("1.1"):
        return _times(ours, Decimal("1.1"), source=second, why="in-region", other=f"{first}: {_spoken(ours)}")
    if key.book != "bedrock":
        sys.exit(f"{key}: {_spoken(ours)} or {_spoken(theirs)}? Decide, and write the reason into REASONS.")
    ours.source, ours.why, ours.other = first, "own-row", f"{second}: {_spoken(theirs)}"
    return ours


def _spoken(row: Row) -> str:
    return "/".join(_text(price) for price in row.prices.values())


def collected() -> dict[Key, Row]:
    sources = (f"litellm {version('litellm')}", f"genai-prices {version('genai-prices')}")
    genai = Genai()
    rows: dict[Key, Row] = {}
    regional: dict[tuple[Key, str], Row] = {}
    for key, row, place in litellm():
        if place:
            regional[key, place] = row
        else:
            rows[key] = merged(key, row, genai.find(key), sources)
    for key, row in _scoped(regional, sources[0]):
        rows.setdefault(key, row)
    for key, row in genai.unknown(rows):
        row.source = sources[1]
        rows.setdefault(key, row)
    for key, row in list(_derived(rows)):
        rows.setdefault(key, row)
    rows |= dict(_in_region(rows))
    return _without_repeats(rows)


def _scoped(regional: Mapping[tuple[Key, str], Row], source: str) -> Iterator[tuple[Key, Row]]:
    """Rows of ids that name a region or the Mantle endpoint, under the scope that the place stands for."""
    for (key, place), row in regional.items():
        if place == "mantle":
            row.source = f"{source}, bedrock_mantle"
            yield key, row
    for geo, places in _REGIONS.items():
        for place in places:
            for (key, found), row in regional.items():
                if found == place and not key.geo:
                    row.source = f"{source}, {place}"
                    yield Key(key.book, key.model, geo), row


def _in_region(rows: Mapping[Key, Row]) -> Iterator[tuple[Key, Row]]:
    """Bare ids that are left at the global price although a region costs more."""
    for key, row in rows.items():
        listed, us = (rows.get(Key(key.book, key.model, geo)) for geo in ("global", "us"))
        if not key.geo and listed and us and row.prices["input"] == listed.prices["input"] < us.prices["input"]:
            yield key, _times(us, Decimal(1), us.source, "in-region", f"{row.source}: {_spoken(row)}")


def _derived(rows: Mapping[Key, Row]) -> Iterator[tuple[Key, Row]]:
    for key, row in rows.items():
        if key.geo or not key.model.startswith(("anthropic.claude-", "amazon.nova-")):
            continue
        listed = rows.get(Key(key.book, key.model, "global"))
        for geo in GEOS:
            factor, base = _ratio(key, geo, row, listed, rows)
            if base is not None:
                yield Key(key.book, key.model, geo), _times(base, factor)


def _ratio(key: Key, geo: str, bare: Row, listed: Row | None, rows: Mapping[Key, Row]) -> tuple[Decimal, Row | None]:
    one, gov = Decimal(1), Decimal("1.2")
    if key.model.startswith("amazon.nova-"):
        like = {"jp": "apac", "au": "apac", "in": "apac"}.get(geo, "")
        found = rows.get(Key(key.book, key.model, like)) if geo in {"jp", "au", "in", "ca", "us-gov"} else None
        return (gov if geo == "us-gov" else one), found
    if not _NEW_CLAUDE.match(key.model):
        return one, None if geo == "us-gov" else bare
    return {"global": one, "us-gov": gov}.get(geo, Decimal("1.1")), listed


def _times(row: Row, factor: Decimal, source: str = "derived", why: str = "derived", other: str = "") -> Row:
    def scaled(prices: Prices) -> Prices:
        return {kind: price * factor for kind, price in prices.items()}

    return Row(scaled(row.prices), row.above, scaled(row.tier), source, why, other)


def _without_repeats(rows: Mapping[Key, Row]) -> dict[Key, Row]:
    """Without dated ids that cost what the undated one costs: `table.py` finds them under it."""
    return {key: row for key, row in rows.items() if not _repeats(key, row, rows)}


def _repeats(key: Key, row: Row, rows: Mapping[Key, Row]) -> bool:
    plain = rows.get(Key(key.book, _DATED.sub("", key.model), key.geo))
    return plain is not None and plain is not row and (plain.prices, plain.tier) == (row.prices, row.tier)


def _text(price: Decimal) -> str:
    return f"{price.normalize():f}"


def _line(key: Key, row: Row) -> str:
    out: dict[str, Any] = {"book": key.book, "model": key.model, "geo": key.geo}
    out |= {kind: _text(row.prices[kind]) for kind in KINDS if kind in row.prices}
    if row.above:
        out["above"] = {"tokens": row.above} | {kind: _text(row.tier[kind]) for kind in KINDS if kind in row.tier}
    out["source"] = row.source
    if row.why:
        out["why"] = row.why
    if row.other:
        out["other"] = row.other
    return "  " + json.dumps(out)


def main() -> None:
    lines = [_line(key, row) for key, row in sorted(collected().items())]
    head = json.dumps({"unit": "USD for 1M tokens", "reasons": REASONS}, indent=1)[:-2]
    body = head + ',\n "rows": [\n' + ",\n".join(lines) + "\n ]\n}\n"
    Path(__file__).with_name("table.json").write_text(body, encoding="utf-8")


if __name__ == "__main__":
    main()
