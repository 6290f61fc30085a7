"""The end of a call: it is charged, and its record goes to the store, the metrics, the observers and the log.

- The server writes exactly one record for each request, however the request ends.
- A request that was refused before it became a `Call` gets a record too, but no charge.
- If a process is killed, some of its calls are unfinished. The next process writes the records of these calls.
- When a new process replaces this one, this process still finishes its calls. It writes their records to a file on the
  disk, the spool. The new process reads the spool and charges the calls (`spools.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Final

import msgspec

from gateway.call.chain import Attempt, Call, Inbound
from gateway.call.cost import Cost
from gateway.call.cost_of_call import costs_of, last_cost, total_cost
from gateway.call.plugin_reports import PluginReports
from gateway.call.recorded_headers import with_reply
from gateway.call.settlement import bill, settle
from gateway.call.write_ahead import charge_lost
from gateway.contract.errors import PluginFailed, Problem
from gateway.contract.flag import Facts, Usage
from gateway.contract.record import Record, Tried
from gateway.money.quotas.book import Quotas
from gateway.money.quotas.buckets import Charge
from gateway.store.entries import Balance, Charged, Entry, SentCall
from gateway.store.follower import JournalFollower
from gateway.telemetry.log import Logger
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observers import Observers

MAX_MESSAGE: Final = 500
"""Maximum number of characters of an error message, or of a provider's request id, in a record."""
_FAILED: Final = 500
_REQUEST_IDS: Final = ("x-amzn-requestid", "request-id", "x-request-id")
"""Headers with the provider's own id of a request. A provider's support staff ask for this id."""


class Finish(msgspec.Struct, frozen=True):
    follower: JournalFollower
    metrics: Metrics
    log: Logger
    observers: Observers
    reports: PluginReports
    is_worker: bool = False
    """Whether this process is a worker. The charges of a worker's calls are subtracted from the balances by another
    process, the keeper.
    """

    def __call__(self, call: Call, status: int, outcome: str) -> None:
        """Charge a call that has ended, and write its record.

        If a bug in the gateway raises an exception here, the record is written without the facts (usage, ...) of the
        reply, and with an estimated cost.
        """
        try:
            record, entry = self._entry(call, status, outcome)
        except Exception:
            self.log.exception("call.crashed", request_id=call.id)
            call.forget_facts()
            record, entry = self._entry(call, status, outcome)
        self._end(record, entry)
        if call.filters is not None:
            call.filters.done(record)
        if (overhead := call.overhead(monotonic())) is not None:
            self.metrics.overhead(call.flag.name, overhead)

    def _entry(self, call: Call, status: int, outcome: str) -> tuple[Record, Entry]:
        """Charge a call. Return its record, and the journal entry with the record.

        If another process keeps the quota balances, nothing is charged here. The journal entry then has the amounts
        (the bill) that the other process will charge.
        """
        facts = self._facts(call)
        complete = outcome == "ok"
        last = last_cost(call, facts, complete=complete)
        cost = total_cost(call, last)
        tried = _tried(call, last) if len(call.attempts) > 1 else ()
        if self.follower.is_replaced:
            record = _record(call, status, outcome, facts, cost, (), tried)
            return record, Entry(call=record, bill=bill(call, last, complete=complete))
        charges = settle(call, last, complete=complete)
        record = _record(call, status, outcome, facts, cost, charges, tried)
        return record, _with_charges(record, call) if self.is_worker else _with_balances(record, charges)

    def _facts(self, call: Call) -> Facts:
        """Return the facts (usage, stop reason, ...) of the call. If the meter (usage reader) fails, return its last
        facts.
        """
        try:
            return call.read_facts() or Facts()
        except PluginFailed as failure:
            self.reports.failed(failure, call.id)
            return call.facts or Facts()

    def refused(self, inbound: Inbound, status: int, outcome: str, problem: Problem | None) -> None:
        """Write the record of a request that ended before it became a `Call`."""
        record = _refusal(inbound, status, outcome, problem)
        self._end(record, Entry(call=record))

    def lost(self, calls: Sequence[SentCall], quotas: Quotas) -> None:
        """Charge and record the calls that an earlier process sent but did not finish."""
        for call in calls:
            self.put(*charge_lost(call, quotas))
        if calls:
            self.log.warning("calls.lost", calls=len(calls))

    def put(self, record: Record, charges: Sequence[Charge] = ()) -> None:
        """Write the record of a call, and pass it to the metrics, the observers and the log."""
        self.follower.put(_with_balances(record, charges))
        self._report(record)

    def _end(self, record: Record, entry: Entry) -> None:
        """Write the journal entry of a call, and report its record to the metrics, the observers and the log.

        If a new process has replaced this one, the record is not reported here. The new process reports it when it
        reads the entry.
        """
        self.follower.put(entry)
        if not self.follower.is_replaced:
            self._report(record)

    def _report(self, record: Record) -> None:
        self.metrics.observe(record)
        self.observers.put(record)
        self.log.later("call.finished", record.as_dict, "warning" if record.status >= _FAILED else "info")


def _with_balances(record: Record, charges: Sequence[Charge]) -> Entry:
    return Entry(call=record, balances=tuple(Balance(*charge.left) for charge in charges))


def _with_charges(record: Record, call: Call) -> Entry:
    """Return the journal entry of a call that this worker process has served.

    The entry has the charged amounts. The process that keeps the quota balances reads them.
    """
    held = call.reservation.held if call.reservation is not None else {}
    charged = tuple(
        Charged(kind, charge.bucket, charge.amount, charge.terms, charge.estimated)
        for kind, reservation in held.items()
        for charge in reservation.charges or ()
    )
    return Entry(call=record, charged=charged)


def _record(
    call: Call,
    status: int,
    outcome: str,
    facts: Facts,
    cost: Cost,
    charges: Sequence[Charge],
    tried: tuple[Tried, ...],
) -> Record:
    inbound, attempt = call.inbound, call.attempt
    problem = call.problem
    first = call.first_event
    return Record(
        id=inbound.id,
        session_id=call.session_id,
        at=inbound.at,
        identity=call.identity.login,
        node=call.identity.node,
        provider=attempt.candidate.offer.provider_id if attempt else "",
        model=call.model,
        served_model=facts.model[:MAX_MESSAGE],
        api=inbound.flag.name,
        upstream_api=attempt.candidate.flag.name if attempt else "",
        operation=inbound.operation,
        stream=call.request.stream,
        status=status,
        outcome=outcome,
        error=problem.code if problem else "",
        error_native=(problem.native or problem.reason) if problem else "",
        error_message=_message(inbound, problem),
        upstream_request_id=_request_id(attempt),
        usage=facts.usage,
        extra=facts.extra,
        tier=facts.tier,
        geo=facts.geo,
        parts=tuple(facts.parts) if len(facts.parts) > 1 else (),
        reported=facts.reported,
        cost=cost.nanodollars,
        cache_saved=cost.cache_saved,
        cost_basis=cost.basis,
        estimated=cost.estimated,
        charges={charge.bucket: charge.amount for charge in charges},
        stop=facts.stop,
        tools=tuple(facts.tools),
        duration_ms=(monotonic() - inbound.started) * 1000,
        first_event_ms=None if first is None else (first - inbound.started) * 1000,
        attempts=call.requests,
        key=_key(attempt) if attempt else "",
        auto_cached=attempt.request.auto_cached if attempt else False,
        tried=tried,
        dropped=tuple(attempt.dropped) if attempt else (),
        agent=inbound.agent,
        headers=_headers(inbound, attempt),
        direct=call.direct,
    )


def _message(inbound: Inbound, problem: Problem | None) -> str:
    """Return the error message for the record. With zero retention it is "", because it may quote the request."""
    if problem is None or inbound.runtime.config.bodies.are_forgotten:
        return ""
    return problem.message[:MAX_MESSAGE]


def _headers(inbound: Inbound, attempt: Attempt | None) -> Mapping[str, str]:
    """Return the recorded headers of a call: those of the request, and those of the provider's last reply."""
    names = inbound.runtime.config.filterable_headers
    if not names or attempt is None or attempt.head is None:
        return inbound.headers
    return with_reply(inbound.headers, names, attempt.head.headers)


def _tried(call: Call, last: Cost) -> tuple[Tried, ...]:
    """Return the attempts of a call, for its record. `last` is the cost of the last attempt."""
    return tuple(
        _attempt(one, cost, call.problem if one is call.attempt else None)
        for one, cost in zip(call.attempts, costs_of(call, last), strict=True)
    )


def _attempt(attempt: Attempt, cost: Cost, problem: Problem | None) -> Tried:
    problem = attempt.problem or problem
    seconds = monotonic() - attempt.began if attempt.seconds is None else attempt.seconds
    status = attempt.head.status if attempt.head is not None else 0
    return Tried(
        provider=attempt.candidate.offer.provider_id,
        key=_key(attempt),
        model=attempt.candidate.offer.model,
        status=(problem.status if problem else 0) or status,
        error=problem.code if problem else "",
        error_native=(problem.native or problem.reason) if problem else "",
        cost=cost.nanodollars,
        estimated=cost.estimated,
        duration_ms=seconds * 1000,
    )


def _key(attempt: Attempt) -> str:
    """Return the name of the key that was chosen for an attempt, or "" if the provider has only one key or none."""
    return "" if attempt.key is None else attempt.key.name


def _refusal(inbound: Inbound, status: int, outcome: str, problem: Problem | None) -> Record:
    identity = inbound.identity
    return Record(
        id=inbound.id,
        session_id="",
        at=inbound.at,
        identity=identity.login if identity else "",
        node=identity.node if identity else "",
        model="",
        provider="",
        api=inbound.flag.name,
        upstream_api="",
        operation=inbound.operation,
        stream=False,
        status=status,
        outcome=outcome,
        error=problem.code if problem else "",
        error_native=(problem.native or problem.reason) if problem else "",
        error_message=_message(inbound, problem),
        usage=Usage(),
        reported=False,
        cost=0,
        cost_basis="",
        estimated=False,
        stop="",
        tools=(),
        duration_ms=(monotonic() - inbound.started) * 1000,
        first_event_ms=None,
        attempts=0,
        dropped=(),
        agent=inbound.agent,
        headers=inbound.headers,
    )


def _request_id(attempt: Attempt | None) -> str:
    """Return the provider's id for the request of the last attempt, or "" if it gave none."""
    headers = attempt.head.headers if attempt and attempt.head else {}
    value = next((headers[name][:MAX_MESSAGE] for name in _REQUEST_IDS if name in headers), "")
    # a header may have bytes that are not valid text and that the log's readers could not decode
    return value.encode("utf-8", "replace").decode()
