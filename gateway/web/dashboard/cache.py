"""The page Cache: how much input is read from caches, what that saves, and whose calls could use caches better."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple, cast

from aiohttp import web

from gateway.call.context import GATEWAY, Gateway
from gateway.store.reports.values import Dimension, Figures, Point, Row
from gateway.web.dashboard import charts, figures, words
from gateway.web.dashboard.columns import draw_series
from gateway.web.dashboard.csv_pages import FORMAT, MOST, csv_page, wants_csv
from gateway.web.dashboard.filter_bar import Choice, filter_bar
from gateway.web.dashboard.frame import page
from gateway.web.dashboard.rows import COLUMNS, TableRow, cells, table_rows
from gateway.web.dashboard.visit import Visit, visit

ROWS: Final = 25
"""Maximum number of rows in the table."""
SPLITS: Final = (("user", "Person"), ("model", "Model"), ("agent", "Client"))
ORDERS: Final = (("wasted", "Least saved"), ("saved", "Most saved"), ("cache_read", "Most read"))


async def cache(request: web.Request) -> web.StreamResponse:
    seen = visit(request, "by", "sort", "hide", FORMAT)
    splits = tuple(pair for pair in SPLITS if seen.reports.admin or pair[0] != "user")
    by = cast("Dimension", seen.choice("by", tuple(name for name, _ in splits)))
    sort = seen.choice("sort", tuple(name for name, _ in ORDERS))
    if wants_csv(seen):
        whole = await seen.reports.table(seen.filter, by, sort=sort, limit=MOST)
        lines = table_rows(seen, by, whole.rows, "/ui/cache")
        rows_of_file = ((line.row.name, *cells(line.row)) for line in lines if _has_input(line))
        return await csv_page(seen, f"cache-by-{by}", (by, *COLUMNS), rows_of_file)
    totals, trend, table, bar = await asyncio.gather(
        seen.reports.totals(replace(seen.filter, compare=True)),
        seen.reports.trend(seen.filter),
        seen.reports.table(seen.filter, by, sort=sort, limit=ROWS, latencies=False),
        filter_bar(seen, csv=seen.href(format="csv")),
    )
    sums = totals.now.figures
    rows: list[TableRow] = [line for line in table_rows(seen, by, table.rows, "/ui/cache") if _has_input(line)]
    return await page(
        request, "cache.html",
        bar=bar, sums=sums, tiles=_tiles(trend, totals.now.figures), drawn=_chart(seen, trend),
        rows=rows, splits=_choices(seen, "by", splits, by), orders=_choices(seen, "sort", ORDERS, sort),
        by=dict(splits)[by], size=table.size, worst=_worst(rows) if sort == ORDERS[0][0] else None,
        can_ask=_can_ask(request.app[GATEWAY]) if seen.reports.admin else (),
    )  # fmt: skip


class Worst(NamedTuple):
    """The row (such as a model or a person) for which caching saved least."""

    name: str
    row: Row
    input: int
    """Number of input tokens of all kinds."""


def _worst(rows: Sequence[TableRow]) -> Worst | None:
    """Return the row for which caching saved least, or None if there are fewer than two rows.

    This is the first of `rows`, because they are sorted by the amount saved, the smallest first.
    """
    if len(rows) < 2:
        return None
    line, sums = rows[0], rows[0].row.figures
    return Worst(line.name, line.row, sums.usage.input + sums.usage.cache_read + sums.cache_written)


def _can_ask(gateway: Gateway) -> list[str]:
    """Return the ids of the providers whose API can ask for prompt caching, but for which `auto_cache` is not set."""
    flags = gateway.registry.flags
    return [
        provider.id
        for provider in gateway.runtime.config.providers.values()
        if not (provider.disabled or provider.auto_cache)
        and any(flags[name].has_cache_marks for name in provider.flags if name in flags)
    ]


def _has_input(line: TableRow) -> bool:
    return line.row.figures.cache_share is not None


def _chart(seen: Visit, trend: Sequence[Point]) -> charts.Stacked:
    sums = [point.summary.figures for point in trend]
    amounts = {
        "Read from cache": [one.usage.cache_read for one in sums],
        "Fresh input": [one.usage.input for one in sums],
        "Written to cache": [one.cache_written for one in sums],
    }
    # the bars of the table have the colours of the chart
    return draw_series(seen, [point.span for point in trend], amounts, words.short, words.axis_count, ranked=False)


def _tiles(trend: Sequence[Point], sums: Figures) -> list[figures.Figure]:
    points = [point.summary.figures for point in trend]
    return [
        figures.Figure(
            "Input from cache", words.percent(sums.cache_share), spark=charts.spark([one.cache_share for one in points])
        ),
        figures.Figure(
            "Saved", words.money(sums.cache_saved), value=words.decimal(sums.cache_saved),
            exact=words.exact(sums.cache_saved), note="compared with fresh input",
            spark=charts.spark([max(0, one.cache_saved) for one in points]),
        ),
        _tokens("Read", sums.usage.cache_read, [one.usage.cache_read for one in points]),
        _tokens("Fresh", sums.usage.input, [one.usage.input for one in points]),
        _tokens("Written", sums.cache_written, [one.cache_written for one in points]),
    ]  # fmt: skip


def _tokens(label: str, tokens: int, course: Sequence[int]) -> figures.Figure:
    return figures.Figure(
        label, words.short(tokens), value=str(tokens), exact=words.count(tokens), note="tokens",
        spark=charts.spark(course),
    )  # fmt: skip


def _choices(seen: Visit, name: str, known: Sequence[tuple[str, str]], current: str) -> list[Choice]:
    return [Choice(f"{name}-{value}", label, seen.href(**{name: value}), value == current) for value, label in known]
