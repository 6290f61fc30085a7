"""The page Now: the calls in flight, the last five minutes, and whether a restart must wait for calls."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from gateway.call.context import GATEWAY
from gateway.web.admin.reports import reports_of
from gateway.web.dashboard import charts, figures, words
from gateway.web.dashboard.frame import page
from gateway.web.query_parameters import check_names

MOST: Final = 200
"""Maximum number of calls on the page. If more are in flight, the page shows the oldest ones."""


async def now(request: web.Request) -> web.Response:
    check_names(request.query, ())
    gateway, reports = request.app[GATEWAY], reports_of(request)
    await gateway.refresh()
    calls = sorted((call for call in gateway.live_calls if reports.may_see(call.identity)), key=lambda call: call.at)
    minutes = gateway.metrics.recent.minutes(None if reports.admin else reports.login)
    cost, unknown = sum(minute.cost for minute in minutes), sum(minute.cost_unknown_calls for minute in minutes)
    known = None if unknown and not cost else cost
    tiles = [
        figures.Figure("In flight", words.short(len(calls))),
        figures.Figure(
            "Calls, last 5 min", words.short(sum(minute.calls for minute in minutes)),
            spark=charts.spark([minute.calls for minute in minutes]),
        ),
        figures.Figure(
            "Errors, last 5 min", words.short(sum(minute.errors for minute in minutes)),
            spark=charts.spark([minute.errors for minute in minutes]),
        ),
        figures.Figure(
            "Tokens, last 5 min", words.short(sum(minute.tokens for minute in minutes)),
            spark=charts.spark([minute.tokens for minute in minutes]),
        ),
        figures.Figure(
            "Cost, last 5 min", words.money(known),
            note=f"+ {words.count(unknown)} unpriced" if unknown else "", warn=True,
            spark=charts.spark([minute.cost for minute in minutes]),
        ),
    ]  # fmt: skip
    return await page(
        request, "now.html",
        calls=calls[:MOST], size=len(calls), tiles=tiles, drain=gateway.runtime.config.server.drain_seconds,
        everybody=reports.admin, leaving=gateway.is_leaving,
    )  # fmt: skip
