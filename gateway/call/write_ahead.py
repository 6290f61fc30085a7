"""The line that a billed call writes to the journal before it is sent, and what becomes of a call that never ended.

- The line is written once for each call, when there is a connection to the provider. So no call that was sent is
  missing in the journal.
- If a process is killed, the next process finds the calls that were sent and have not ended. Each of them gets a record
  with the outcome `lost`, and is charged the most that it may have cost: nobody knows how far it came.
- The record and its charges are one line of the journal. So each call is charged once, even if the next process is
  killed while it starts.

`settlement.py` charges the calls that end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Final

from gateway.call.chain import Attempt, Call
from gateway.call.cost_of_call import UNBILLED_OPERATIONS
from gateway.contract.errors import INTERNAL, UNAVAILABLE, Problem
from gateway.contract.flag import Usage
from gateway.contract.record import LOST, Record
from gateway.money.quotas.book import Quotas, money_terms
from gateway.money.quotas.buckets import Charge
from gateway.money.quotas.estimate import Estimate, rough
from gateway.store.entries import SentCall
from gateway.store.follower import JournalFollower

UNWRITABLE: Final = Problem(
    UNAVAILABLE, "the gateway cannot write its records to its disk; try again later", retry_after=10
)
_STATUS: Final = 500
_MESSAGE: Final = "the gateway was killed, or its machine lost power, before the call had ended"


def announce(call: Call, attempt: Attempt, follower: JournalFollower) -> Awaitable[None] | None:
    """Write the line of a call that is about to be sent, unless the call has a line or costs nothing.

    If an awaitable is returned, the request may be sent only after the awaitable is done. The awaitable raises
    `StoreFailed` if the line cannot be flushed to the disk.
    """
    if call.announced or call.operation in UNBILLED_OPERATIONS:
        return None
    call.announced = True
    return follower.put_sent(_line(call, attempt))


def _line(call: Call, attempt: Attempt) -> SentCall:
    candidate = attempt.candidate
    offer = candidate.offer
    price = call.runtime.prices.of(offer.provider, offer.model)
    estimated = _estimate(call, attempt)
    return SentCall(
        id=call.id,
        session_id=call.session_id,
        at=call.at,
        identity=call.identity.login,
        node=call.identity.node,
        provider=offer.provider_id,
        model=call.model,
        api=call.flag.name,
        upstream_api=candidate.flag.name,
        operation=call.operation,
        stream=call.request.stream,
        agent=call.inbound.agent,
        cost=None if price is None else estimated.cost([price]),
        cost_basis="" if price is None else price.row(call.at),
        chains=money_terms(call.reservation.terms(offer.name)) if call.reservation is not None else (),
    )


def _estimate(call: Call, attempt: Attempt) -> Estimate:
    """Return the estimate of the reservation, or a rough one if the caller has no quota."""
    if call.reservation is not None:
        return call.reservation.estimate
    return rough(call.request, call.output_limit, attempt.candidate.offer.caps.max_output)


def charge_lost(call: SentCall, quotas: Quotas) -> tuple[Record, Sequence[Charge]]:
    """Charge a call that was sent by an earlier process and has no end. Return its record and the charges."""
    charges = quotas.charge_unreserved(call.chains, call.cost or 0)
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
        attempts=1,
        dropped=(),
        agent=call.agent,
    )
    return record, charges
