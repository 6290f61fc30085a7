"""The reports that one reader may see. An admin sees the calls of all callers, and any other reader only their own.

If the reader is no admin, each method first restricts the page's filter to the reader's login.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise, starmap
from typing import Final

import msgspec
from aiohttp import web

from gateway.call.context import GATEWAY
from gateway.contract.record import Record
from gateway.store.base import BriefSession, Page, Session, SessionQuery, Store
from gateway.store.reports.values import (
    DIMENSIONS,
    OTHERS,
    Activity,
    Chart,
    Comparison,
    Dimension,
    Errors,
    Line,
    Measure,
    ModelHealth,
    Models,
    Names,
    Point,
    Ranked,
    Row,
    Span,
    Table,
    ToolRow,
)
from gateway.web.admin.sessions import NOT_YOURS, Denied, header_rights, require_term, scope
from gateway.web.header_terms import HeaderRights
from gateway.web.query_parameters import MAX_SHOWN, BadQuery
from gateway.web.reports.page_filter import PageFilter
from gateway.web.reports.ranges import DAYS_UNTIL, cut, midnight

SORTS: Final[Mapping[str, Callable[[Row], tuple[float, ...]]]] = {
    "cost": lambda row: (row.figures.known_cost,),
    "tokens": lambda row: (row.figures.tokens,),
    "calls": lambda row: (row.figures.calls,),
    "errors": lambda row: (row.figures.errors,),
    "saved": lambda row: (row.figures.cache_saved,),
    "wasted": lambda row: (-row.figures.cache_saved, row.figures.usage.input),
    "cache_read": lambda row: (row.figures.usage.cache_read,),
    "last": lambda row: (row.last_at,),
}
"""The orders of a table, each with a function that returns a row's sort key. The highest key comes first.

In the order `wasted`, the row for which caching saved least comes first. Of rows with the same saving, the row with the
most uncached input comes first."""
BY_NAME: Final = "name"
"""The value of `sort` for alphabetical order."""
ACTIVE_DAYS: Final = 4
"""Minimum number of days with calls in a week for a person to count as regularly active."""
WEEK: Final = 7


def reports_of(request: web.Request) -> Reports:
    """Return the reports that the caller may see.

    Raises `Denied` if the caller has no role. Also raises `Denied` if the query parameter `user` names another login
    and the caller is no admin.
    """
    seen = scope(request, "user")
    return Reports(request.app[GATEWAY].store, seen.login, admin=seen.admin, headers=header_rights(request))


class Reports(msgspec.Struct, frozen=True):
    """The reports that one reader may see.

    Every method that reads from the store raises `StoreFailed` if the store cannot be read. Methods with a filter raise
    `Denied` if the filter names a login whose calls the reader may not see.
    """

    store: Store
    login: str
    admin: bool
    headers: HeaderRights
    """The recorded headers by which the reader may filter."""

    def may_see(self, login: str) -> bool:
        """Return whether the reader may see the calls of a login."""
        return self.admin or login == self.login

    def scoped(self, wanted: PageFilter) -> PageFilter:
        """Return the filter, restricted to the calls that the reader may see.

        Raises `Denied` if the filter names the login of somebody else, or a header by which the reader may not filter.
        Raises `BadQuery` if the header is not recorded.
        """
        if wanted.header is not None:
            require_term(self.headers, wanted.header)
        if self.admin:
            return wanted
        if wanted.user not in {None, self.login}:
            raise Denied(NOT_YOURS)
        return wanted.of_user(self.login)

    async def totals(self, wanted: PageFilter) -> Comparison:
        """Return the summary of the range, and of the previous range if the filter asks for a comparison."""
        wanted = self.scoped(wanted)
        (now,) = await self.store.reports.summaries(wanted.selection(), [wanted.range.span])
        if not wanted.compare:
            return Comparison(now=now, before=None)
        before = wanted.range.before
        (earlier,) = await self.store.reports.summaries(wanted.selection(before), [before])
        return Comparison(now=now, before=earlier)

    async def trend(self, wanted: PageFilter) -> tuple[Point, ...]:
        """Return the summary of each time bucket of the range, for sparklines."""
        wanted = self.scoped(wanted)
        buckets = wanted.range.buckets()
        summaries = await self.store.reports.summaries(wanted.selection(), buckets)
        return tuple(Point(span=span, summary=summary) for span, summary in zip(buckets, summaries, strict=True))

    async def chart(self, wanted: PageFilter, by: Dimension, measure: Measure, *, lines: int = 7) -> Chart:
        """Return amounts over time, such as a line for each model.

        The chart has the `lines` lines with the largest totals, and one line for the sum of all others.
        """
        wanted = self.scoped(wanted)
        buckets = wanted.range.buckets()
        stack = await self.store.reports.stack(wanted.selection(), buckets, by, measure)
        before = None
        if wanted.compare:
            earlier = wanted.range.before
            spans = wanted.range.buckets_before()
            sums = await self.store.reports.stack(wanted.selection(earlier), spans, "outcome", measure)
            total = _added(list(sums.amounts.values()), len(spans))
            before = (*total, *(0 for _ in buckets))[: len(buckets)]
        return Chart(
            measure=measure,
            by=by,
            unit=wanted.range.unit,
            buckets=buckets,
            lines=_lines(stack.amounts, len(buckets), lines),
            unknown_cost=stack.unknown_cost,
            before=before,
        )

    async def table(
        self,
        wanted: PageFilter,
        by: Dimension,
        *,
        sort: str = "cost",
        limit: int = 10,
        offset: int = 0,
        latencies: bool = True,
    ) -> Table:
        """Return one row of sums (calls, tokens, cost, ...) for each name of the dimension `by`, such as each model.
        `sort` is the order of the rows.

        If `latencies` is false, the rows have empty latencies, which halves the time of the query. Raises `BadQuery` if
        `sort` is neither a key of `SORTS` nor `BY_NAME`.
        """
        if sort != BY_NAME and sort not in SORTS:
            raise BadQuery(f'sort: "{sort[:MAX_SHOWN]}" is none of {", ".join((*SORTS, BY_NAME))}')
        wanted = self.scoped(wanted)
        rows = sorted(
            await self.store.reports.rows(wanted.selection(), by, latencies=latencies), key=lambda row: row.name
        )
        if sort != BY_NAME:
            rows.sort(key=SORTS[sort], reverse=True)
        return Table(by=by, rows=tuple(rows[offset : offset + limit]), size=len(rows))

    async def ranking(self, wanted: PageFilter, by: Dimension, measure: Measure) -> Sequence[Ranked]:
        """Return the amount of a measure for each value of a dimension, the largest first."""
        return await self.store.reports.ranking(self.scoped(wanted).selection(), by, measure)

    async def errors(self, wanted: PageFilter, *, limit: int = 100) -> Errors:
        """Return the errors over time by code and provider, and the most frequent messages."""
        wanted = self.scoped(wanted)
        return await self.store.reports.errors(wanted.selection(), wanted.range.buckets(), limit)

    async def models(self, wanted: PageFilter) -> Models:
        """Return the called models, with their sums (calls, tokens, cost, ...), errors over time and health.

        A reader who is no admin gets the last error of a model without its message, and without the id of the failed
        call.
        """
        wanted = self.scoped(wanted)
        models = await self.store.reports.models(wanted.selection(), wanted.range.buckets())
        if self.admin:
            return models
        rows = (replace(row, health=row.health and _without_call(row.health)) for row in models.rows)
        return replace(models, rows=tuple(rows))

    async def health(self) -> tuple[ModelHealth, ...]:
        """Return the last success and the last error of each model that was ever called.

        A reader who is no admin gets the last error of a model without its message, and without the id of the failed
        call.
        """
        health = await self.store.reports.health()
        return health if self.admin else tuple(map(_without_call, health))

    async def activity(self, wanted: PageFilter) -> Activity:
        """Return the number of active people in each day, week and month of the range.

        All weeks and months of the range are returned. If the range is longer than two months, only the days of its
        last two months are returned.
        """
        wanted = self.scoped(wanted)
        zone, span = wanted.zone, wanted.range.span
        first = datetime.fromtimestamp(max(span.since, span.until - DAYS_UNTIL), zone).date()
        # a day needs the six days before it
        days = cut(Span(midnight(first - timedelta(WEEK - 1), zone), span.until), "day", zone)
        weeks, months = wanted.range.buckets("week"), wanted.range.buckets("month")
        # what days, weeks and months have in common is read once
        bounds = sorted({bound for bucket in (*days, *weeks, *months) for bound in bucket})
        parts = [*starmap(Span, pairwise(bounds))]
        people = await self.store.reports.people(wanted.selection(Span(bounds[0], bounds[-1])), parts)
        # a thread counts, because many people would block the event loop for too long
        return await asyncio.to_thread(_activity, days, weeks, months, bounds, people)

    async def tools(self, wanted: PageFilter, *, limit: int = 50) -> tuple[ToolRow, ...]:
        """Return at most `limit` tools that models called, the most frequently called first."""
        return await self.store.reports.tools(self.scoped(wanted).selection(), limit)

    async def names(self) -> Names:
        """Return all names of each dimension, for the filter's fields and the command palette."""
        return await self.store.reports.names(None if self.admin else self.login)

    async def header_terms(self, limit: int) -> tuple[str, ...]:
        """Return the terms by which the reader may filter calls: each header, such as `x-team`, and at most `limit`
        headers with a value, such as `x-team:alpha`.

        The values are from calls that the reader may see.
        """
        names = self.headers.names
        if not names:
            return ()
        return await self.store.reports.header_terms(None if self.admin else self.login, names, limit)

    async def sessions(self, wanted: PageFilter, *, limit: int, cursor: str | None = None) -> Page[Session]:
        """Return the sessions that overlap the range, the newest first.

        If the filter names a session, return this session, even if it is outside the range.

        Raises `BadCursor` for a wrong cursor. Raises `Ambiguous` if several callers have a session of the filter's id.
        """
        wanted = self.scoped(wanted)
        if wanted.session is not None:
            session = await self.store.session(wanted.user, wanted.session)
            return Page((session,) if session else (), None)
        return await self.store.sessions(_query(wanted, limit, cursor))

    async def brief_sessions(self, wanted: PageFilter, *, limit: int, cursor: str | None = None) -> Page[BriefSession]:
        """Return the page that `sessions` would return, but with fewer values of each session. The CSV file of sessions
        needs only these values.
        """
        wanted = self.scoped(wanted)
        if wanted.session is not None:
            session = await self.store.session(wanted.user, wanted.session)
            return Page((session.brief(),) if session else (), None)
        return await self.store.brief_sessions(_query(wanted, limit, cursor))

    async def timeline(self, wanted: PageFilter, session: str, *, limit: int = 500) -> tuple[Record, ...]:
        """Return the last `limit` calls of a session, the oldest first."""
        page = await self.store.calls(self.scoped(wanted).user, session, limit)
        return page.rows[::-1]


def dimension_of(text: str) -> Dimension:
    """Return the dimension that a parameter names. Raises `BadQuery` if there is no such dimension."""
    for dimension in DIMENSIONS:
        if dimension == text:
            return dimension
    raise BadQuery(f'by: "{text[:MAX_SHOWN]}" is none of {", ".join(DIMENSIONS)}')


def _lines(amounts: Mapping[str, tuple[int, ...]], buckets: int, most: int) -> tuple[Line, ...]:
    """Return the lines of a chart: the `most` lines with the largest totals, and one line for the sum of all others."""
    ordered = sorted(amounts.items(), key=lambda item: (-abs(sum(item[1])), item[0]))
    lines = [Line(name=name, amounts=each, total=sum(each)) for name, each in ordered[:most]]
    if len(ordered) > most:
        rest = _added([each for _, each in ordered[most:]], buckets)
        lines.append(Line(name=OTHERS, amounts=rest, total=sum(rest)))
    return tuple(lines)


def _added(rows: Sequence[Sequence[int]], buckets: int) -> tuple[int, ...]:
    return tuple(map(sum, zip(*rows, strict=True))) if rows else (0,) * buckets


def _activity(
    days: Sequence[Span],
    weeks: Sequence[Span],
    months: Sequence[Span],
    bounds: Sequence[float],
    people: Sequence[AbstractSet[str]],
) -> Activity:
    """Return the number of active people in each day, week and month.

    `bounds` are the starts and ends of all these ranges, in order. `people[i]` has the logins that called between
    `bounds[i]` and `bounds[i + 1]`. `days` has six days before the first day of the result, because the result also
    counts the people who were active on four days of seven.
    """
    by_day = _united(days, bounds, people)
    counts = [len(logins) for logins in by_day]
    return Activity(
        days=tuple(zip(days, counts, strict=True))[WEEK - 1 :],
        weeks=tuple(zip(weeks, map(len, _united(weeks, bounds, people)), strict=True)),
        months=tuple(zip(months, map(len, _united(months, bounds, people)), strict=True)),
        four_of_seven=tuple(zip(days[WEEK - 1 :], _regular(by_day), strict=True)),
    )


def _united(
    buckets: Sequence[Span], bounds: Sequence[float], people: Sequence[AbstractSet[str]]
) -> list[AbstractSet[str]]:
    """Return the set of logins that called in each time bucket.

    `people[i]` has the logins that called between `bounds[i]` and `bounds[i + 1]`. Each bucket begins and ends at one
    of `bounds`.
    """
    return [set().union(*people[bisect_left(bounds, span.since) : bisect_left(bounds, span.until)]) for span in buckets]


def _regular(by_day: Sequence[AbstractSet[str]]) -> list[int]:
    """Return one number for each window of seven successive days: how many people were active on at least four of them.

    The windows are days 1 to 7, days 2 to 8, and so on. `by_day` has the logins of each day's calls.
    """
    active: Counter[str] = Counter()
    regular = []
    for number, day in enumerate(by_day):
        active.update(day)
        if number >= WEEK:
            active.subtract(by_day[number - WEEK])
        if number >= WEEK - 1:
            regular.append(sum(days >= ACTIVE_DAYS for days in active.values()))
    return regular


def _without_call(health: ModelHealth) -> ModelHealth:
    """Return the health without the message and the id of the failed call. The call may be somebody else's."""
    return replace(health, last_error_message="", last_error_call="")


def _query(wanted: PageFilter, limit: int, cursor: str | None) -> SessionQuery:
    return SessionQuery(wanted.user, limit, cursor, wanted.of_calls, wanted.range.span)
