"""The parameters of a request for usage: groups, days or hours, and filters.

The HTTP API and the command use the same parser. Days and hours are in UTC. A range includes its first and its last day
or hour. This file does not decide whose calls a caller may see.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple, cast

import msgspec

from gateway.store.base import GROUPS, HEADER, UsageQuery
from gateway.web.header_terms import parse_term
from gateway.web.query_parameters import BadQuery

Format = Literal["json", "csv"]

PARAMETERS: Final = ("by", "from", "to", "user", "model", "provider", "agent", HEADER, "format")
FORMATS: Final = ("json", "csv")
HOURS_OF_DAYS: Final = 7
"""Number of days that a report by hour covers if the request has no `from`. A report over all stored hours would be too
long.
"""
MAX_SHOWN: Final = 50
"""Maximum number of characters of a wrong value in an error message."""

_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_HOUR: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2})(?::00Z?|Z)?")
_DAY_SECONDS: Final = 86_400
_HOUR_SECONDS: Final = 3_600
_SAMPLE_DAY: Final = "2026-11-23"
_SAMPLE_HOUR: Final = "2026-11-23T12:00Z"


class BadUsage(ValueError):
    """The error for a wrong parameter. The message begins with the parameter's name and says which values are right."""


class UsageRequest(msgspec.Struct, frozen=True):
    """A request for usage, as parsed from its parameters."""

    query: UsageQuery
    first: str | None
    """The first day or hour, in the form that the rows of the answer use. It is None if the request has no start."""
    last: str | None
    """The last day or hour. Its calls are included. It is None if the request has no end."""
    format: Format = "json"


def parse_parameters(parameters: Mapping[str, str], *, now: float | None = None) -> UsageRequest:
    """Return the parsed request. Empty parameters are ignored. Raises `BadUsage` if a parameter is wrong.

    `now` (Unix time in seconds) is used for a request by hour without `from`. The request then begins on the day that
    is `HOURS_OF_DAYS` days before `to`, or before `now` if there is no `to`. If `now` is None, such a request has no
    start.
    """
    if unknown := sorted(set(parameters) - set(PARAMETERS)):
        raise BadUsage(f"{unknown[0][:MAX_SHOWN]}: is no parameter; there are {_list(PARAMETERS)}")
    by = _groups(parameters.get("by", ""))
    since = _time("from", parameters.get("from", ""), hours="hour" in by)
    until = _time("to", parameters.get("to", ""), hours="hour" in by)
    if "hour" in by and since is None and now is not None:
        since = _days_before(until.end if until else now)
    if since and until and since.at >= until.end:
        raise BadUsage(f'from: "{since.text}" is later than "to", which is "{until.text}"; exchange them')
    query = UsageQuery(
        by=by,
        since=since.at if since else None,
        until=until.end if until else None,
        identity=parameters.get("user") or None,
        provider=parameters.get("provider") or None,
        model=parameters.get("model") or None,
        agent=parameters.get("agent") or None,
        header=_header(parameters.get(HEADER, "")),
    )
    return UsageRequest(
        query,
        first=since.text if since else None,
        last=until.text if until else None,
        format=_format(parameters.get("format", "")),
    )


def _groups(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(","))) if text else ()
    for name in names:
        if name not in GROUPS:
            raise BadUsage(f'by: "{name[:MAX_SHOWN]}" is none of {_list(GROUPS)}; write some of them with commas')
    return names


def _header(text: str) -> str | None:
    try:
        return parse_term(text) if text else None
    except BadQuery as error:
        raise BadUsage(str(error)) from None


def _format(text: str) -> Format:
    if text and text not in FORMATS:
        raise BadUsage(f'format: "{text[:MAX_SHOWN]}" is none of {_list(FORMATS)}')
    return cast("Format", text or "json")


class _Time(NamedTuple):
    """A day or an hour."""

    at: int
    """Unix time in seconds at which the day or hour begins."""
    end: int
    """Unix time in seconds at which the next day or hour begins."""
    text: str


def _time(name: str, text: str, *, hours: bool) -> _Time | None:
    if not text:
        return None
    day, hour = _DAY.fullmatch(text), _HOUR.fullmatch(text)
    if hour and not hours:
        raise BadUsage(f'{name}: "{text}" is an hour, which needs "hour" in "by"; write a day such as {_SAMPLE_DAY}')
    if not (day or hour):
        right = f"{_SAMPLE_DAY}, or an hour such as {_SAMPLE_HOUR}" if hours else _SAMPLE_DAY
        raise BadUsage(f'{name}: "{text[:MAX_SHOWN]}" is no day; write one such as {right}')
    begins = hour[1] if hour else f"{text}T00"
    try:
        at = int(datetime.fromisoformat(f"{begins}:00+00:00").timestamp())
    except ValueError:
        raise BadUsage(f'{name}: "{text}" is in no calendar; write one such as {_SAMPLE_DAY}') from None
    return _Time(at, at + _HOUR_SECONDS, f"{begins}:00Z") if hour else _Time(at, at + _DAY_SECONDS, text)


def _days_before(time: float) -> _Time:
    # datetime has no day before the year 1
    begin = max(time - HOURS_OF_DAYS * _DAY_SECONDS, datetime.min.replace(tzinfo=UTC).timestamp())
    day = datetime.fromtimestamp(begin, UTC).date().isoformat()
    first = _time("from", day, hours=True)
    assert first is not None
    return first


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names)
