"""A request for a page with reports: the filter in the query, and the reports that the reader may see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import time
from typing import Final
from urllib.parse import unquote
from zoneinfo import ZoneInfo

from aiohttp import web

from gateway.web.admin.reports import Reports, reports_of
from gateway.web.query_parameters import BadQuery
from gateway.web.reports.page_filter import PageFilter, parse_filter, zone_named
from gateway.web.reports.ranges import UTC_ZONE

ZONE_COOKIE: Final = "zone"
"""Cookie in which the pages' script keeps the reader's time zone."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A request for a page with reports: the reader's reports, and the filter in the query."""

    request: web.Request
    reports: Reports
    filter: PageFilter
    own: Mapping[str, str] = field(default_factory=dict)
    """The page's own query parameters, such as the measure of a chart."""

    @property
    def path(self) -> str:
        return self.request.path

    def href(self, **changes: str | None) -> str:
        """Return the URL of this page with changed parameters. None removes a parameter."""
        return f"{self.path}?{self.filter.query(**{**self.own, **changes})}"

    def choice(self, name: str, known: tuple[str, ...]) -> str:
        """Return the value of one of the page's query parameters. If the query does not have the parameter, return
        `known[0]`.

        Raises `BadQuery` if the value is not in `known`.
        """
        value = self.own.get(name, known[0])
        if value not in known:
            raise BadQuery(f'{name}: "{value[:50]}" is none of {", ".join(known)}')
        return value


def visit(request: web.Request, *own: str) -> Visit:
    """Return the `Visit` of a request for a page. `own` names the query parameters that only this page has.

    Raises `Denied` if the caller has no role, and `BadQuery` if a parameter is wrong.
    """
    reports = reports_of(request)
    wanted = parse_filter(request.query, now=time(), zone=_zone(request), others=own)
    return Visit(request, reports, wanted, {name: request.query[name] for name in own if request.query.get(name)})


def reader_zone(request: web.Request) -> ZoneInfo:
    """Return the time zone of a page: the zone in the query, else the reader's own zone, else UTC."""
    return zone_named(request.query.get("zone", "")) or zone_named(_zone(request)) or UTC_ZONE


def _zone(request: web.Request) -> str:
    return unquote(request.cookies.get(ZONE_COOKIE, ""))[:100]
