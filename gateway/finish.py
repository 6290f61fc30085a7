"""The end of a call: one record, written once, to everything that keeps records."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import Final

from gateway.chain import Call
from gateway.flag import Facts
from gateway.log import Logger
from gateway.metrics import Metrics
from gateway.observers import Observers
from gateway.record import Record
from gateway.store.base import Store

FREE: Final = frozenset({400, 401, 403, 404, 405, 413, 415, 422, 429, 500, 503, 529})
"""Statuses with which a provider refuses a request; with others (408, 424, 504) a model may have run before."""


@dataclass(frozen=True, slots=True)
class Finish:
    store: Store
    metrics: Metrics
    log: Logger
    observers: Observers

    def __call__(self, call: Call, status: int, outcome: str) -> None:
        """Write the call's record; a second call for the same one does nothing."""
        if call.finished:
            return
        call.finished = True
        record = _record(call, status, outcome)
        self.store.put(record)
        self.metrics.observe(record)
        self.observers.put(record)
        self.log.info("call.finished", **record.as_dict())


def _record(call: Call, status: int, outcome: str) -> Record:
    attempt = call.attempt
    facts = call.facts or Facts()
    cost, basis = _cost(call, facts)
    problem = call.problem
    first = call.first_event
    return Record(
        id=call.id,
        session_id=call.session_id,
        at=call.at,
        identity=call.identity.login if call.identity else "",
        provider=attempt.candidate.offer.provider_id if attempt else "",
        model=call.model,
        api=call.flag.name,
        upstream_api=attempt.candidate.flag.name if attempt else "",
        operation=call.operation,
        stream=bool(call.ask and call.ask.stream),
        status=status,
        outcome=outcome,
        error=problem.code if problem else "",
        error_native=problem.native if problem else "",
        usage=facts.usage,
        reported=facts.reported,
        cost=cost,
        cost_basis=basis,
        # reported so far, and more was to come: a lower bound
        estimated=facts.reported and not facts.stop and outcome != "ok",
        stop=facts.stop,
        tools=tuple(facts.tools),
        duration_ms=(monotonic() - call.started) * 1000,
        first_event_ms=None if first is None else (first - call.started) * 1000,
        attempts=len(call.attempts),
        dropped=tuple(attempt.dropped) if attempt else (),
        agent=call.agent,
    )


def _cost(call: Call, facts: Facts) -> tuple[int | None, str]:
    """Nanodollars and the price row; nothing was spent where nothing reached a model, and unknown is never 0."""
    attempt = call.attempt
    if attempt is None or not attempt.sent or call.operation == "count_tokens":
        return 0, ""
    if not facts.reported:
        free = attempt.head is not None and attempt.head.status in FREE
        return (0, "") if free else (None, "")
    offer = attempt.candidate.offer
    basis = offer.provider.cost_basis
    row = call.runtime.prices.find(basis, offer.base) if basis else None
    return (None, "") if row is None else (row.cost(facts.usage), row.name)
