"""Builds `money/prices/table.json` from two published price maps. Run by hand, never by the gateway.

`update_prices.py` installs the newest maps, runs this script, and prints what has changed.

Each row names its source. If the two maps disagree, the row also has the reason for the choice and the price in the
other map. `REASONS` explains the reasons, and is copied into the table. `price_sources.py` reads the maps.
`money/prices/rows.py` and `money/prices/table.py` find and use the rows.

Rows that are no longer in any map are kept, because somebody may still call the model. The member `dropped` of such a
row has the day on which the row was first missing.

If only some prices of a row are missing, such as those of a tier, and its other prices are unchanged, the missing
prices are kept too. `dropped` then also names them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from tests.tools.price_sources import (
    GEOS,
    INPUT,
    NAMES,
    Genai,
    History,
    Key,
    Kind,
    Prices,
    Row,
    litellm,
    undated,
)

TABLE: Final = Path(__file__).parents[2] / "gateway" / "money" / "prices" / "table.json"

REASONS: Final[Mapping[str, str]] = {
    "in-region": "The regional price taken: that of genai-prices, or of the us row. A bare id is served inside one "
    "region, and AWS charges 10 % more for regional than for global endpoints since Claude 4.5; LiteLLM gives most "
    "bare ids the global price.",
    "own-row": "litellm taken. It has a row for this very id, read from the provider's price list; genai-prices has "
    "one rule for several ids or regions.",
    "dated": "genai-prices taken. LiteLLM has the price from before a change of which genai-prices knows the day.",
    "ahead": "genai-prices taken until the day that it names. LiteLLM has the price of later already.",
    "tier": "The price for long prompts is kept where either map has one: where the limit is lower, it never applies.",
    "derived": "In neither map. Claude since 4.5: 1.10 times the global price in a region, 1.20 in GovCloud; older "
    "Claude: one price everywhere; Nova: jp, au and in as apac, ca as the bare id, GovCloud 1.20 (the "
    "ratios of all rows that the maps do have).",
    "history": "A price of another time, which genai-prices alone has.",
}

_REGIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "us": ("us-east-1", "us-west-2", "us-east-2"),
    "eu": ("eu-west-1", "eu-central-1", "eu-north-1", "eu-west-3", "eu-west-2"),
    "apac": ("ap-northeast-1", "ap-southeast-2", "ap-southeast-3", "ap-south-1"),
    "ca": ("ca-central-1",),
    "us-gov": ("us-gov-west-1", "us-gov-east-1"),
}
"""Maps each geographic prefix of Bedrock's model ids, such as `us`, to AWS regions.

If a model's price is known only for regions, the price for the prefix is that of the first region with a price.
"""
_FINEST: Final = Decimal("1e-9")
"""The smallest difference between prices that the table can express, in USD for 1M tokens. Prices are rounded to a
multiple of it, because a few prices in the price maps have more digits.
"""
_VERSION: Final = re.compile(r"(-v\d+|(?<=\d[bB])-\d+):\d+$")
"""Matches the version at the end of a Bedrock id, such as `-v1:0`. A price map may list a model by its id with the
version, without it, or both.
"""
_NEW_CLAUDE: Final = re.compile(r"anthropic\.claude-(?!3|v\d|instant|sonnet-4-2|opus-4-2|opus-4-1-|mythos-preview)")


def merged(where: Key, ours: Row, theirs: History | None, sources: tuple[str, str]) -> Row:
    """Return one row from LiteLLM's row `ours` and the prices of genai-prices (`theirs`) for the same model.

    If the two maps have different prices for today, the row has the reason for the choice (`REASONS`). `sources` has
    the names of both price maps, LiteLLM first.
    """
    first, second = sources
    if theirs is None:
        return replace(ours, source=first)
    both = f"{first}, {second}"
    if not ours.differs(theirs.now):
        joined = Row(theirs.now.prices | ours.prices, both)
        if _steps(ours) != _steps(theirs.now):
            joined.why, joined.other = (
                "tier",
                f"{second if len(_steps(ours)) > len(_steps(theirs.now)) else first}: no tier",
            )
        return joined
    for since, row in theirs.others.items():
        if not ours.differs(row):
            why = "ahead" if since > theirs.since else "dated"
            return Row(theirs.now.prices, second, why, f"{first}: {_spoken(ours)}")
    if not where.geo and theirs.now.prices[INPUT] == ours.prices[INPUT] * Decimal("1.1"):
        return ours.times(Decimal("1.1"), second, "in-region", f"{first}: {_spoken(ours)}")
    return replace(ours, source=first, why="own-row", other=f"{second}: {_spoken(theirs.now, ours)}")


def _steps(row: Row) -> set[int]:
    return {kind.above for kind in row.prices if not kind.tier}


def _spoken(row: Row, beside: Row | None = None) -> str:
    """Return the prices of a row as text. If `beside` is given, only prices that differ from it are listed."""
    rates = {
        kind: price for kind, price in row.prices.items() if beside is None or beside.prices.get(kind, price) != price
    }
    if beside is None:
        rates = {kind: price for kind, price in rates.items() if not kind.tier and not kind.above}
    words = ((kind.name, kind.tier, f"above {kind.above}" if kind.above else "", _text(p)) for kind, p in rates.items())
    return ", ".join(" ".join(filter(None, parts)) for parts in words)


def collected(today: date) -> dict[Key, Row]:
    sources = (f"litellm {version('litellm')}", f"genai-prices {version('genai-prices')}")
    genai = Genai(today)
    rows: dict[Key, Row] = {}
    regional: dict[tuple[Key, str], Row] = {}
    dated: dict[Key, Row] = {}
    for where, row, place in litellm():
        if place:
            regional[where, place] = row
            continue
        history = genai.find(where)
        rows[where] = merged(where, row, history, sources)
        if history is not None and sources[1] in rows[where].source:
            dated |= _dates(where, history, sources[1])
    for where, row in _scoped(regional, sources[0]):
        rows.setdefault(where, row)
    for where, history in genai.unknown(rows):
        if where not in rows:
            rows[where] = replace(history.now, source=sources[1])
            dated |= _dates(where, history, sources[1])
    for where, row in list(_derived(rows)):
        rows.setdefault(where, row)
    rows |= dict(_in_region(rows))
    rows |= dict(_completed(rows))
    singular = {where: row for where, row in rows.items() if not _repeats(where, row, rows, dated)}
    latest = _with_dates(singular, dated)
    return latest | dict(_kept(present(), latest, rows, today))


def _completed(rows: Mapping[Key, Row]) -> Iterator[tuple[Key, Row]]:
    """Complete the prices of models that a price map lists twice: with a version at the end of the id, and without one.

    If one of the two rows lacks prices that the other row has, yield its key and the row with these prices added. Skip
    rows with contradictory prices.
    """
    for where, row in rows.items():
        short = replace(where, model=_VERSION.sub("", where.model))
        other = rows.get(short)
        if short == where or other is None or row.differs(other):
            continue
        for key, one, more in ((where, row, other), (short, other, row)):
            if more.prices.keys() - one.prices.keys():
                yield key, replace(one, prices=more.prices | one.prices)


def present() -> dict[Key, Row]:
    """Return the rows of the price table in this repository, before the table is rebuilt."""
    entries: list[dict[str, Any]] = json.loads(TABLE.read_text("utf-8"))["rows"]
    return {
        Key(entry["book"], entry["model"], entry.get("geo", ""), entry.get("from", "")): _parse(entry)
        for entry in entries
    }


def _parse(entry: Mapping[str, Any]) -> Row:
    prices: Prices = {}
    tiers = {"": entry} | {name: tier for name, tier in entry.items() if isinstance(tier, dict)}
    for tier, rates in tiers.items():
        for above, step in ((0, rates), *((step["tokens"], step) for step in rates.get("above", ()))):
            prices |= {Kind(name, tier, above): Decimal(step[name]) for name in NAMES if name in step}
    return Row(prices, **{name: entry[name] for name in ("source", "why", "other", "dropped") if name in entry})


def _kept(
    before: Mapping[Key, Row], latest: Mapping[Key, Row], rows: Mapping[Key, Row], today: date
) -> Iterator[tuple[Key, Row]]:
    """Yield old rows, and rows with old prices, that the price maps no longer list.

    `before` are the rows of the table before it is rebuilt. `latest` are the rows of the new table so far, and `rows`
    are all rows of the maps. An old row is kept only if the maps have no row of the same model for any day. Otherwise
    the old row could hide a later price of the model.
    """
    living = {(where.book, where.model, where.geo) for where in (*latest, *rows)}
    for where, old in before.items():
        row = latest.get(where)
        if row is None and (where.book, where.model, where.geo) not in living:
            yield where, replace(old, dropped=old.dropped or today.isoformat())
        elif row is not None and not row.differs(old) and (lost := _lost(old, row)):
            names = ", ".join(sorted({" ".join(filter(None, (kind.tier, kind.name))) for kind in lost}))
            dropped = old.dropped if ":" in old.dropped else f"{today.isoformat()}: {names}"
            yield where, replace(row, prices=row.prices | {kind: old.prices[kind] for kind in lost}, dropped=dropped)


def _dates(where: Key, history: History, source: str) -> dict[Key, Row]:
    """Return the rows of a model whose prices have a first day (`Key.since`): past prices and future prices.

    If today's price has a first day too, the result also has an empty row for it. `_with_dates` replaces this row by
    the row with today's prices.
    """
    dates = {
        replace(where, since=since): replace(row, source=source, why="history") for since, row in history.others.items()
    }
    return dates | {replace(where, since=history.since): Row({})} if history.since else dates


def _with_dates(rows: Mapping[Key, Row], dated: Mapping[Key, Row]) -> dict[Key, Row]:
    combined = dict(rows)
    for where, row in dated.items():
        always = replace(where, since="")
        if row.prices or always not in rows:
            continue
        combined[where] = rows[always]
    return combined | {where: row for where, row in dated.items() if row.prices and replace(where, since="") in rows}


def _scoped(regional: Mapping[tuple[Key, str], Row], source: str) -> Iterator[tuple[Key, Row]]:
    """Yield rows of the table from the rows for single AWS regions or for the Mantle endpoint.

    `regional` maps (key, region or endpoint) to a row of the price map `source`. The price of a region becomes the
    price of the region's geographic prefix (`_REGIONS`): `us` for `us-east-1`.
    """
    for (where, place), row in regional.items():
        if place == "mantle":
            yield where, replace(row, source=f"{source}, bedrock_mantle")
    for geo, places in _REGIONS.items():
        for place in places:
            for (where, name), row in regional.items():
                if name == place and not where.geo:
                    yield replace(where, geo=geo), replace(row, source=f"{source}, {place}")


def _in_region(rows: Mapping[Key, Row]) -> Iterator[tuple[Key, Row]]:
    """Yield corrected rows for Bedrock ids without a prefix such as `us.` or `global.`.

    Such an id is served in a single region, and costs as much as the `us.` id. If the price map has the lower price of
    the `global.` id for it, the row is corrected.
    """
    for where, row in rows.items():
        listed, us = (rows.get(replace(where, geo=geo)) for geo in ("global", "us"))
        if where.geo or where.book != "bedrock" or not listed or not us:
            continue
        if row.prices[INPUT] == listed.prices[INPUT] < us.prices[INPUT]:
            yield where, us.times(Decimal(1), us.source, "in-region", f"{row.source}: {_spoken(row)}")


def _derived(rows: Mapping[Key, Row]) -> Iterator[tuple[Key, Row]]:
    for where, row in rows.items():
        ours = where.book == "bedrock" and where.model.startswith(("anthropic.claude-", "amazon.nova-"))
        if where.geo or not ours:
            continue
        listed = rows.get(replace(where, geo="global"))
        for geo in GEOS:
            factor, base = _ratio(where, geo, row, listed, rows)
            if base is not None:
                yield replace(where, geo=geo), base.times(factor)


def _ratio(where: Key, geo: str, bare: Row, listed: Row | None, rows: Mapping[Key, Row]) -> tuple[Decimal, Row | None]:
    one, gov = Decimal(1), Decimal("1.2")
    if where.model.startswith("amazon.nova-"):
        like = {"jp": "apac", "au": "apac", "in": "apac"}.get(geo, "")
        rate = rows.get(replace(where, geo=like)) if geo in {"jp", "au", "in", "ca", "us-gov"} else None
        return (gov if geo == "us-gov" else one), rate
    if not _NEW_CLAUDE.match(where.model):
        return one, None if geo == "us-gov" else bare
    return {"global": one, "us-gov": gov}.get(geo, Decimal("1.1")), listed


def _repeats(where: Key, row: Row, rows: Mapping[Key, Row], dated: Mapping[Key, Row]) -> bool:
    """Return whether an id with a date has the same price as the id without the date.

    The row of such an id can be left out, because `money/prices/rows.py` then uses the row of the id without the date.
    """
    short = undated(where)
    plain = rows.get(short)
    if plain is None or plain is row or plain.prices != row.prices:
        return False
    return all(replace(short, since=other.since) in dated for other in dated if replace(other, since="") == where)


def _lost(old: Row, row: Row) -> set[Kind]:
    """Return the kinds of price that the old row has and the new row (`row`) lacks.

    A price for long prompts does not count as lost if the new row has one price of this tier for prompts of all
    lengths.
    """
    tiers = {kind.tier for kind in row.prices}
    return {kind for kind in old.prices.keys() - row.prices.keys() if not kind.above or kind.tier not in tiers}


def _text(price: Decimal) -> str:
    return f"{price.quantize(_FINEST).normalize():f}"


def _rates(prices: Prices, tier: str, above: int) -> dict[str, str]:
    rates = {kind.name: _text(price) for kind, price in prices.items() if (kind.tier, kind.above) == (tier, above)}
    return {name: rates[name] for name in NAMES if name in rates}


def _line(where: Key, row: Row) -> str:
    out: dict[str, Any] = {"book": where.book, "model": where.model}
    out |= {name: value for name, value in (("geo", where.geo), ("from", where.since)) if value}
    for tier in ("", *sorted({kind.tier for kind in row.prices} - {""})):
        rates: dict[str, Any] = dict(_rates(row.prices, tier, 0))
        steps = sorted({kind.above for kind in row.prices if kind.tier == tier} - {0})
        if steps:
            rates["above"] = [{"tokens": step, **_rates(row.prices, tier, step)} for step in steps]
        out |= {tier: rates} if tier else rates
    out |= {name: value for name, value in vars(row).items() if name != "prices" and value}
    return "  " + json.dumps(out)


def main() -> None:
    today = datetime.now(UTC).date()
    lines = [_line(where, row) for where, row in sorted(collected(today).items(), key=lambda pair: pair[0])]
    head = {"unit": "USD for 1M tokens or searches", "as_of": today.isoformat(), "reasons": REASONS}
    body = json.dumps(head, indent=1)[:-2] + ',\n "rows": [\n' + ",\n".join(lines) + "\n ]\n}\n"
    TABLE.write_text(body, encoding="utf-8")


if __name__ == "__main__":
    main()
