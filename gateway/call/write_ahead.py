"""The journal line that is written before a billed call is sent. With this line, a call can be charged even if its
process is killed.

- The line is written after the connection to the provider is opened and before the request is sent. So the journal has
  every call that was sent.
- Each attempt of a call has a line of its own, which includes the cost of the earlier attempts.
- After a process was killed, the next process finds its unfinished calls in the journal. Each of them gets a record
  with the outcome `lost`. Its real usage is unknown, so it is charged the maximum that it may have cost.
- A record and its charges are a single line of the journal. So each call is charged once, even if the next process is
  killed too.

`settlement.py` charges the calls that end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Final

from gateway.call.chain import Attempt, Call
from gateway.call.cost import NOTHING, Cost
from gateway.call.cost_of_call import costs_of, price_of_call, total_cost
from gateway.call.operations import UNBILLED_OPERATIONS
from gateway.contract.errors import INTERNAL, UNAVAILABLE, Problem
from gateway.contract.flag import Usage
from gateway.contract.record import LOST, Record
from gateway.money.quotas.book import Quotas
from gateway.money.quotas.buckets import Charge, merged
from gateway.money.quotas.estimate import Priced, rough
from gateway.money.quotas.settlements import MoneyTerms, money_terms
from gateway.store.entries import SentCall, SentPart
from gateway.store.follower import JournalFollower

UNWRITABLE: Final = Problem(
    UNAVAILABLE, "the gateway cannot write its records to its disk; try again later", retry_after=10
)
_STATUS: Final = 500
_MESSAGE: Final = "the gateway was killed, or its machine lost power, before the call had ended"


def announce(call: Call, attempt: Attempt, follower: JournalFollower) -> Awaitable[None] | None:
    """Write the journal line of a call that is about to be sent, unless it is written already or the call costs
    nothing.

    If this returns an awaitable, the caller must await it before it sends the request. It raises `StoreFailed` if the
    line cannot be flushed to the disk.
    """
    if call.announced is attempt or call.request.operation in UNBILLED_OPERATIONS:
        return None
    call.announced = attempt
    return follower.put_sent(_line(call, attempt))


def _line(call: Call, attempt: Attempt) -> SentCall:
    inbound, candidate = call.inbound, attempt.candidate
    offer = candidate.offer
    price = price_of_call(call, offer)
    if price is None:
        cost = Cost(None, "", estimated=True)
    else:
        cost = Cost(_most(call, attempt, price), price.row(inbound.at), estimated=True)
    whole = total_cost(call, cost)
    return SentCall(
        id=inbound.id,
        session_id=call.session_id,
        at=inbound.at,
        identity=call.identity.login,
        node=call.identity.node,
        provider=offer.provider_id,
        model=call.model,
        api=inbound.flag.name,
        upstream_api=candidate.flag.name,
        operation=inbound.operation,
        stream=call.request.stream,
        agent=inbound.agent,
        cost=whole.nanodollars,
        cost_basis=whole.basis,
        chains=_chains(call, attempt),
        parts=_parts(call, cost) if len(call.attempts) > 1 else (),
        headers=inbound.headers,
    )


def _parts(call: Call, last: Cost) -> tuple[SentPart, ...]:
    """Return a `SentPart` for each attempt so far whose cost is not 0: the cost, and the chains of money buckets to
    which it is charged.

    `last` is the cost of the last attempt.
    """
    costs = zip(call.attempts, costs_of(call, last), strict=True)
    return tuple(SentPart(cost.nanodollars, _chains(call, one)) for one, cost in costs if cost != NOTHING)


def _chains(call: Call, attempt: Attempt) -> MoneyTerms:
    """Return the chains of money buckets to which an attempt is charged. A bucket pays what the buckets before it in
    the chain cannot pay.
    """
    return money_terms(call.reservation.terms(attempt.candidate.offer.name)) if call.reservation is not None else ()


def _most(call: Call, attempt: Attempt, price: Priced) -> int:
    """Return the maximum cost of the attempt in nanodollars: the cost on which the call's reservation is based or,
    without a reservation, a rough estimate.
    """
    offer = attempt.candidate.offer
    if call.reservation is not None:
        return call.reservation.costs[offer.name]
    return rough(call.request, call.output_limit, offer.caps.max_output).cost(price)


def charge_lost(call: SentCall, quotas: Quotas) -> tuple[Record, Sequence[Charge]]:
    """Charge a call that an earlier process sent but could not complete. Return the call's record and the charges."""
    parts = call.parts or (SentPart(call.cost, call.chains),)
    charges = merged(charge for part in parts for charge in quotas.charge_unreserved(part.chains, part.cost or 0))
    record = Record(
        id=call.id,
        session_id=call.session_id,
        at=call.at,
        identity=call.identity,
        node=call.node,
        provider=call.provider,
        model=call.model,
        api=call.api,
        upstream_api=call.upstream_api,
        operation=call.operation,
        stream=call.stream,
        status=_STATUS,
        outcome=LOST,
        error=INTERNAL,
        error_native=LOST,
        error_message=_MESSAGE,
        usage=Usage(),
        reported=False,
        cost=call.cost,
        cost_basis=call.cost_basis,
        estimated=True,
        charges={charge.bucket: charge.amount for charge in charges},
        stop="",
        tools=(),
        duration_ms=0.0,
        first_event_ms=None,
        attempts=len(parts),
        dropped=(),
        agent=call.agent,
        headers=call.headers,
    )
    return record, charges
