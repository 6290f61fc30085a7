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


Counts = tuple[int, ...]
"""Tokens by kind, in the order of `USAGE_KINDS`, and the nanodollars that are known behind them."""


def counts_of(record: Record) -> Counts:
    usage = record.usage
    return integers(
        usage.input,
        usage.output,
        usage.cache_read,
        usage.cache_write_5m,
        usage.cache_write_1h,
        usage.reasoning,
        record.cost or 0,
    )


def gathered(counted: Iterable[tuple[Record, Counts]]) -> Sums:
    """Adds up equal calls first (one caller, session, model, client and hour), which most calls of a batch are."""
    alike: dict[_Alike, _Part] = {}
    for record, counts in counted:
        at = round(record.at * 1000)
        key = (record.identity, record.session_id, record.provider, record.model, record.agent, at - at % HOUR)
        part = alike.get(key)
        if part is None:
            part = alike[key] = _Part()
        _count(part, record, counts, at)
    sums = Sums()
    for (identity, session_id, provider, model, agent, hour), part in alike.items():
        group = Group(hour, identity, provider, model, agent)
        _add(sums.hours.setdefault(group, [0] * len(part.amounts)), part.amounts)
        if session_id:
            share = sums.sessions.setdefault((identity, session_id), SessionShare())
            _to_session(share, part, provider, model, agent)
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


def _count(part: _Part, record: Record, counts: Counts, at: int) -> None:
    amounts, duration = part.amounts, max(0, round(record.duration_ms))
    amounts[0] += 1
    amounts[1] += record.outcome != "ok"
    for place, count in enumerate(counts, 2):
        if count:
            amounts[place] += count
    amounts[_UNKNOWN] += record.cost is None
    amounts[_ESTIMATED] += record.estimated
    amounts[-1] += duration
    part.started_at = min(part.started_at, at)
    part.ended_at = max(part.ended_at, at + duration)
    for tool in record.tools:
        part.tools[tool] = part.tools.get(tool, 0) + 1


_UNKNOWN: Final = SUMS.index("cost_unknown_calls")
_ESTIMATED: Final = SUMS.index("estimated_calls")


def days(hours: dict[Group, list[int]]) -> dict[Group, list[int]]:
    """The same by day."""
    found: dict[Group, list[int]] = {}
    for group, amounts in hours.items():
        day = group._replace(time=group.time - group.time % DAY)
        _add(found.setdefault(day, [0] * len(amounts)), amounts)
    return found


def integers(*values: int) -> tuple[int, ...]:
    """Counts as SQLite can hold them, and as sums can; nearly always just what was given."""
    if min(values) >= 0 and max(values) <= MAX_INTEGER:
        return values
    return tuple(max(0, min(value, MAX_INTEGER)) for value in values)


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
        share.tools[tool] = share.tools.get(tool, 0) + calls


def _add(to: list[int], amounts: list[int]) -> None:
    for at, amount in enumerate(amounts):
        to[at] += amount
