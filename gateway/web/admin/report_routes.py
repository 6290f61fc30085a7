"""GET /api/reports/totals, /chart, /table and /errors: the numbers that the HTML pages show, as JSON.

- The query has the same filter as the pages (`web/reports/page_filter.py`), such as `?range=7d&model=`.
- Users get the numbers of their own calls, and admins get those of all calls (`reports.py`).
- Money is in dollars. Times are in UTC, but days begin at midnight of the filter's zone.
"""

from __future__ import annotations

from time import time
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.contract.record import dollars
from gateway.store.base import rfc3339
from gateway.store.reports.values import MEASURES, OTHERS, Figures, Latency, Measure, MessageRow, Row, Span, Summary
from gateway.web.admin.reports import Reports, dimension_of, reports_of
from gateway.web.admin.sessions import errors_as_json, limit_of
from gateway.web.query_parameters import MAX_SHOWN, BadQuery
from gateway.web.reports.page_filter import PageFilter, parse_filter

_IN_DOLLARS: Final = frozenset({"cost", "saved"})
"""Measures that are amounts of money."""


def routes() -> list[web.RouteDef]:
    return [
        web.get("/api/reports/totals", errors_as_json(totals)),
        web.get("/api/reports/chart", errors_as_json(chart)),
        web.get("/api/reports/table", errors_as_json(table)),
        web.get("/api/reports/errors", errors_as_json(errors)),
    ]


async def totals(request: web.Request) -> web.Response:
    """Return the sums of the range. With `?compare=1`, return the sums of the previous range too."""
    reports, wanted = _asked(request)
    report = await reports.totals(wanted)
    before = None if report.before is None else _summary(report.before)
    return _json({"range": _range(wanted), "now": _summary(report.now), "before": before})


async def chart(request: web.Request) -> web.Response:
    """Return amounts over time: a line for each value of a dimension, such as each model.

    If there are many values, the values with the smallest amounts are added up in one line.
    """
    reports, wanted = _asked(request, "by", "measure")
    measure = _measure(request.query.get("measure") or MEASURES[0])
    report = await reports.chart(wanted, dimension_of(request.query.get("by") or "model"), measure)

    def amounts(values: tuple[int, ...]) -> list[float | int | None]:
        return [dollars(value) if measure in _IN_DOLLARS else value for value in values]

    return _json({
        "range": _range(wanted),
        "by": report.by,
        "measure": report.measure,
        "unit": report.unit,
        "buckets": list(map(_span, report.buckets)),
        "lines": [
            {"name": None if line.name == OTHERS else line.name, "amounts": amounts(line.amounts)}
            for line in report.lines
        ],
        "cost_unknown_calls": list(report.unknown_cost),
        "before": None if report.before is None else amounts(report.before),
    })  # fmt: skip


async def table(request: web.Request) -> web.Response:
    """Return a row of sums (calls, tokens, cost, ...) for each model, user or other dimension, in the order of
    `?sort=`.
    """
    reports, wanted = _asked(request, "by", "sort", "limit")
    by, sort = dimension_of(request.query.get("by") or "model"), request.query.get("sort") or "cost"
    report = await reports.table(wanted, by, sort=sort, limit=limit_of(request.query))
    return _json({"range": _range(wanted), "by": by, "rows": list(map(_row, report.rows)), "size": report.size})


async def errors(request: web.Request) -> web.Response:
    """Return the errors over time by code and provider, and the most frequent messages."""
    reports, wanted = _asked(request, "limit")
    report = await reports.errors(wanted, limit=limit_of(request.query))
    return _json({
        "range": _range(wanted),
        "buckets": list(map(_span, report.buckets)),
        "lines": [
            {"code": row.code, "provider": row.provider, "calls": row.calls, "amounts": list(row.amounts)}
            for row in report.rows
        ],
        "messages": list(map(_message, report.messages)),
    })  # fmt: skip


def _asked(request: web.Request, *own: str) -> tuple[Reports, PageFilter]:
    """Return the caller's reports and the filter. Raises `Denied` or `BadQuery` if the request is refused.

    A filter by session is refused, because sums are not kept by session.
    """
    reports, wanted = reports_of(request), parse_filter(request.query, now=time(), others=own)
    if wanted.session is not None:
        raise BadQuery("session: sums are not kept by session; /api/sessions has the sums of each session")
    return reports, wanted


def _measure(text: str) -> Measure:
    for measure in MEASURES:
        if measure == text:
            return measure
    raise BadQuery(f'measure: "{text[:MAX_SHOWN]}" is none of {", ".join(MEASURES)}')


def _range(wanted: PageFilter) -> dict[str, Any]:
    chosen = wanted.range
    return {"preset": chosen.preset, **_span(chosen.span), "zone": chosen.zone.key}


def _span(span: Span) -> dict[str, str]:
    return {"since": rfc3339(span.since), "until": rfc3339(span.until)}


def _summary(summary: Summary) -> dict[str, Any]:
    latencies = {"duration": _latency(summary.duration), "first_event": _latency(summary.first_event)}
    return {**_figures(summary.figures), **latencies, "people": summary.people}


def _row(row: Row) -> dict[str, Any]:
    latencies = {"duration": _latency(row.duration), "first_event": _latency(row.first_event)}
    return {"name": row.name, **_figures(row.figures), **latencies}


def _figures(figures: Figures) -> dict[str, Any]:
    counts = {"errors": figures.errors, "refused": figures.refused, "cancelled": figures.cancelled}
    return {**figures.totals(), **counts}


def _latency(latency: Latency) -> dict[str, float | int | None]:
    return {"calls": latency.calls, "p50_ms": latency.p50, "p95_ms": latency.p95}


def _message(row: MessageRow) -> dict[str, Any]:
    return {
        "code": row.code,
        "native": row.native,
        "provider": row.provider,
        "message": row.message,
        "calls": row.calls,
        "example": row.example,
        "last_at": rfc3339(row.last_at),
    }


def _json(data: Any) -> web.Response:
    return web.Response(body=orjson.dumps(data), content_type="application/json", headers={"cache-control": "no-store"})
