"""The calls in flight, for the dashboard's page "Now"."""

from __future__ import annotations

from time import monotonic

import msgspec

from gateway.call.chain import Call
from gateway.money.quotas.estimate import BYTES_PER_TOKEN


class LiveCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call in flight."""

    id: str
    session_id: str
    identity: str
    agent: str
    provider: str
    """The provider of the current attempt. It is "" before the first attempt."""
    model: str
    """The model. It is "" before the request's model is looked up."""
    api: str
    stream: bool
    at: float
    """Unix time in seconds at which the request arrived."""
    age_ms: float
    first_event_ms: float | None
    """Milliseconds from the request's arrival to the first event of the reply. The value is None before that event."""
    output_tokens: int
    """Estimated number of tokens that the provider has sent so far."""
    attempts: int


def live_call(call: Call) -> LiveCall:
    """Return what the dashboard shows of `call`, a call of this process."""
    inbound, attempt = call.inbound, call.attempt
    delivered = (attempt.delivered or 0) if attempt else 0
    first = call.first_event
    return LiveCall(
        id=call.id,
        session_id=call.session_id,
        identity=call.identity.login,
        agent=inbound.agent,
        provider=attempt.candidate.offer.provider_id if attempt else "",
        model=call.model,
        api=inbound.flag.name,
        stream=call.request.stream,
        at=inbound.at,
        age_ms=(monotonic() - inbound.started) * 1000,
        first_event_ms=None if first is None else (first - inbound.started) * 1000,
        output_tokens=-(-delivered // BYTES_PER_TOKEN),
        attempts=call.requests,
    )
