"""The filter in the query of a page: a range of time, a zone, and values that calls must have.

All pages share the parameters, and links between pages keep them. `gateway/web/admin/reports.py` decides which calls a
caller may see.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Final, NamedTuple, cast
from urllib.parse import urlencode
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from multidict import MultiMapping

from gateway.contract.record import LOST
from gateway.store.base import HEADER
from gateway.store.reports.values import QUARTER, Selection, Span
from gateway.web.header_terms import parse_term
from gateway.web.query_parameters import MAX_SHOWN, BadQuery, check_names
from gateway.web.reports.ranges import PRESETS, UTC_ZONE, Preset, Range, custom_range, moments_range, preset_range

OUTCOMES: Final = ("ok", "refused", "failed", "cancelled", LOST)
VALUES: Final = ("user", "model", "provider", "agent", "api", "status", "outcome", HEADER, "session")
"""Query parameters that select calls by a value, such as a model, in the order in which a page shows them."""
PARAMETERS: Final = ("range", "from", "to", "zone", "compare", *VALUES)
DEFAULT_RANGE: Final = "7d"
MAX_VALUE: Final = 1024
"""Maximum number of characters of a value. No name or id in the store is longer."""
MAX_DAYS: Final = 5 * 366
"""Maximum number of days of a range."""
_FIRST_YEAR: Final = 2000
"""The earliest year that a range may contain. The store keeps sums by quarter hours of UTC. In earlier years, some time
zones had offsets that are no multiple of 15 minutes.
"""
_LAST_YEAR: Final = 9000
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT: Final = re.compile(_DAY.pattern + r"T[0-9]{2}:[0-9]{2}(?:Z|[+-][0-9]{2}:[0-9]{2})?")
_STATUS: Final = re.compile(r"[1-5](?:xx|[0-9]{2})")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")


class Chip(NamedTuple):
    """One value by which a page is filtered.

    `without` is the query string of the same page without this value, for the link that removes the value.
    """

    name: str
    value: str
    without: str


@dataclass(frozen=True, slots=True)
class PageFilter:
    """The filter of a page. A value that is None does not restrict the calls."""

    range: Range
    user: str | None = None
    """Login of the caller. It is "" for callers without a login."""
    model: str | None = None
    provider: str | None = None
    agent: str | None = None
    api: str | None = None
    status: str | None = None
    """An HTTP status such as "429", or a class such as "5xx"."""
    outcome: str | None = None
    header: str | None = None
    """Term of a recorded header (`web/header_terms.py`), such as "x-team" or "x-team:alpha"."""
    session: str | None = None
    compare: bool = False
    """Whether the page compares its numbers with the previous range of time."""
    zone_in_address: bool = False
    """Whether the query names the zone."""

    @property
    def zone(self) -> ZoneInfo:
        return self.range.zone

    def selection(self, span: Span | None = None) -> Selection:
        """Return this filter as a `Selection`, for queries to the store. If `span` is given, it replaces the range of
        time.
        """
        return Selection(
            span=span or self.range.span,
            user=self.user,
            provider=self.provider,
            model=self.model,
            agent=self.agent,
            api=self.api,
            status=_statuses(self.status) if self.status else None,
            outcome=self.outcome,
            header=self.header,
        )

    @property
    def of_calls(self) -> dict[str, str | int]:
        """The values of a call's fields that the filter requires. The login is left out.

        A key is the name of a field (`CALL_FILTERS` in `store/rows.py`), or `HEADER` for a recorded header.
        """
        names = ("provider", "model", "agent", "api", "outcome", HEADER)
        values: dict[str, str | int] = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.status is not None:
            is_class = self.status.endswith("xx")
            values["status_class" if is_class else "status"] = int(self.status[0] if is_class else self.status)
        return values

    def query(self, **changes: str | None) -> str:
        """Return the query string of a page with this filter and changed parameters. None removes a parameter."""
        parameters: dict[str, str | None] = {"range": self.range.preset}
        if self.range.preset == "custom":
            parameters |= {"from": self.range.begin_text, "to": self.range.end_text}
        if self.zone_in_address:
            parameters["zone"] = self.zone.key
        if self.compare:
            parameters["compare"] = "1"
        parameters |= {name: getattr(self, name) for name in VALUES}
        given = {**parameters, **changes}
        return urlencode({name: value for name, value in given.items() if value is not None})

    @property
    def chips(self) -> tuple[Chip, ...]:
        """The values of the filter, in the order of `VALUES`."""
        given = ((name, getattr(self, name)) for name in VALUES)
        return tuple(Chip(name, value, self.query(**{name: None})) for name, value in given if value is not None)

    def of_user(self, login: str) -> PageFilter:
        """Return a copy of the filter for the calls of one login."""
        return replace(self, user=login)


def parse_filter(query: MultiMapping[str], *, now: float, zone: str = "", others: tuple[str, ...] = ()) -> PageFilter:
    """Return the filter in the query parameters of a page. Raises `BadQuery` if a parameter is wrong.

    `zone` is the name of the time zone to use if the query has no parameter `zone`. If there is no zone of this name,
    UTC is used. `others` are the names of the page's own parameters. An empty parameter counts as absent.
    """
    check_names(query, (*PARAMETERS, *others))
    given = {name: value for name in PARAMETERS if (value := query.get(name))}
    for name, value in given.items():
        if len(value) > MAX_VALUE:
            raise BadQuery(f"{name}: is longer than {MAX_VALUE} characters")
        if "\x00" in value or _SURROGATE.search(value):
            raise BadQuery(f"{name}: has a character that no name has")
    return PageFilter(
        range=_range(given, _zone_of(given, zone), now),
        **{name: given.get(name) for name in VALUES if name not in {"status", "outcome", HEADER}},
        status=_one("status", given, _STATUS, "an HTTP status such as 429, or a class such as 5xx"),
        outcome=_outcome(given),
        header=parse_term(given[HEADER]) if HEADER in given else None,
        compare=_flag("compare", given),
        zone_in_address="zone" in given,
    )


def _range(given: Mapping[str, str], zone: ZoneInfo, now: float) -> Range:
    has_days = "from" in given or "to" in given
    preset = given.get("range", "custom" if has_days else DEFAULT_RANGE)
    if preset not in PRESETS:
        raise BadQuery(f'range: "{preset[:MAX_SHOWN]}" is none of {", ".join(PRESETS)}')
    if preset != "custom":
        if has_days:
            raise BadQuery(f"range: {preset} has its own days; leave out from and to, or write range=custom")
        return preset_range(cast("Preset", preset), zone, now)
    if any(_MOMENT.fullmatch(given.get(name, "")) for name in ("from", "to")):
        return _moments(given, zone)
    today = preset_range("today", zone, now).last
    last = _day("to", given) or max(today, _day("from", given) or today)
    first = _day("from", given) or last
    if first > last:
        raise BadQuery(f'from: "{first}" is later than "to", which is "{last}"; exchange them')
    if (last - first).days >= MAX_DAYS:
        raise BadQuery(f"from: the range has more than {MAX_DAYS} days; choose a later first day")
    return custom_range(first, last, zone)


def _moments(given: Mapping[str, str], zone: ZoneInfo) -> Range:
    """Return the range between the times `from` and `to` in the query parameters `given`. A time without an offset from
    UTC is in the time zone `zone`.
    """
    since, until = (_moment(name, given, zone) for name in ("from", "to"))
    if since >= until:
        raise BadQuery(f'from: "{given["from"]}" is not before "to", which is "{given["to"]}"; exchange them')
    if until - since > MAX_DAYS * 86_400:
        raise BadQuery(f"from: the range has more than {MAX_DAYS} days; choose a later first day")
    return moments_range(since, until, zone)


def _moment(name: str, given: Mapping[str, str], zone: ZoneInfo) -> float:
    text = given.get(name, "")
    try:
        moment = datetime.fromisoformat(text) if _MOMENT.fullmatch(text) else None
    except ValueError:
        moment = None
    if moment is None or not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise BadQuery(f'{name}: "{text[:MAX_SHOWN]}" is no moment; write one such as 2026-11-23T14:00')
    at = (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()
    if at % QUARTER:
        raise BadQuery(f'{name}: "{text[:MAX_SHOWN]}" is no quarter of an hour; sums are kept by quarters')
    return at


def _day(name: str, given: Mapping[str, str]) -> date | None:
    text = given.get(name)
    if text is None:
        return None
    try:
        day = date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        day = None
    if day is None or not _FIRST_YEAR <= day.year <= _LAST_YEAR:
        raise BadQuery(f'{name}: "{text[:MAX_SHOWN]}" is no day; write one such as 2026-11-23')
    return day


def _zone_of(given: Mapping[str, str], default: str) -> ZoneInfo:
    if "zone" not in given:
        return zone_named(default) or UTC_ZONE
    if (zone := zone_named(given["zone"])) is None:
        raise BadQuery(f'zone: "{given["zone"][:MAX_SHOWN]}" is no time zone; write one such as Europe/Berlin or UTC')
    return zone


def zone_named(name: str) -> ZoneInfo | None:
    """Return the zone called `name` in the IANA database, or None if there is no such zone."""
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _outcome(given: Mapping[str, str]) -> str | None:
    outcome = given.get("outcome")
    if outcome is not None and outcome not in OUTCOMES:
        raise BadQuery(f'outcome: "{outcome[:MAX_SHOWN]}" is none of {", ".join(OUTCOMES)}')
    return outcome


def _one(name: str, given: Mapping[str, str], form: re.Pattern[str], right: str) -> str | None:
    text = given.get(name)
    if text is not None and not form.fullmatch(text):
        raise BadQuery(f'{name}: "{text[:MAX_SHOWN]}" is not {right}')
    return text


def _flag(name: str, given: Mapping[str, str]) -> bool:
    text = given.get(name, "0")
    if text not in {"0", "1"}:
        raise BadQuery(f'{name}: "{text[:MAX_SHOWN]}" is neither 0 nor 1')
    return text == "1"


def _statuses(status: str) -> tuple[int, int]:
    """Return the lowest and the highest status that match, such as (500, 599) for "5xx" or (429, 429) for "429"."""
    return (int(status[0]) * 100, int(status[0]) * 100 + 99) if status.endswith("xx") else (int(status), int(status))
