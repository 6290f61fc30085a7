"""The page People: how many people are active, and the calls, tokens and cost of each person. Only admins see it."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from gateway.store.reports.values import Span
from gateway.web.admin.sessions import Denied
from gateway.web.dashboard import charts, figures, words
from gateway.web.dashboard.columns import slots
from gateway.web.dashboard.csv_pages import FORMAT, csv_page, wants_csv
from gateway.web.dashboard.filter_bar import filter_bar
from gateway.web.dashboard.frame import page
from gateway.web.dashboard.rows import COLUMNS, SORTS, cells, head, table_rows
from gateway.web.dashboard.visit import Visit, visit

ROWS: Final = 100
"""Maximum number of people on the page."""
MOST: Final = 100_000
"""Maximum number of people in the CSV."""


async def people(request: web.Request) -> web.StreamResponse:
    seen = visit(request, "sort", FORMAT)
    if not seen.reports.admin:
        raise Denied("access denied: only an admin may see what others called; your own calls are on the overview")
    sort = seen.choice("sort", SORTS)
    if wants_csv(seen):
        table = await seen.reports.table(seen.filter, "user", sort=sort, limit=MOST)
        return await csv_page(seen, "people", ("login", *COLUMNS), ((row.name, *cells(row)) for row in table.rows))
    table, activity, bar = await asyncio.gather(
        seen.reports.table(seen.filter, "user", sort=sort, limit=ROWS, latencies=False),
        seen.reports.activity(seen.filter),
        filter_bar(seen, csv=seen.href(format="csv")),
    )
    counts = (
        ("Active on the last day", activity.days),
        ("Week so far", activity.weeks),
        ("Month so far", activity.months),
        ("On 4 of 7 days", activity.four_of_seven),
    )
    # a thread makes them, because hundreds of links would block the event loop for too long
    drawn = await asyncio.to_thread(_chart, seen, activity.days)
    rows = await asyncio.to_thread(table_rows, seen, "user", table.rows, "/ui/")
    return await page(
        request, "people.html",
        bar=bar, tiles=[_tile(label, days) for label, days in counts], drawn=drawn, rows=rows, size=table.size,
        head=head(seen, sort),
    )  # fmt: skip


def _tile(label: str, counts: tuple[tuple[Span, int], ...]) -> figures.Figure:
    last = counts[-1][1] if counts else 0
    return figures.Figure(label, words.short(last), spark=charts.spark([count for _, count in counts]))


def _chart(seen: Visit, days: tuple[tuple[Span, int], ...]) -> charts.Stacked | None:
    if not any(count for _, count in days):
        return None
    series = [charts.Series("Active people", tuple(count for _, count in days))]
    return charts.stacked(slots(seen, [span for span, _ in days], "day"), series, words.count, words.axis_count)
