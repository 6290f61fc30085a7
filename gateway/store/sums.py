"""Sums over a batch of calls: the amounts that the batch adds to each session and to the hourly and daily totals.

Calls are summed in memory first, so that a hundred calls of one session need only one statement, and a batch is
committed in milliseconds. SQL statements are in `rows.py`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import add, itemgetter
from typing import Any, Final, NamedTuple

import orjson

from gateway.contract.flag import USAGE_KINDS
from gateway.store.calls import CALL_COLUMNS
from gateway.store.entries import MAX_INTEGER

HOUR: Final = 3_600_000
"""Number of milliseconds in an hour."""
DAY: Final = 86_400_000
"""Number of milliseconds in a day."""

SUMS: Final = ("calls", "failed", *USAGE_KINDS, "known_cost", "cost_unknown_calls", "estimated_calls")
"""Columns that are sums over calls, in the table `sessions` and in the tables of hourly and daily totals."""
GROUP_SUMS: Final = (*SUMS, "duration_ms")
"""Summed columns of the tables of hourly and daily totals: those in `SUMS`, and the duration, which `sessions`
lacks."""


class Group(NamedTuple):
    """The key of a row of the hourly or daily totals."""

    time: int
    """Start of the hour or the day, as Unix time in milliseconds."""
    identity: str
    provider: str
    model: str
    """The model; "" for calls without a provider. A call that was refused before a provider was chosen may name any
    text as its model, and each text would add a row.
    """
    agent: str


@dataclass(slots=True)
class SessionShare:
    """The amounts that a batch of calls adds to one session."""

    agent: str = ""
    provider: str = ""
    """Provider of the last call for which a provider was chosen."""
    started_at: int = MAX_INTEGER
    last_at: int = -1
    sums: list[int] = field(default_factory=lambda: [0] * len(SUMS))
    models: dict[tuple[str, str], int] = field(default_factory=dict)
    """Unix time in milliseconds at which the last reply ended, by (provider, model)."""
    tools: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Sums:
    """The amounts that a batch of calls adds to sessions and to the hourly totals."""

    sessions: dict[tuple[str, str], SessionShare] = field(default_factory=dict)
    """Amounts for sessions, by (identity, session id)."""
    hours: dict[Group, list[int]] = field(default_factory=dict)
    """Amounts for the hourly totals: values of the columns `GROUP_SUMS`, by the key of the row."""


Row = tuple[Any, ...]
"""The values of a call's row, in the order of `CALL_COLUMNS`."""

_AT_COLUMN: Final = CALL_COLUMNS.index("at")
_GROUP_KEY: Final = itemgetter(*map(CALL_COLUMNS.index, ("identity", "session_id", "provider", "model", "agent")))
_COUNTS: Final = slice(CALL_COLUMNS.index(USAGE_KINDS[0]), CALL_COLUMNS.index(USAGE_KINDS[-1]) + 1)


def sum_calls(calls: Iterable[Row]) -> Sums:
    """Sum calls by session and by hour.

    Calls with the same caller, session, provider, model, agent and hour are summed together first, because most
    calls of a batch agree in all of these.
    """
    alike: defaultdict[tuple[tuple[str, ...], int], list[Row]] = defaultdict(list)
    for row in calls:
        alike[_GROUP_KEY(row), row[_AT_COLUMN] // HOUR].append(row)
    sums = Sums()
    for ((identity, session_id, provider, model, agent), hour), calls_alike in alike.items():
        part = _part(calls_alike)
        group = Group(hour * HOUR, identity, provider, model if provider else "", agent)
        _add(sums.hours, group, [*part.amounts, sum(part.ended) - sum(part.started)])
        if session_id:
            share = sums.sessions.setdefault((identity, session_id), SessionShare())
            _to_session(share, part, (provider, model, agent))
    return sums


class _Part(NamedTuple):
    """Sums over calls with the same caller, session, provider, model, agent and hour."""

    amounts: list[int]
    """Values of the columns `SUMS`."""
    started: tuple[int, ...]
    """Start of each call, as Unix time in milliseconds."""
    ended: list[int]
    """End of each call, as Unix time in milliseconds."""
    tools: Mapping[str, int]
    """Number of calls with each list of tools, by the JSON of the list."""


def _part(calls: list[Row]) -> _Part:
    """Return the sums over the calls of one group. Summing by column is several times faster than by row."""
    columns = [*zip(*calls, strict=True)]
    of = dict(zip(CALL_COLUMNS, columns, strict=True))
    started, cost = of["at"], of["cost"]
    unknown = cost.count(None)
    known = sum(filter(None, cost))
    amounts = [
        len(calls),
        len(calls) - of["outcome"].count("ok"),
        *map(sum, columns[_COUNTS]),
        known,
        unknown,
        sum(of["estimated"]),
    ]
    ended = [at + max(0, round(duration)) for at, duration in zip(started, of["duration_ms"], strict=True)]
    return _Part(amounts, started, ended, Counter(of["tools"]))


def days(hours: dict[Group, list[int]]) -> dict[Group, list[int]]:
    """Return the daily sums from the hourly sums."""
    by_day: dict[Group, list[int]] = {}
    for group, amounts in hours.items():
        _add(by_day, group._replace(time=group.time - group.time % DAY), amounts)
    return by_day


def _to_session(share: SessionShare, part: _Part, by: tuple[str, str, str]) -> None:
    """Add the sums over a group of calls to the share of their session.

    `by` is the provider, model and agent that all calls of the group have.
    """
    provider, model, agent = by
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
