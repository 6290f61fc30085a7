"""The filter bar of a page: the range of time, the values that calls must have, and the zone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Final, NamedTuple

import msgspec

from gateway.store.base import HEADER
from gateway.store.reports.values import Dimension
from gateway.web.dashboard.visit import Visit
from gateway.web.reports.page_filter import OUTCOMES
from gateway.web.reports.ranges import Range

_PRESETS: Final = (
    ("today", "Today"),
    ("24h", "24 hours"),
    ("7d", "7 days"),
    ("30d", "30 days"),
    ("90d", "90 days"),
    ("month", "This month"),
    ("last-month", "Last month"),
    ("12m", "12 months"),
)
_LABELS: Final = {
    "user": "Person",
    "model": "Model",
    "provider": "Provider",
    "agent": "Client",
    "api": "Format",
    "status": "Status",
    "outcome": "Outcome",
    "header": "Header",
    "session": "Session",
}
"""The label on the page for each parameter of the filter."""
_FIELDS: Final[tuple[Dimension, ...]] = ("user", "model", "provider", "agent", "status")
"""Dimensions of the filter for which the form has a text field."""
_HINTS: Final = {"status": "any, e.g. 429 or 5xx"}
_MOST_NAMES: Final = 200
"""Maximum number of values that a text field suggests."""


class Choice(NamedTuple):
    """A link that selects one of a few values."""

    id: str
    label: str
    href: str
    current: bool


class Chip(NamedTuple):
    """A value of the page's filter. The page shows it with a link that removes the value from the filter."""

    label: str
    value: str
    without: str
    """The URL of the page without this value in the filter."""


class Field(NamedTuple):
    """A text field of the form."""

    name: str
    label: str
    value: str
    names: tuple[str, ...]
    """Values that the field suggests."""
    hint: str
    """The text in an empty field."""


class FilterBar(msgspec.Struct, frozen=True):
    """The contents of the filter bar of a page."""

    path: str
    presets: tuple[Choice, ...]
    chips: tuple[Chip, ...]
    fields: tuple[Field, ...]
    outcomes: tuple[str, ...]
    outcome: str
    first: date
    last: date
    begin: str
    end: str
    """The end of the range, as the query parameter `to`."""
    custom: bool
    days: str
    """The days of the range, with the times of day if the range does not begin and end at midnight."""
    zone: str
    utc: str
    """The URL of the page with all times in UTC. It is "" if they are in UTC already."""
    kept: tuple[tuple[str, str], ...]
    """Query parameters that the forms must keep, although they have no field for them."""
    csv: str
    """The URL of the page's table as CSV. It is "" if the page has none."""


async def filter_bar(seen: Visit, *, csv: str = "") -> FilterBar:
    """Return the filter bar of a page. `csv` is the URL of the page's table as CSV, or "" if there is none."""
    wanted = seen.filter
    no_days: dict[str, str | None] = {"from": None, "to": None}
    names = await seen.reports.names()
    terms = await seen.reports.header_terms(_MOST_NAMES)
    fields = [name for name in _FIELDS if seen.reports.admin or name != "user"]
    return FilterBar(
        path=seen.path,
        presets=tuple(
            Choice(f"range-{preset}", label, seen.href(range=preset, **no_days), wanted.range.preset == preset)
            for preset, label in _PRESETS
        ),
        chips=tuple(
            Chip(_LABELS[chip.name], chip.value, seen.href(**{chip.name: None}))
            for chip in wanted.chips
            if chip.name != "user" or seen.reports.admin
        ),
        fields=(
            *(_field(name, getattr(wanted, name) or "", names.get(name, ())) for name in fields),
            *_header_field(wanted.header or "", terms),
        ),
        outcomes=OUTCOMES,
        outcome=wanted.outcome or "",
        first=wanted.range.first,
        last=wanted.range.last,
        begin=wanted.range.begin_text,
        end=wanted.range.end_text,
        custom=wanted.range.preset == "custom",
        days=days(wanted.range.first, wanted.range.last) + _times(wanted.range),
        zone=wanted.zone.key,
        utc="" if wanted.zone.key == "UTC" else seen.href(zone="UTC"),
        kept=_kept(seen),
        csv=csv,
    )


def _field(name: Dimension, value: str, names: Sequence[str]) -> Field:
    return Field(name, _LABELS[name], value, _names(names), _HINTS.get(name, "any"))


def _header_field(value: str, terms: Sequence[str]) -> tuple[Field, ...]:
    """Return the text field for filtering by a recorded header, or () if the reader may not filter by any header.

    `value` is the content of the field, and `terms` are the terms that it suggests.
    """
    if not terms:
        return ()
    return (Field(HEADER, _LABELS[HEADER], value, tuple(terms), f"any, e.g. {terms[0]} or {terms[0]}:VALUE"),)


def _kept(seen: Visit) -> tuple[tuple[str, str], ...]:
    """Return the query parameters that the form must keep, although it has no field for them."""
    wanted = seen.filter
    given = {"api": wanted.api, "session": wanted.session, "zone": wanted.zone.key if wanted.zone_in_address else None}
    return (*seen.own.items(), *((name, value) for name, value in given.items() if value))


def _names(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name)[:_MOST_NAMES]


def _times(chosen: Range) -> str:
    """Return the times at which a range begins and ends, to be appended to its days: ", 09:00 – 12:00". Return "" if
    both are midnight.
    """
    if not chosen.has_times:
        return ""
    since, until = (datetime.fromtimestamp(at, chosen.zone) for at in (chosen.span.since, chosen.span.until))
    return f", {since:%H:%M} – {until:%H:%M}"


def days(first: date, last: date) -> str:
    """Return the days of a range, such as "17 – 23 Nov 2026"."""
    end = f"{last.day} {last:%b %Y}"
    if first == last:
        return end
    if first.year != last.year:
        return f"{first.day} {first:%b %Y} – {end}"
    return f"{first.day} – {end}" if first.month == last.month else f"{first.day} {first:%b} – {end}"
