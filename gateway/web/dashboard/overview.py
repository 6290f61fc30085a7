"""The page at /ui/: what was spent, how that has changed, and whether the gateway has faults."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Final, NamedTuple, cast

from aiohttp import web

from gateway.call.context import GATEWAY, identity_of
from gateway.store.reports.values import Dimension, Measure
from gateway.web.admin.quotas import levels_of
from gateway.web.dashboard import charts, figures
from gateway.web.dashboard.columns import draw
from gateway.web.dashboard.filter_bar import Choice, days, filter_bar
from gateway.web.dashboard.frame import page
from gateway.web.dashboard.quotas import Bucket, bucket_of_level
from gateway.web.dashboard.samples import sample_call
from gateway.web.dashboard.troubles import troubles
from gateway.web.dashboard.visit import Visit, visit

MEASURES: Final = (("cost", "Cost"), ("tokens", "Tokens"), ("calls", "Calls"))
DIMENSIONS: Final[tuple[tuple[Dimension, str, str], ...]] = (
    ("model", "Model", "Models"),
    ("user", "Person", "People"),
    ("provider", "Provider", "Providers"),
    ("agent", "Client", "Clients"),
)
"""Dimensions of the chart and of the lists. Each is a triple: the dimension, its name in singular, and its name in
plural."""
TOP: Final = 6
"""Number of rows in a list of the largest values."""


class TopList(NamedTuple):
    """A list of the values of a dimension that have the largest amounts, such as the models with the highest cost."""

    by: str
    title: str
    rows: list[figures.Bar]
    more: int
    """Number of values that are not in the list."""


async def overview(request: web.Request) -> web.Response:
    seen = visit(request, "by", "measure", "hide")
    dimensions = tuple(one for one in DIMENSIONS if seen.reports.admin or one[0] != "user")
    measure = cast("Measure", seen.choice("measure", tuple(name for name, _ in MEASURES)))
    by = cast("Dimension", seen.choice("by", tuple(name for name, *_ in dimensions)))
    wanted = replace(seen.filter, compare=True)
    totals, trend, chart, bar, own = await asyncio.gather(
        seen.reports.totals(wanted),
        seen.reports.trend(wanted),
        seen.reports.chart(wanted, by, measure, lines=charts.COLOURS),
        filter_bar(seen),
        _own_quotas(seen),
    )
    tops = await asyncio.gather(*(_top(seen, name, title, measure) for name, _, title in dimensions))
    gateway = request.app[GATEWAY]
    await gateway.refresh()
    words_by: dict[str, str] = {name: word for name, word, _ in dimensions}
    return await page(
        request, "overview.html",
        bar=bar, tiles=figures.tiles(totals.now, totals.before, trend, everybody=seen.reports.admin),
        calls=totals.now.figures.calls, drawn=draw(seen, chart), measure=dict(MEASURES)[measure], by=words_by[by],
        measures=_choices(seen, "measure", MEASURES, measure), splits=_choices(seen, "by", words_by.items(), by),
        tops=tops, before=_before(seen), quotas=own, person=seen.filter.user or "",
        troubles=await asyncio.to_thread(troubles, gateway) if seen.reports.admin else [],
        config_error=gateway.config_error if seen.reports.admin else "", curl=await sample_call(request),
    )  # fmt: skip


def _before(seen: Visit) -> str:
    """Return the first and the last day of the range with which the page compares its numbers, such as "10 – 16 Nov
    2026".
    """
    span, zone = seen.filter.range.before, seen.filter.zone
    first, last = (datetime.fromtimestamp(at, zone).date() for at in (span.since, max(span.since, span.until - 1)))
    return days(first, last)


async def _own_quotas(seen: Visit) -> list[Bucket]:
    """Return the reader's own buckets. Return none for an admin, because an admin has a page with all buckets."""
    identity = identity_of(seen.request)
    if seen.reports.admin or identity is None:
        return []
    gateway = seen.request.app[GATEWAY]
    levels = await levels_of(gateway, identity, everybody=False)
    return [bucket_of_level(level, gateway) for level in levels]


async def _top(seen: Visit, by: Dimension, title: str, measure: Measure) -> TopList:
    ranked = await seen.reports.ranking(seen.filter, by, measure)
    # a name whose cost is unknown may have cost more than one that cost nothing
    ranking = sorted(ranked, key=lambda row: (-row.amount, -row.unknown_cost))
    return TopList(by, title, figures.bars(seen, by, ranking[:TOP], measure), max(0, len(ranking) - TOP))


def _choices(seen: Visit, name: str, known: Iterable[tuple[str, str]], current: str) -> list[Choice]:
    return [
        Choice(f"{name}-{value}", label, seen.href(**{name: value, "hide": None}), value == current)
        for value, label in known
    ]
