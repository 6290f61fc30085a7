"""A month of plausible calls for `irisgate demo --sample`, so that a newcomer sees pages with numbers on them.

The calls depend only on the seed and the day. They are written to the demo's own store. That store is marked as a
sample, and other gateways refuse it (`store/sample.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final, NamedTuple

from msgspec.structs import replace

from gateway.call.cost_of_call import uncached
from gateway.config.model import Provider
from gateway.contract.errors import BLOCKED, INVALID_REQUEST, OVERLOADED, PERMISSION, RATE_LIMIT, TIMEOUT
from gateway.contract.flag import Usage
from gateway.contract.record import Record, Tried
from gateway.money.prices.rates import Priced
from gateway.money.prices.table import Prices

DAYS: Final = 30
"""Number of days with calls. The last of them is the present day."""
UNPRICED: Final = ("on-prem", "qwen3-coder-480b")
"""A pair of a provider and a model that has no price. The pages show the cost of calls to this model as unknown."""
SECOND: Final = "bedrock-west"
"""Name of the provider that serves some sample calls after the first provider has failed."""
UNGRANTED: Final = "o3-pro"
"""A model that some people ask for and that is not granted to them."""
HEADER: Final = "x-project"
"""The name of a request header. Its value is recorded with each sample call."""
PROJECTS: Final = ("checkout", "search", "mobile", "reports")
_SATURDAY: Final = 5
_SYSTEM_TOKENS: Final = 14_000
"""Number of tokens in the system prompt and the tools of a coding agent."""


class Person(NamedTuple):
    """A simulated person, or a machine that calls at any hour."""

    login: str
    agent: str
    sessions: float
    """Average number of sessions on a weekday."""
    turns: int
    """Average number of calls in a session."""
    models: tuple[int, ...]
    """Preferred models, as indexes of the list of models. -1 stands for `UNPRICED`."""
    starts: int
    """Hour of the day in UTC at which the person begins to work."""
    caches: bool = True
    """Whether the person's agent uses prompt caching."""
    weekends: float = 0.1
    """Number of sessions on a Saturday or Sunday, as a fraction of the sessions on a weekday."""
    quota: str = "weekly:<user>"
    """The person's own quota, to which their calls are charged (`sample_quotas.py`). It is "" if the person has none.
    """


PEOPLE: Final = (
    Person("ada@example.com", "claude-cli", 4, 22, (1, 1, 3), 8, quota="heavy:<user>"),
    Person("grace@example.com", "claude-cli", 3, 30, (3, 1), 13, quota="heavy:<user>"),
    Person("linus@example.com", "opencode", 3, 18, (1, 0), 6, weekends=0.8),
    Person("margaret@example.com", "codex", 2, 16, (2, 1), 14),
    Person("alan@example.com", "claude-cli", 2, 26, (1, 0), 7),
    Person("barbara@example.com", "OpenAI/Python", 3, 6, (4, 5), 9, caches=False),
    Person("dennis@example.com", "opencode", 2, 20, (-1, 1), 12, quota=""),
    Person("katherine@example.com", "Boto3", 1.5, 5, (6, 5), 13, caches=False, quota="trial:<user>"),
    Person("edsger@example.com", "curl", 0.4, 3, (0,), 7, caches=False, weekends=0.0, quota="trial:<user>"),
    Person("radia@example.com", "claude-cli", 1.2, 24, (1, 3), 15),
    Person("ken@example.com", "claude-cli", 0.8, 14, (0, 1), 16),
    Person("frances@example.com", "OpenAI/Python", 1, 8, (1,), 10, caches=False),
    Person("tag:nightly", "Boto3", 1, 40, (5, 6), 2, caches=False, weekends=1.0, quota="batch"),
)
TOOLS: Final = ("Bash", "Read", "Edit", "Grep", "Write", "TodoWrite", "WebFetch", "Glob")


class Fault(NamedTuple):
    """An error of a sample call, with its relative frequency."""

    weight: int
    status: int
    outcome: str
    error: str
    native: str
    message: str


FAULTS: Final = (
    Fault(9, 429, "failed", RATE_LIMIT, "ThrottlingException", "Too many tokens, please wait before trying again."),
    Fault(4, 503, "failed", OVERLOADED, "ServiceUnavailableException", "Bedrock is unable to process your request."),
    Fault(3, 400, "failed", INVALID_REQUEST, "ValidationException", "Input is too long for requested model."),
    Fault(2, 504, "failed", TIMEOUT, "timeout", "the provider did not answer within 600 seconds"),
    Fault(3, 403, "refused", PERMISSION, "", f'access denied: no grant allows the model "{UNGRANTED}"'),
    Fault(1, 403, "refused", BLOCKED, "blocked_word", "a word in this text is not allowed here"),
)
_FAULT_WEIGHTS: Final = [fault.weight for fault in FAULTS]
_SERVED_ELSEWHERE: Final = 0.4
"""Probability that a sample call is served by the second provider after the first provider was too busy."""
_BAD_DAY: Final = 9
"""Age in days of a simulated incident at the provider."""


@dataclass(frozen=True, slots=True)
class _Session:
    """A simulated session whose calls have not been generated yet."""

    id: str
    person: Person
    provider: str
    model: str
    priced: Priced | None
    project: str
    """The value of the header `x-project` in the calls of the session."""
    starts: float
    turns: int
    is_bad: bool
    """Whether the session is on the day of a simulated incident, on which more calls fail."""


def sample_calls(provider: Provider, prices: Prices, *, now: float, seed: int = 1) -> Iterator[Record]:
    """Yield invented calls of the `DAYS` days before the Unix time `now`, day by day."""
    today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    number = 0
    for ago in range(DAYS - 1, -1, -1):
        day = today - timedelta(ago)
        chance = Random(f"{seed} {day.date()}")  # noqa: S311 (sample data)
        for person in PEOPLE:
            for session in _sessions(person, provider, prices, day, chance, is_bad=ago == _BAD_DAY):
                for record in _calls(session, chance):
                    if record.at < now - 60:
                        number += 1
                        yield _numbered(record, day, number)


def _numbered(record: Record, day: datetime, number: int) -> Record:
    return replace(record, id=f"req_{int(day.timestamp()):08x}{number:016x}")


def _sessions(
    person: Person, provider: Provider, prices: Prices, day: datetime, chance: Random, *, is_bad: bool
) -> Sequence[_Session]:
    weekend = day.weekday() >= _SATURDAY
    average = person.sessions * (person.weekends if weekend else 1)
    count = sum(chance.random() < average / 6 for _ in range(6))
    sessions = []
    for _ in range(count):
        index = chance.choice(person.models)
        name, model = UNPRICED if index < 0 else (provider.id, provider.models[index % len(provider.models)])
        starts = day.timestamp() + (person.starts + min(9.0, abs(chance.gauss(3.5, 2.5)))) * 3600
        sessions.append(
            _Session(
                id=f"cc_{chance.getrandbits(64):016x}",
                person=person,
                provider=name,
                model=model,
                priced=None if index < 0 else prices.of(provider, model),
                project=chance.choice(PROJECTS),
                starts=starts,
                turns=1 + round(chance.expovariate(1 / person.turns)),
                is_bad=is_bad,
            )
        )
    return sessions


def _calls(session: _Session, chance: Random) -> Iterator[Record]:
    at = session.starts
    history = chance.randint(200, 3_000) + (_SYSTEM_TOKENS if session.person.caches else 0)
    cached = 0
    for _ in range(min(session.turns, 120)):
        record, usage = _call(session, at, history, cached, chance)
        yield record
        at += record.duration_ms / 1000 + chance.expovariate(1 / 25)
        if at - record.at > 300:
            cached = 0  # the cache has expired
        elif usage.cache_read or usage.cache_write_5m:
            cached = history
        history += usage.output + chance.randint(100, 4_000)


def _call(session: _Session, at: float, history: int, cached: int, chance: Random) -> tuple[Record, Usage]:
    person, fault = session.person, None
    if chance.random() < (0.3 if session.is_bad and session.provider != UNPRICED[0] else 0.02):
        fault = chance.choices(FAULTS, _FAULT_WEIGHTS)[0]
    tried: tuple[Tried, ...] = ()
    if fault is not None and _can_be_served_elsewhere(session, fault) and chance.random() < _SERVED_ELSEWHERE:
        tried, fault = (_tried(session, fault, chance.uniform(40, 400)),), None
    cancelled = fault is None and chance.random() < 0.02
    output = 0 if fault else round(chance.lognormvariate(5.6, 0.9))
    if fault:
        usage = Usage()
    elif person.caches and session.priced is not None:
        fresh = chance.randint(3, 60)
        usage = Usage(input=fresh, output=output, cache_read=cached, cache_write_5m=max(0, history - cached - fresh))
    else:
        usage = Usage(input=history, output=output)
    first = chance.lognormvariate(6.9, 0.5) + history / 60
    duration = chance.lognormvariate(4.5, 0.6) if fault else first + output * chance.uniform(9, 22)
    cost, saved = _price(session.priced, usage, at, is_free=fault is not None)
    served_by = session.provider
    if tried:
        served_by = SECOND
        tried += (Tried(provider=SECOND, model=session.model, status=200, cost=cost, duration_ms=duration),)
    tools = () if fault or not person.caches else tuple(chance.choices(TOOLS, k=chance.choice((0, 1, 1, 1, 2))))
    refused = fault is not None and fault.outcome == "refused"
    record = Record(
        id="",
        session_id=session.id,
        at=at,
        identity=person.login,
        provider="" if refused else served_by,
        model=UNGRANTED if fault is not None and fault.error == PERMISSION else session.model,
        served_model="" if fault else session.model,
        api="anthropic_messages" if person.agent == "claude-cli" else "openai_chat",
        upstream_api="" if refused else "bedrock_converse",
        operation="chat",
        stream=person.caches,
        status=fault.status if fault else 499 if cancelled else 200,
        outcome=fault.outcome if fault else "cancelled" if cancelled else "ok",
        error=fault.error if fault else "",
        error_native=fault.native if fault else "",
        error_message=fault.message if fault else "",
        usage=usage,
        reported=fault is None,
        cost=cost,
        cache_saved=saved,
        cost_basis=session.priced.row(at) if session.priced and not fault else "",
        estimated=cancelled,
        stop="" if fault else "tool_use" if tools else "end_turn",
        tools=tools,
        duration_ms=duration + sum(attempt.duration_ms for attempt in tried[:-1]),
        first_event_ms=first if person.caches and not fault else None,
        attempts=0 if refused else len(tried) or 1,
        tried=tried,
        headers={HEADER: session.project},
        dropped=(),
        agent=person.agent,
    )
    return record, usage


def _can_be_served_elsewhere(session: _Session, fault: Fault) -> bool:
    return fault.error in {RATE_LIMIT, OVERLOADED} and session.provider != UNPRICED[0]


def _tried(session: _Session, fault: Fault, duration_ms: float) -> Tried:
    return Tried(
        provider=session.provider,
        model=session.model,
        status=fault.status,
        error=fault.error,
        error_native=fault.native,
        cost=0,
        duration_ms=duration_ms,
    )


def _price(priced: Priced | None, usage: Usage, at: float, *, is_free: bool) -> tuple[int | None, int | None]:
    """Return the cost of a call and the amount that caching saved, in nanodollars."""
    if is_free:
        return 0, 0
    if priced is None:
        return None, None
    cost, without = priced.cost(usage, at=at), priced.cost(uncached(usage), at=at)
    return cost, None if cost is None or without is None else without - cost
