"""The page Errors: the number of errors over time by code and provider, and a table of the error messages. Each message
has an example call and advice.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from aiohttp import web

from gateway.contract import errors as codes
from gateway.store.base import rfc3339
from gateway.store.reports.values import MessageRow
from gateway.web.dashboard import words
from gateway.web.dashboard.columns import draw_series
from gateway.web.dashboard.csv_pages import FORMAT, MOST, csv_page, wants_csv
from gateway.web.dashboard.filter_bar import filter_bar
from gateway.web.dashboard.frame import page
from gateway.web.dashboard.links import call_href
from gateway.web.dashboard.visit import visit

ADVICE: Final = {
    codes.INVALID_REQUEST: "The client sent something that the model or its API does not accept. The message names the "
    "field; another model may accept it.",
    codes.PERMISSION: "No grant covers the caller or the model. The page Access names the missing grant.",
    codes.BLOCKED: "A filter of the configuration did not let the call pass. Change the text, or the settings of the "
    "filter.",
    codes.NOT_FOUND: "The name of the model is not known, or not granted. Names are exact; Connect lists them.",
    codes.NO_ROUTE: "The client called a path that the gateway does not serve. Connect has the right base URL.",
    codes.TOO_LARGE: "The request is larger than the gateway or the model allows. Shorten the conversation, or raise "
    '"body_bytes" if the gateway refused it.',
    codes.UNSUPPORTED_CODING: "The client compressed its request in a way that the gateway does not read.",
    codes.REQUEST_TIMEOUT: "The client did not finish its request in time. Look at the client's network.",
    codes.TIMEOUT: "The provider did not answer in time. If it happens often, add a second provider with the model.",
    codes.RATE_LIMIT: "Too many requests or tokens in a short time. Ask the provider for more, or spread calls over "
    "two regions by an alias.",
    codes.QUOTA: "The money of a bucket is spent. The page Quotas says when it fills; an admin can refill it.",
    codes.OVERLOADED: "The provider is busy. Calls are tried again; a second provider with the model helps.",
    codes.UNAVAILABLE: "The provider cannot be reached, or the gateway is stopping. Check its address and the network.",
    codes.UPSTREAM: "The provider refuses the gateway's key, or its reply was cut. Renew the key under Models.",
    codes.PLUGIN: "A plugin has a fault. The log event plugin.failed has the cause.",
    codes.INTERNAL: "The gateway or the provider has a fault. The log has it by the id of the call.",
}
"""Advice about an error, by its code."""


COLUMNS: Final = ("code", "native", "provider", "message", "calls", "last_at", "example")
"""Columns of the CSV file of error messages."""


class Message(NamedTuple):
    """A row of the page's table of error messages."""

    row: MessageRow
    advice: str
    example: str
    """The URL of the page of the last call with the error."""


async def errors(request: web.Request) -> web.StreamResponse:
    seen = visit(request, "hide", FORMAT)
    if wants_csv(seen):
        whole = await seen.reports.errors(seen.filter, limit=MOST)
        return await csv_page(seen, "errors", COLUMNS, map(_cells, whole.messages))
    report, totals, bar = await asyncio.gather(
        seen.reports.errors(seen.filter),
        seen.reports.totals(seen.filter),
        filter_bar(seen, csv=seen.href(format="csv")),
    )
    drawn = None
    if report.rows:
        amounts = {_name(row.code, row.provider): row.amounts for row in report.rows}
        drawn = draw_series(seen, report.buckets, amounts, words.count, words.axis_count)
    return await page(
        request, "errors.html",
        bar=bar, drawn=drawn, messages=[_message(row) for row in report.messages], figures=totals.now.figures,
    )  # fmt: skip


def _cells(row: MessageRow) -> tuple[str | int, ...]:
    return row.code, row.native, row.provider, row.message, row.calls, rfc3339(row.last_at), row.example


def _name(code: str, provider: str) -> str:
    return f"{code} · {provider or 'gateway'}"


def _message(row: MessageRow) -> Message:
    return Message(row, ADVICE.get(row.code, ""), call_href(row.example) if row.example else "")
