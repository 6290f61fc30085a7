"""Sums over a batch of calls: the amounts that the batch adds to its sessions and quarter hours.

Calls are summed in memory first. So a hundred calls of one session need only one statement, and a batch is committed in
milliseconds. SQL statements are in `rows.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from operator import add, itemgetter
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from gateway.contract.flag import USAGE_KINDS
from gateway.store.calls import CALL_COLUMNS
from gateway.store.entries import MAX_INTEGER
from gateway.store.histogram import SIZE, place
from gateway.store.units import QUARTER

SUMS: Final = ("calls", "failed", *USAGE_KINDS, "known_cost", "cost_unknown_calls", "estimated_calls", "cache_saved")
"""Columns of the table `sessions` that are sums over calls."""
DURATIONS: Final = tuple(f"d{bucket}" for bucket in range(SIZE))
"""Columns with the histogram of the durations of successful calls."""
FIRST_EVENTS: Final = tuple(f"f{bucket}" for bucket in range(SIZE))
"""Columns with the histogram of the times to the first event of streams."""
FIGURES: Final = (*(name for name in SUMS if name != "failed"), "duration_ms", *DURATIONS, *FIRST_EVENTS)
"""Columns of sums in the tables `figures_*`. A column `failed` is not needed, because all calls of a row have the same
outcome."""


class Series(NamedTuple):
    """The values that calls must share to be summed in one row. The table `series` gives each series a number."""

    identity: str
    provider: str
    model: str
    """The model, or "" for a call that was refused before a provider was chosen. Clients may send any text as the model
    of such a call, and without this rule each text would add a row."""
    agent: str
    api: str
    """The compatibility flag (API format) of the client's route."""
    status: int
    outcome: str


class Group(NamedTuple):
    """The key of a row of sums: a quarter hour, and the series of its calls (`Series`)."""

    time: int
    """Start of the quarter hour, as Unix time in milliseconds."""
    series: Series


class ErrorKind(NamedTuple):
    """A kind of errors. Errors that have the same values in all four fields are counted together."""

    code: str
    native: str
    """The provider's own name for the error."""
    provider: str
    shape: str
    """The message, without numbers and quoted text."""


class ErrorShare(msgspec.Struct):
    """The last error of one kind (`ErrorKind`) in a batch of calls."""

    message: str = ""
    example: str = ""
    """Id of the call that had the error."""
    at: int = -1


class Health(msgspec.Struct):
    """The last success and the last error of a model in a batch of calls. A time of -1 means that there was none."""

    success_at: int = -1
    error_at: int = -1
    error: str = ""
    message: str = ""
    call: str = ""


class SessionShare(msgspec.Struct):
    """The amounts that a batch of calls adds to one session."""

    agent: str = ""
    provider: str = ""
    """Provider of the last call for which a provider was chosen. It is "" if there is no such call."""
    started_at: int = MAX_INTEGER
    last_at: int = -1
    sums: Sequence[int] = ()
    """Sums in the order of the columns `SUMS`. The value is () before the first call."""
    models: dict[tuple[str, str], int] = msgspec.field(default_factory=dict)
    """The pairs (provider, model) that the session used, each with the Unix time in milliseconds at which the last
    reply of this model ended."""
    tools: dict[str, int] = msgspec.field(default_factory=dict)


class Sums(msgspec.Struct):
    """The amounts that a batch of calls adds to the stored sums of sessions and of quarter hours."""

    sessions: dict[tuple[str, str], SessionShare] = msgspec.field(default_factory=dict)
    """The amounts that are added to sessions, by (identity, session id)."""
    figures: dict[Group, Sequence[int]] = msgspec.field(default_factory=dict)
    """Values of the columns `FIGURES`, by quarter hour and series (`Group`)."""
    tools: Counter[tuple[Group, str]] = msgspec.field(default_factory=Counter)
    """Number of times that models called each tool. A key is a `Group` (quarter hour and series) and the name of a
    tool."""
    errors: Counter[tuple[Group, ErrorKind]] = msgspec.field(default_factory=Counter)
    kinds: dict[ErrorKind, ErrorShare] = msgspec.field(default_factory=dict)
    health: dict[tuple[str, str], Health] = msgspec.field(default_factory=dict)
    """The last success and the last error, by (provider, model)."""


Row = tuple[Any, ...]
"""The values of a call's row, in the order of `CALL_COLUMNS`."""


def _columns(*names: str) -> itemgetter[Any]:
    return itemgetter(*map(CALL_COLUMNS.index, names))


_SERIES: Final = _columns(*Series._fields)
_SESSION_ID: Final = CALL_COLUMNS.index("session_id")
_AMOUNTS: Final = _columns(
    "at", *USAGE_KINDS, "cost", "estimated", "cache_saved", "duration_ms", "first_event_ms", "tools"
)
_ERROR: Final = _columns("error", "error_native", "error_message", "id")
_SUMMED: Final = FIGURES.index("duration_ms") + 1
"""Index in `FIGURES` of the first column of the histogram of durations. The columns before it are plain sums."""
_FIRST: Final = _SUMMED + len(DURATIONS)
"""Index in `FIGURES` of the first column of the histogram of times to the first event."""


class _Part(msgspec.Struct):
    """Sums over the calls of a batch that have the same values of `Series` and began in the same quarter hour."""

    group: Group
    is_ok: bool
    model: tuple[str, str] | None
    """Provider and model. The value is None if no provider was reached."""
    figure: list[int] = msgspec.field(default_factory=lambda: [0] * len(FIGURES))
    """Values of the columns `FIGURES`."""
    lists: dict[str, int] = msgspec.field(default_factory=dict)
    """Number of calls for each list of tools that a model called. The key is the JSON list of the tools' names."""
    last_at: int = -1
    """Start of the newest call, as Unix time in milliseconds."""


class _ToolNames(dict[str, Sequence[str]]):
    """The names in JSON lists of tools. Many calls have the same list, so each list is decoded once for a batch."""

    def __missing__(self, tools: str) -> Sequence[str]:
        names: Sequence[str] = orjson.loads(tools)
        self[tools] = names
        return names


def sum_calls(calls: Iterable[Row]) -> Sums:
    """Return the sums over a batch of calls: for each session, and for each series in each quarter hour.

    This is written for speed. Most batches have few calls for each session, so the work for each call matters.
    """
    sums = Sums()
    parts: dict[tuple[tuple[Any, ...], int], _Part] = {}
    names_of = _ToolNames()
    for row in calls:
        at, *counts, cost, estimated, saved, duration, first_event, tools = _AMOUNTS(row)
        values, quarter = _SERIES(row), at // QUARTER
        part = parts.get((values, quarter))
        if part is None:
            part = parts[values, quarter] = _part(values, quarter)
        milliseconds = max(0, round(duration))
        amounts = (1, *counts, cost or 0, 1 if cost is None else 0, estimated, saved or 0, milliseconds)
        figure = part.figure
        figure[:_SUMMED] = map(add, figure, amounts)
        if part.is_ok:
            column, one = place(duration)
            figure[_SUMMED + column] += one
        else:
            _add_fault(sums, part.group, row, at)
        if first_event is not None:
            column, one = place(first_event)
            figure[_FIRST + column] += one
        part.lists[tools] = part.lists.get(tools, 0) + 1
        part.last_at = max(part.last_at, at)
        if session_id := row[_SESSION_ID]:
            _to_session(sums.sessions, (values[0], session_id), part, amounts, at, names_of[tools])
    for part in parts.values():
        _add_part(sums, part, names_of)
    return sums


def _part(values: tuple[Any, ...], quarter: int) -> _Part:
    """Return a new `_Part`, with sums of 0. `values` are the fields of its series, and `quarter` is the number of its
    quarter hour.

    All calls that reached no provider are stored in one group with the model "". Until the end of a batch, there is one
    `_Part` for each model that these calls requested.
    """
    series = Series(*values)
    group = Group(quarter * QUARTER, series if series.provider else series._replace(model=""))
    return _Part(group, series.outcome == "ok", (series.provider, series.model) if series.provider else None)


def _add_part(sums: Sums, part: _Part, names_of: _ToolNames) -> None:
    group = part.group
    before = sums.figures.get(group)
    sums.figures[group] = part.figure if before is None else [*map(add, before, part.figure)]
    for tools, calls in part.lists.items():
        for tool in names_of[tools]:
            sums.tools[group, tool] += calls
    if part.model is not None:
        health = sums.health.setdefault(part.model, Health())
        if part.is_ok:
            health.success_at = max(health.success_at, part.last_at)


_NUMBER: Final = re.compile(r"(?:0x)?[0-9a-f]*[0-9][0-9a-f]*(?:[-.,:][0-9a-f]+)*", re.IGNORECASE)
"""Pattern for a number, a time, or an identifier in hexadecimal digits. `shape` replaces them in error messages."""
_QUOTED: Final = re.compile(r""""[^"]*"|'[^']*'|`[^`]*`""")
MAX_SHAPE: Final = 200
"""Maximum number of characters of a shape (a message without numbers and quoted text). Longer shapes are cut."""


def _add_fault(sums: Sums, group: Group, row: Row, at: int) -> None:
    """Count the error of a call that was not successful, and record the last error of its model.

    A call without an error code is not counted. The last error is recorded only if the outcome is `failed`, because
    other outcomes, such as `cancelled`, are not the model's fault.
    """
    code, native, message, call = _ERROR(row)
    series = group.series
    if code:
        kind = ErrorKind(code, native, series.provider, shape(message))
        sums.errors[group, kind] += 1
        share = sums.kinds.setdefault(kind, ErrorShare())
        if at >= share.at:
            share.message, share.example, share.at = message, call, at
    if series.provider and series.outcome == "failed":
        health = sums.health.setdefault((series.provider, series.model), Health())
        if at >= health.error_at:
            health.error_at, health.error, health.message, health.call = at, code, message, call


def shape(message: str) -> str:
    """Return an error's message without numbers and quoted text, so that messages of one kind are equal."""
    return _NUMBER.sub("#", _QUOTED.sub('"…"', message))[:MAX_SHAPE]


def _to_session(
    sessions: dict[tuple[str, str], SessionShare],
    session: tuple[str, str],
    part: _Part,
    amounts: tuple[int, ...],
    at: int,
    tools: Sequence[str],
) -> None:
    """Add a call to the sums of its session. `at` is the start of the call in Unix milliseconds. `amounts` has the
    values for the first columns of `FIGURES`.

    The session gets the agent and the provider of the call that ended last. A call for which no provider was chosen
    does not change the provider.
    """
    share = sessions.get(session)
    if share is None:
        share = sessions[session] = SessionShare()
    calls, *further, milliseconds = amounts
    sums = (calls, 0 if part.is_ok else calls, *further)
    share.sums = [*map(add, share.sums, sums)] if share.sums else [*sums]
    ended = at + milliseconds
    newest = ended >= share.last_at
    if newest:
        share.agent = part.group.series.agent
        share.last_at = ended
    model = part.model
    if model is not None:
        if newest or not share.provider:
            share.provider = model[0]
        if ended > share.models.get(model, -1):
            share.models[model] = ended
    share.started_at = min(share.started_at, at)
    for tool in tools:
        share.tools[tool] = share.tools.get(tool, 0) + 1
