"""Sums over a batch of calls: the amounts that the batch adds to its sessions and quarter hours.

Calls are summed in memory first. So a hundred calls of one session need only one statement, and a batch is committed in
milliseconds. SQL statements are in `rows.py`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import add, itemgetter
from typing import Any, Final, NamedTuple

import orjson

from gateway.contract.flag import USAGE_KINDS
from gateway.store.calls import CALL_COLUMNS
from gateway.store.entries import MAX_INTEGER
from gateway.store.histogram import SIZE, count

QUARTER: Final = 900_000
"""Number of milliseconds in a quarter of an hour. The offsets of all time zones are multiples of it."""
HOUR: Final = 3_600_000
"""Number of milliseconds in an hour."""
DAY: Final = 86_400_000
"""Number of milliseconds in a day."""
PERIOD: Final = 32 * DAY
"""Number of milliseconds in a period of 32 days, the coarsest resolution of sums."""

SUMS: Final = ("calls", "failed", *USAGE_KINDS, "known_cost", "cost_unknown_calls", "estimated_calls", "cache_saved")
"""Columns of the table `sessions` that are sums over calls."""
DURATIONS: Final = tuple(f"d{bucket}" for bucket in range(SIZE))
"""Columns with the histogram of the durations of successful calls."""
FIRST_EVENTS: Final = tuple(f"f{bucket}" for bucket in range(SIZE))
"""Columns with the histogram of the times to the first event of streams."""
FIGURES: Final = (*(name for name in SUMS if name != "failed"), "duration_ms", *DURATIONS, *FIRST_EVENTS)
"""Columns of sums in the tables `figures_*`. `failed` is left out, because a series has only one outcome."""


class Series(NamedTuple):
    """The values that calls must share to be summed in one row. The table `series` gives each series a number."""

    identity: str
    provider: str
    model: str
    """The model; "" for a call that was refused before a provider was chosen. The client of such a call may have sent
    any text as the model, and each text would add a row."""
    agent: str
    api: str
    """The compatibility flag (API format) of the client's route."""
    status: int
    outcome: str


class Group(NamedTuple):
    """The key of a row of sums: one series in one quarter hour."""

    time: int
    """Start of the quarter hour, as Unix time in milliseconds."""
    series: Series


class ErrorKind(NamedTuple):
    """The key by which errors are counted: errors with the same values are counted together."""

    code: str
    native: str
    """The provider's own name for the error."""
    provider: str
    shape: str
    """The message, without numbers and quoted text."""


@dataclass(slots=True)
class ErrorShare:
    """The last error of one kind (`ErrorKind`) in a batch of calls."""

    message: str = ""
    example: str = ""
    """Id of the call that had the error."""
    at: int = -1


@dataclass(slots=True)
class Health:
    """The last success and the last error of a model in a batch of calls. A time of -1 means that there was none."""

    success_at: int = -1
    error_at: int = -1
    error: str = ""
    message: str = ""
    call: str = ""


@dataclass(slots=True)
class SessionShare:
    """The amounts that a batch of calls adds to one session."""

    agent: str = ""
    provider: str = ""
    """Provider of the last call for which a provider was chosen; "" if there is no such call."""
    started_at: int = MAX_INTEGER
    last_at: int = -1
    sums: list[int] = field(default_factory=lambda: [0] * len(SUMS))
    models: dict[tuple[str, str], int] = field(default_factory=dict)
    """The (provider, model) pairs of the session, each with the Unix time in milliseconds at which its last reply
    ended."""
    tools: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Sums:
    """The amounts that a batch of calls adds to the stored sums of sessions and of quarter hours."""

    sessions: dict[tuple[str, str], SessionShare] = field(default_factory=dict)
    """The amounts that are added to sessions, by (identity, session id)."""
    figures: dict[Group, list[int]] = field(default_factory=dict)
    """Values of the columns `FIGURES`, by the key of the row."""
    tools: Counter[tuple[Group, str]] = field(default_factory=Counter)
    """Number of times that models called each tool, by group and tool name."""
    errors: Counter[tuple[Group, ErrorKind]] = field(default_factory=Counter)
    kinds: dict[ErrorKind, ErrorShare] = field(default_factory=dict)
    health: dict[tuple[str, str], Health] = field(default_factory=dict)
    """The last success and the last error, by (provider, model)."""


Row = tuple[Any, ...]
"""The values of a call's row, in the order of `CALL_COLUMNS`."""

_AT_COLUMN: Final = CALL_COLUMNS.index("at")
_GROUP_KEY: Final = itemgetter(*map(CALL_COLUMNS.index, ("session_id", *Series._fields)))
_COUNTS: Final = slice(CALL_COLUMNS.index(USAGE_KINDS[0]), CALL_COLUMNS.index(USAGE_KINDS[-1]) + 1)
_NO_BUCKETS: Final = [0] * SIZE


def sum_calls(calls: Iterable[Row]) -> Sums:
    """Sum calls by session and by quarter hour.

    The calls of each session, series and quarter hour are summed as a group, because a batch has few such groups.
    """
    alike: defaultdict[tuple[tuple[Any, ...], int], list[Row]] = defaultdict(list)
    for row in calls:
        alike[_GROUP_KEY(row), row[_AT_COLUMN] // QUARTER].append(row)
    sums = Sums()
    for ((session_id, *values), quarter), calls_alike in alike.items():
        series = Series(*values)
        part = _part(calls_alike, series.outcome)
        group = Group(quarter * QUARTER, series if series.provider else series._replace(model=""))
        _add(sums.figures, group, [len(calls_alike), *part.amounts[2:], *part.latencies])
        _count_tools(sums, group, part)
        if series.outcome != "ok":
            add_errors(sums, group, calls_alike)
        if series.provider:
            _note_health(sums, series, calls_alike)
        if session_id:
            share = sums.sessions.setdefault((series.identity, session_id), SessionShare())
            _to_session(share, part, series)
    return sums


class _Part(NamedTuple):
    """Sums over calls of one session and series in one quarter hour."""

    amounts: list[int]
    """Sums in the order of the columns `SUMS`."""
    latencies: list[int]
    """Sums of the columns that are in `FIGURES` and not in `SUMS`, in the order of `FIGURES`."""
    started: tuple[int, ...]
    """Start of each call, as Unix time in milliseconds."""
    ended: list[int]
    """End of each call, as Unix time in milliseconds."""
    tools: Mapping[str, int]
    """Number of calls for each list of tools that a model called. The key is the JSON list of the tools' names."""


def _part(calls: list[Row], outcome: str) -> _Part:
    """Return the sums over the calls of one group. Adding column by column is several times faster than row by row."""
    columns = [*zip(*calls, strict=True)]
    of = dict(zip(CALL_COLUMNS, columns, strict=True))
    started, cost, durations = of["at"], of["cost"], of["duration_ms"]
    unknown = cost.count(None)
    amounts = [
        len(calls),
        0 if outcome == "ok" else len(calls),
        *map(sum, columns[_COUNTS]),
        sum(filter(None, cost)),
        unknown,
        sum(of["estimated"]),
        sum(filter(None, of["cache_saved"])),
    ]
    ended = [at + max(0, round(duration)) for at, duration in zip(started, durations, strict=True)]
    by_duration = count(durations) if outcome == "ok" else _NO_BUCKETS
    firsts = [first for first in of["first_event_ms"] if first is not None]
    latencies = [sum(ended) - sum(started), *by_duration, *(count(firsts) if firsts else _NO_BUCKETS)]
    return _Part(amounts, latencies, started, ended, Counter(of["tools"]))


def _count_tools(sums: Sums, group: Group, part: _Part) -> None:
    for tools, calls in part.tools.items():
        if tools != "[]":
            for tool in orjson.loads(tools):
                sums.tools[group, tool] += calls


_AT: Final = itemgetter(_AT_COLUMN)
_ERROR: Final = itemgetter(*map(CALL_COLUMNS.index, ("error", "error_native", "error_message", "id", "at")))
_NUMBER: Final = re.compile(r"(?:0x)?[0-9a-f]*[0-9][0-9a-f]*(?:[-.,:][0-9a-f]+)*", re.IGNORECASE)
"""Pattern for a number, a time, or an identifier in hexadecimal digits."""
_QUOTED: Final = re.compile(r""""[^"]*"|'[^']*'|`[^`]*`""")
MAX_SHAPE: Final = 200
"""Maximum number of characters of a shape (a message without numbers and quoted text). Longer shapes are cut."""


def add_errors(sums: Sums, group: Group, calls: Iterable[Row]) -> None:
    """Count the errors of the calls of one group. A call without an error code is skipped."""
    for code, native, message, call, at in map(_ERROR, calls):
        if code:
            kind = ErrorKind(code, native, group.series.provider, shape(message))
            sums.errors[group, kind] += 1
            share = sums.kinds.setdefault(kind, ErrorShare())
            if at >= share.at:
                share.message, share.example, share.at = message, call, at


def shape(message: str) -> str:
    """Return an error's message without numbers and quoted text, so that messages of one kind are equal."""
    return _NUMBER.sub("#", _QUOTED.sub('"…"', message))[:MAX_SHAPE]


def _note_health(sums: Sums, series: Series, calls: list[Row]) -> None:
    """Record the last success or the last error of a model. All `calls` have the outcome of `series`.

    An outcome other than `ok` and `failed`, such as `cancelled`, changes nothing.
    """
    health = sums.health.setdefault((series.provider, series.model), Health())
    last = max(calls, key=_AT)
    if series.outcome == "ok":
        health.success_at = max(health.success_at, last[_AT_COLUMN])
    elif series.outcome == "failed":
        code, _, message, call, at = _ERROR(last)
        if at >= health.error_at:
            health.error_at, health.error, health.message, health.call = at, code, message, call


def _to_session(share: SessionShare, part: _Part, series: Series) -> None:
    """Add the sums over some calls of a session (`part`) to the session's sums over the batch (`share`)."""
    provider, model, agent = series.provider, series.model, series.agent
    share.sums = _sum(share.sums, part.amounts)
    ended = max(part.ended)
    newest = ended >= share.last_at
    if newest:
        share.agent = agent
        share.last_at = ended
    if provider:
        if newest or not share.provider:
            share.provider = provider
        share.models[provider, model] = max(share.models.get((provider, model), 0), ended)
    share.started_at = min(share.started_at, *part.started)
    for tools, calls in part.tools.items():
        for tool in orjson.loads(tools):
            share.tools[tool] = share.tools.get(tool, 0) + calls


def _add(to: dict[Group, list[int]], group: Group, amounts: list[int]) -> None:
    before = to.get(group)
    to[group] = amounts if before is None else _sum(before, amounts)


def _sum(one: list[int], other: list[int]) -> list[int]:
    return [*map(add, one, other)]
