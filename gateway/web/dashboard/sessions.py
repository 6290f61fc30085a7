"""The pages of sessions, and of one session with a timeline of its calls.

`web/admin/sessions.py` decides which rows a caller may see.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from aiohttp import web

from gateway.call.context import GATEWAY
from gateway.contract.record import NANODOLLARS, Record
from gateway.store.base import BriefSession, Session, rfc3339
from gateway.web.admin.sessions import Missing, limit_of, scope
from gateway.web.dashboard import charts, words
from gateway.web.dashboard.csv_pages import FORMAT, MOST, csv_page_in_steps, wants_csv
from gateway.web.dashboard.filter_bar import filter_bar
from gateway.web.dashboard.frame import page
from gateway.web.dashboard.links import call_href, session_href
from gateway.web.dashboard.samples import sample_call
from gateway.web.dashboard.visit import Visit, reader_zone, visit
from gateway.web.reports.csv_files import LINE_END, texts_as_csv

PAUSE_SECONDS: Final = 300
"""Seconds without a call after which the timeline shows a pause. By default, providers keep a cached prompt for five
minutes, so the first call after a pause may not find its prompt in the cache."""
_LEAST_WIDTH: Final = 0.8
"""Width of the shortest bar, in percent of the longest bar."""
_KINDS: Final = ("Read from cache", "Fresh input", "Written to cache", "Output")
"""Kinds of tokens, in the order of the chart. The page Cache has the same order, and thereby the same colours."""


COLUMNS: Final = (
    "session", "login", "agent", "providers", "models", "calls", "failed", "input", "output", "cache_read",
    "cache_written", "cost_usd", "cost_unknown_calls", "saved_usd", "started_at", "last_at",
)  # fmt: skip
"""Columns of the CSV file of sessions."""
STEP: Final = 1_000
"""Number of sessions that are read from the store together, for the CSV file."""


class Spent(NamedTuple):
    """The total cost of some calls: the sum of the known costs in nanodollars, and the number of calls with an unknown
    cost.
    """

    known: int
    unknown_calls: int

    @property
    def cost(self) -> int | None:
        """The known cost in nanodollars. It is None if no cost is known."""
        return None if self.unknown_calls and not self.known else self.known

    def plus(self, cost: int | None) -> Spent:
        return Spent(self.known + (cost or 0), self.unknown_calls + (cost is None))


class Step(NamedTuple):
    """A call in the timeline of a session."""

    call: Record
    href: str
    pause: str
    """The time between the previous call and this one, in words. It is "" if it is shorter than `PAUSE_SECONDS`."""
    wait: float
    """Width of the first part of the call's bar, for the time before the first event of the reply. It is in percent of
    the width of the longest bar.
    """
    reply: float
    """Width of the second part of the call's bar, for the time from the first event to the end of the reply. It is in
    percent of the width of the longest bar.
    """
    spent: Spent | None
    """The session's cost up to and including this call.

    It is known only on the first page, which has the newest calls. On any other page, it is None.
    """


async def sessions(request: web.Request) -> web.StreamResponse:
    seen = visit(request, "limit", "cursor", FORMAT)
    if wants_csv(seen):
        return await csv_page_in_steps(seen, "sessions", COLUMNS, _steps_of_file(seen), _line)
    cursor = request.query.get("cursor")
    listing, bar = await asyncio.gather(
        seen.reports.sessions(seen.filter, limit=limit_of(request.query), cursor=cursor),
        filter_bar(replace(seen, own={}), csv=seen.href(format="csv", cursor=None, limit=None)),
    )
    return await page(
        request, "sessions.html",
        rows=listing.rows, bar=bar, cursor=cursor, curl=await sample_call(request),
        newest=seen.href(cursor=None) if cursor else "", older=seen.href(cursor=listing.next) if listing.next else "",
    )  # fmt: skip


async def _steps_of_file(seen: Visit) -> AsyncIterator[Sequence[BriefSession]]:
    """Yield the sessions for the CSV file, in groups of at most `STEP` sessions. Each group is read from the store when
    it is needed.
    """
    cursor = None
    for _ in range(0, MOST, STEP):
        part = await seen.reports.brief_sessions(seen.filter, limit=STEP, cursor=cursor)
        yield part.rows
        cursor = part.next
        if cursor is None:
            return


def _line(row: BriefSession) -> str:
    """Return the line of the CSV file for a session, with the columns `COLUMNS`."""
    texts = texts_as_csv(row.id, row.identity, row.agent, " ".join(row.providers), " ".join(row.models))
    unknown = row.cost_unknown_calls
    cost = "" if unknown and not row.known_cost else row.known_cost / NANODOLLARS
    return (
        f"{texts},{row.calls},{row.failed},{row.input},{row.output},{row.cache_read},"
        f"{row.cache_write_5m + row.cache_write_1h},{cost},{unknown},{row.cache_saved / NANODOLLARS},"
        f"{rfc3339(row.started_at)},{rfc3339(row.last_at)}{LINE_END}"
    )


async def session(request: web.Request) -> web.Response:
    """Return a page of a session's calls. The first page has the newest calls. A page shows its oldest call first."""
    seen = scope(request)
    store = request.app[GATEWAY].store
    name = request.match_info.get("id") or request.query.get("id", "")
    row = await store.session(seen.identity, name)
    if row is None:
        raise Missing(f'There is no session "{name[:200]}", or it is not yours.')
    cursor = request.query.get("cursor")
    calls = await store.calls(row.identity, row.id, limit_of(request.query), cursor)
    # a thread makes them, because two hundred steps would block the event loop for too long
    steps, drawn = await asyncio.to_thread(_drawn, row, calls.rows, reader_zone(request), newest=cursor is None)
    owner = row.identity if seen.admin else None
    return await page(
        request, "session.html",
        session=row, steps=steps, drawn=drawn, cursor=cursor, current="/ui/sessions",
        newest=session_href(row.id, owner) if cursor else "",
        older=session_href(row.id, owner, calls.next) if calls.next else "",
        tools=sorted(row.tools.items(), key=lambda item: (-item[1], item[0])),
    )  # fmt: skip


def _drawn(
    session: Session, newest_first: Sequence[Record], zone: ZoneInfo, *, newest: bool
) -> tuple[list[Step], charts.Stacked | None]:
    """Return the steps of a timeline, and a chart of their tokens.

    `newest` is True if the page shows the newest calls of the session. On other pages, the steps have no cost.
    """
    steps = [*timeline(session, newest_first, newest=newest)]
    return steps, _chart(steps, zone)


def timeline(session: Session, newest_first: Sequence[Record], *, newest: bool) -> Iterator[Step]:
    """Yield the calls of a page as steps of a timeline, the oldest first. `newest_first` are these calls.

    `newest` is True if the page shows the newest calls of the session. On other pages, the steps have no cost.
    """
    calls = newest_first[::-1]
    longest = max((call.duration_ms for call in calls), default=0) or 1
    spent = _before(session, calls) if newest else None
    before = None
    for call in calls:
        idle = 0.0 if before is None else call.at - before
        before = max(before or 0.0, call.at + max(0.0, call.duration_ms) / 1000)
        spent = spent and spent.plus(call.cost)
        whole = max(_LEAST_WIDTH, 100 * max(0.0, call.duration_ms) / longest)
        first = call.first_event_ms if call.first_event_ms is not None else call.duration_ms
        wait = whole * min(1.0, max(0.0, first) / call.duration_ms) if call.duration_ms > 0 else whole
        yield Step(
            call=call,
            href=call_href(call.id),
            pause=words.span(idle) if idle >= PAUSE_SECONDS else "",
            wait=round(wait, 2),
            reply=round(whole - wait, 2),
            spent=spent,
        )


def _before(session: Session, calls: Sequence[Record]) -> Spent:
    """Return the cost of the calls before `calls`. `calls` must include the newest call of the session."""
    costs = [call.cost for call in calls]
    return Spent(session.known_cost - sum(filter(None, costs)), session.cost_unknown_calls - costs.count(None))


def _chart(steps: Sequence[Step], zone: ZoneInfo) -> charts.Stacked | None:
    """Return a chart with a column of tokens for each call, or None if there are fewer than two calls."""
    if len(steps) < 2:
        return None
    times = [words.clock(step.call.at, zone) for step in steps]
    slots = [
        charts.Slot(f"Call at {text}", text[11:16], "", "", step.href) for text, step in zip(times, steps, strict=True)
    ]
    usages = [step.call.usage for step in steps]
    amounts = (
        tuple(usage.cache_read for usage in usages),
        tuple(usage.input for usage in usages),
        tuple(usage.cache_write_5m + usage.cache_write_1h for usage in usages),
        tuple(usage.output for usage in usages),
    )
    series = [charts.Series(name, values) for name, values in zip(_KINDS, amounts, strict=True)]
    return charts.stacked(slots, series, words.short, words.axis_count)
