"""Sums of many calls at once: what a batch adds to each session and to each roll-up.

Gathered in memory first, so that a hundred calls of one session are one statement, and a batch is committed in
milliseconds. Statements are in `rows.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.flag import USAGE_KINDS
from gateway.record import Record
from gateway.store.entries import MAX_INTEGER
from gateway.store.text import bounded

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
    """As `_Part.amounts`."""


def gathered(records: Iterable[Record]) -> Sums:
    """Adds up equal calls first (one caller, session, model, client and hour), which most calls of a batch are."""
    alike: dict[_Alike, _Part] = {}
    for record in records:
        at = round(record.at * 1000)
        key = (record.identity, record.session_id, record.provider, record.model, record.agent, at - at % HOUR)
        part = alike.get(key)
        if part is None:
            part = alike[key] = _Part()
        _count(part, record, at)
    sums = Sums()
    for (identity, session_id, provider, model, agent, hour), part in alike.items():
        named = [bounded(text) for text in (identity, provider, model, agent)]
        _add(sums.hours.setdefault(Group(hour, *named), [0] * len(part.amounts)), part.amounts)
        if session_id:
            share = sums.sessions.setdefault((named[0], bounded(session_id)), SessionShare())
            _to_session(share, part, *named[1:])
    return sums


_Alike = tuple[str, str, str, str, str, int]


@dataclass(slots=True)
class _Part:
    """Calls that are alike."""

    amounts: list[int] = field(default_factory=lambda: [0] * (len(SUMS) + 1))
    """`SUMS`, and the milliseconds of duration behind them."""
    started_at: int = MAX_INTEGER
    ended_at: int = -1
    tools: dict[str, int] = field(default_factory=dict)


def _count(part: _Part, record: Record, at: int) -> None:
    usage, amounts, duration = record.usage, part.amounts, integer(round(record.duration_ms))
    amounts[0] += 1
    amounts[1] += record.outcome != "ok"
    for place, name in _USAGE:
        if count := getattr(usage, name):
            amounts[place] += integer(count)
    if record.cost is None:
        amounts[_UNKNOWN] += 1
    else:
        amounts[_COST] += integer(record.cost)
    amounts[_ESTIMATED] += record.estimated
    amounts[-1] += duration
    part.started_at = min(part.started_at, at)
    part.ended_at = max(part.ended_at, at + duration)
    for tool in record.tools:
        part.tools[tool] = part.tools.get(tool, 0) + 1


_USAGE: Final = tuple((SUMS.index(name), name) for name in USAGE_KINDS)
_COST: Final = SUMS.index("known_cost")
_UNKNOWN: Final = SUMS.index("cost_unknown_calls")
_ESTIMATED: Final = SUMS.index("estimated_calls")


def days(hours: dict[Group, list[int]]) -> dict[Group, list[int]]:
    """The same by day."""
    found: dict[Group, list[int]] = {}
    for group, amounts in hours.items():
        day = group._replace(time=group.time - group.time % DAY)
        _add(found.setdefault(day, [0] * len(amounts)), amounts)
    return found


def integer(value: int) -> int:
    """A count as SQLite can hold it, and as sums can."""
    return max(0, min(int(value), MAX_INTEGER))


def _to_session(share: SessionShare, part: _Part, provider: str, model: str, agent: str) -> None:
    newest = part.ended_at >= share.last_at
    if newest:
        share.agent = agent
        share.last_at = part.ended_at
    if provider:
        if newest or not share.provider:
            share.provider = provider
        share.models[provider, model] = max(share.models.get((provider, model), 0), part.ended_at)
    share.started_at = min(share.started_at, part.started_at)
    _add(share.sums, part.amounts[:-1])
    for tool, calls in part.tools.items():
        name = bounded(tool)
        share.tools[name] = share.tools.get(name, 0) + calls


def _add(to: list[int], amounts: list[int]) -> None:
    for at, amount in enumerate(amounts):
        to[at] += amount
