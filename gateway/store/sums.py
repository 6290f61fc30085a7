"""Sums of a batch of calls: the amounts that it adds to each session and to each roll-up.

Calls are summed in memory first, so that a hundred calls of one session are one statement, and a batch is committed in
milliseconds. Statements are in `rows.py`.
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
"""Milliseconds of an hour."""
DAY: Final = 86_400_000
"""Milliseconds of a day."""

SUMS: Final = ("calls", "failed", *USAGE_KINDS, "known_cost", "cost_unknown_calls", "estimated_calls")
"""Columns that are summed over calls."""
GROUP_SUMS: Final = (*SUMS, "duration_ms")
"""Columns that are summed over the calls of a roll-up's row."""


class Group(NamedTuple):
    """The key of a roll-up's row."""

    time: int
    """Milliseconds of Unix time at which the hour or the day begins."""
    identity: str
    provider: str
    model: str
    """A model, or "" where there is no provider: refused calls name whatever clients like, without end."""
    agent: str


@dataclass(slots=True)
class SessionShare:
    """The amounts that a batch adds to one session."""

    agent: str = ""
    provider: str = ""
    """Provider of the last call that reached one."""
    started_at: int = MAX_INTEGER
    last_at: int = -1
    sums: list[int] = field(default_factory=lambda: [0] * len(SUMS))
    models: dict[tuple[str, str], int] = field(default_factory=dict)
    """Milliseconds of Unix time at which the last reply ended, by provider and model."""
    tools: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Sums:
    """The amounts that a batch of calls adds."""

    sessions: dict[tuple[str, str], SessionShare] = field(default_factory=dict)
    """Shares by identity and session id."""
    hours: dict[Group, list[int]] = field(default_factory=dict)
    """The columns `GROUP_SUMS`."""


Row = tuple[Any, ...]
"""A row of `CALL_COLUMNS`."""

_AT_COLUMN: Final = CALL_COLUMNS.index("at")
_GROUP_KEY: Final = itemgetter(*map(CALL_COLUMNS.index, ("identity", "session_id", "provider", "model", "agent")))
_COUNTS: Final = slice(CALL_COLUMNS.index(USAGE_KINDS[0]), CALL_COLUMNS.index(USAGE_KINDS[-1]) + 1)


def sum_calls(calls: Iterable[Row]) -> Sums:
    """Sum calls by session and by hour.

    Calls with the same caller, session, model, client and hour are summed first: most calls of a batch are alike.
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
    """Sums of calls that are alike."""

    amounts: list[int]
    """The columns `SUMS`."""
    started: tuple[int, ...]
    ended: list[int]
    """Milliseconds of Unix time."""
    tools: Mapping[str, int]
    """Number of calls by their list of tools, as JSON."""


def _part(calls: list[Row]) -> _Part:
    """Return the sums of calls that are alike, column by column: several times as fast as call by call."""
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
    """Return sums by day from sums by hour."""
    by_day: dict[Group, list[int]] = {}
    for group, amounts in hours.items():
        _add(by_day, group._replace(time=group.time - group.time % DAY), amounts)
    return by_day


def _to_session(share: SessionShare, part: _Part, by: tuple[str, str, str]) -> None:
    """Add calls to a session; `by` is their provider, model and agent."""
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
