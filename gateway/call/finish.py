"""The end of a call: one record, written once, to everything that keeps records."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import Final

from gateway.call.chain import Attempt, Call
from gateway.call.cost_of_call import Cost, cost_of
from gateway.call.settlement import settle
from gateway.contract.flag import Facts
from gateway.contract.record import Record
from gateway.store.entries import Balance, Entry
from gateway.store.follower import JournalFollower
from gateway.telemetry.log import Logger
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observers import Observers

MAX_MESSAGE: Final = 500
"""Characters of an error's message that are recorded."""
_FAILED: Final = 500
_REQUEST_IDS: Final = ("x-amzn-requestid", "request-id", "x-request-id")
"""Headers by which providers name a request, for their support."""


@dataclass(frozen=True, slots=True)
class Finish:
    keeper: JournalFollower
    metrics: Metrics
    log: Logger
    observers: Observers

    def __call__(self, call: Call, status: int, outcome: str) -> None:
        """Charge the call and write its record; a second call for the same one does nothing."""
        if call.finished:
            return
        call.finished = True
        facts = call.facts or Facts()
        cost = cost_of(call, facts, complete=outcome == "ok")
        call.charges = settle(call, cost, complete=outcome == "ok")
        record = _record(call, status, outcome, facts, cost)
        balances = tuple(Balance(*charge.left) for charge in call.charges)
        self.keeper.put(Entry(call=record, balances=balances))
        self.metrics.observe(record)
        if (overhead := call.overhead(monotonic())) is not None:
            self.metrics.overhead(record.api, overhead)
        self.observers.put(record)
        self.log.later("call.finished", record.as_dict, "warning" if status >= _FAILED else "info")


def _record(call: Call, status: int, outcome: str, facts: Facts, cost: Cost) -> Record:
    attempt = call.attempt
    problem = call.problem
    first = call.first_event
    return Record(
        id=call.id,
        session_id=call.session_id,
        at=call.at,
        identity=call.identity.login if call.identity else "",
        node=call.identity.node if call.identity else "",
        provider=attempt.candidate.offer.provider_id if attempt else "",
        model=call.model,
        api=call.flag.name,
        upstream_api=attempt.candidate.flag.name if attempt else "",
        operation=call.operation,
        stream=bool(call.request and call.request.stream),
        status=status,
        outcome=outcome,
        error=problem.code if problem else "",
        error_native=(problem.native or problem.reason) if problem else "",
        error_message=problem.message[:MAX_MESSAGE] if problem else "",
        upstream_request_id=_request_id(attempt),
        usage=facts.usage,
        extra=facts.extra,
        tier=facts.tier,
        reported=facts.reported,
        cost=cost.nanodollars,
        cost_basis=cost.basis,
        estimated=cost.estimated,
        charges={charge.bucket: charge.amount for charge in call.charges},
        stop=facts.stop,
        tools=tuple(facts.tools),
        duration_ms=(monotonic() - call.started) * 1000,
        first_event_ms=None if first is None else (first - call.started) * 1000,
        attempts=len(call.attempts),
        dropped=tuple(attempt.dropped) if attempt else (),
        agent=call.agent,
    )


def _request_id(attempt: Attempt | None) -> str:
    """Return the provider's own id of the last try; "" if it named none."""
    headers = attempt.head.headers if attempt and attempt.head else {}
    return next((headers[name][:MAX_MESSAGE] for name in _REQUEST_IDS if name in headers), "")
