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
    """`SUMS`, and the milliseconds of duration behind them."""


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
    """Gathers equal calls first (one caller, session, model, client and hour), which most calls of a batch are."""
    alike: dict[_Alike, _Part] = {}
    for record, counts in counted:
        at = round(record.at * 1000)
        key = (record.identity, record.session_id, record.provider, record.model, record.agent, at - at % HOUR)
        part = alike.get(key)
        if part is None:
            part = alike[key] = _Part()
        duration = max(0, round(record.duration_ms))
        failed, unknown = record.outcome != "ok", record.cost is None
        part.rows.append((1, failed, *counts, unknown, record.estimated, duration))
        part.started.append(at)
        part.ended.append(at + duration)
        if record.tools:
            part.tools += record.tools
    sums = Sums()
    for (identity, session_id, provider, model, agent, hour), part in alike.items():
        amounts = [sum(column) for column in zip(*part.rows, strict=True)]
        _add(sums.hours.setdefault(Group(hour, identity, provider, model, agent), [0] * len(amounts)), amounts)
        if session_id:
            share = sums.sessions.setdefault((identity, session_id), SessionShare())
            _add(share.sums, amounts[:-1])
            _to_session(share, part, provider, model, agent)
    return sums


_Alike = tuple[str, str, str, str, str, int]


@dataclass(slots=True)
class _Part:
    """Calls that are alike."""

    rows: list[tuple[int, ...]] = field(default_factory=list)
    """The amounts of each: `SUMS`, and the milliseconds of duration behind them."""
    started: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)


def days(hours: dict[Group, list[int]]) -> dict[Group, list[int]]:
    """The same by day."""
    found: dict[Group, list[int]] = {}
    for group, amounts in hours.items():
        day = group._replace(time=group.time - group.time % DAY)
        _add(found.setdefault(day, [0] * len(amounts)), amounts)
    return found


def integers(*values: int) -> Counts:
    """Counts as SQLite can hold them, and as sums can; nearly always just what was given."""
    together = 0
    for value in values:
        together |= value
    if 0 <= together < MAX_INTEGER:
        return values
    return tuple(max(0, min(value, MAX_INTEGER)) for value in values)


def _to_session(share: SessionShare, part: _Part, provider: str, model: str, agent: str) -> None:
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
    for tool in part.tools:
        share.tools[tool] = share.tools.get(tool, 0) + 1


def _add(to: list[int], amounts: list[int]) -> None:
    for at, amount in enumerate(amounts):
        to[at] += amount
