"""Sums of many calls at once: what a batch adds to each session and to each roll-up.

Gathered in memory first, so that a hundred calls of one session are one statement, and a batch is committed in
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
DAY: Final = 86_400_000
"""Milliseconds."""

SUMS: Final = ("calls", "failed", *USAGE_KINDS, "known_cost", "cost_unknown_calls", "estimated_calls")
"""What is summed of calls."""


class Group(NamedTuple):
    """The key of a roll-up's row."""

    time: int
    """Milliseconds of Unix time at which the hour or the day begins."""
    identity: str
    provider: str
    model: str
    """"" where the provider is: calls that were refused name whatever their clients like, without end."""
    agent: str


@dataclass(slots=True)
class SessionShare:
    """What a batch adds to one session."""

    agent: str = ""
    provider: str = ""
    """Of the last call that reached one."""
    started_at: int = MAX_INTEGER
    last_at: int = -1
    sums: list[int] = field(default_factory=lambda: [0] * len(SUMS))
    models: dict[tuple[str, str], int] = field(default_factory=dict)
    """Provider and model, to the milliseconds of Unix time at which the last reply ended."""
    tools: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Sums:
    """What a batch of calls adds."""

    sessions: dict[tuple[str, str], SessionShare] = field(default_factory=dict)
    """By identity and session id."""
    hours: dict[Group, list[int]] = field(default_factory=dict)
    """`SUMS`, and the milliseconds of duration behind them."""


Row = tuple[Any, ...]
"""A row of `CALL_COLUMNS`."""

_AT: Final = CALL_COLUMNS.index("at")
_ALIKE: Final = itemgetter(*map(CALL_COLUMNS.index, ("identity", "session_id", "provider", "model", "agent")))
_COUNTS: Final = slice(CALL_COLUMNS.index(USAGE_KINDS[0]), CALL_COLUMNS.index(USAGE_KINDS[-1]) + 1)


def gathered(calls: Iterable[Row]) -> Sums:
    """Gathers equal calls first (one caller, session, model, client and hour), which most calls of a batch are."""
    alike: defaultdict[tuple[tuple[str, ...], int], list[Row]] = defaultdict(list)
    for row in calls:
        alike[_ALIKE(row), row[_AT] // HOUR].append(row)
    sums = Sums()
    for ((identity, session_id, provider, model, agent), hour), found in alike.items():
        part = _part(found)
        group = Group(hour * HOUR, identity, provider, model if provider else "", agent)
        _add(sums.hours, group, [*part.amounts, sum(part.ended) - sum(part.started)])
        if session_id:
            share = sums.sessions.setdefault((identity, session_id), SessionShare())
            _to_session(share, part, (provider, model, agent))
    return sums


class _Part(NamedTuple):
    """Calls that are alike."""

    amounts: list[int]
    """`SUMS`."""
    started: tuple[int, ...]
    ended: list[int]
    """Milliseconds of Unix time."""
    tools: Mapping[str, int]
    """How many of them have each list of tools, which is JSON."""


def _part(found: list[Row]) -> _Part:
    """Column by column, which is several times as fast as call by call."""
    columns = [*zip(*found, strict=True)]
    of = dict(zip(CALL_COLUMNS, columns, strict=True))
    started, cost = of["at"], of["cost"]
    unknown = cost.count(None)
    known = sum(filter(None, cost))
    amounts = [
        len(found),
        len(found) - of["outcome"].count("ok"),
        *map(sum, columns[_COUNTS]),
        known,
        unknown,
        sum(of["estimated"]),
    ]
    ended = [at + max(0, round(duration)) for at, duration in zip(started, of["duration_ms"], strict=True)]
    return _Part(amounts, started, ended, Counter(of["tools"]))


def days(hours: dict[Group, list[int]]) -> dict[Group, list[int]]:
    """The same by day."""
    found: dict[Group, list[int]] = {}
    for group, amounts in hours.items():
        _add(found, group._replace(time=group.time - group.time % DAY), amounts)
    return found


def _to_session(share: SessionShare, part: _Part, by: tuple[str, str, str]) -> None:
    """`by` is the provider, the model and the agent of these calls."""
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
