"""The cost of a call, from the usage that the provider reports, or from an estimate if the provider reports none.

The cost is computed once, for the record of a call that has ended, and is marked if it is an estimate. Prices of tokens
are in `money/prices/rates.py`. The amount that a quota reserves before a call is decided in `settlement.py`.
"""

from __future__ import annotations

from copy import copy
from time import monotonic
from typing import Final, NamedTuple

from gateway.call.chain import Attempt, Call
from gateway.contract.flag import Facts, Usage
from gateway.money.quotas.estimate import BYTES_PER_TOKEN, Estimate, estimate, input_tokens, probable

UNBILLED_STATUSES: Final = frozenset({400, 401, 403, 404, 405, 413, 415, 422, 429, 500, 503, 529})
"""HTTP statuses with which a provider refuses a request before a model runs, so that nothing is charged. With other
statuses of errors (408, 424, 504) a model may have run."""


class Cost(NamedTuple):
    """The cost of one call."""

    nanodollars: int | None
    """The cost; None if it is unknown."""
    basis: str
    """The row of the price table that was used, as `book/model` or `book/model@day`; "" if none was used."""
    estimated: bool = False
    """Whether the provider did not report all tokens of the call."""


UNBILLED_OPERATIONS: Final = frozenset({"count_tokens"})
"""Operations that cost no money and count no tokens."""

NOTHING: Final = Cost(0, "")

MOST_BYTES: Final = 8
"""Maximum average number of bytes per token in a reply. If a reply has more bytes per reported token, then the report
was made before most of the reply was written."""


def cost_of(call: Call, facts: Facts, *, complete: bool) -> Cost:
    """Return the cost by the provider's report, else by an estimate; 0 if no request reached a model.

    A reply has broken off if it is neither `complete` nor read to its end, and has no stop reason. A stream also counts
    as broken off if it has output, and its usage report has input tokens but no output tokens. The usage report of such
    a reply is only a lower bound, so the cost is marked as estimated.
    """
    attempt = call.attempt
    if attempt is None or not attempt.sent or call.operation in UNBILLED_OPERATIONS:
        return NOTHING
    priced = call.runtime.prices.of(attempt.candidate.offer.provider, attempt.candidate.offer.model)
    if facts.reported:
        silent = attempt.request.stream and bool(attempt.delivered and facts.usage.input) and not facts.usage.output
        cut = silent or not (facts.stop or complete or attempt.whole)
        if priced is None:
            return Cost(None, "", cut)
        usage = _estimated(call, attempt, facts, complete=complete) if cut else facts.usage
        return Cost(priced.cost(usage, tier=facts.tier, extra=facts.extra, at=call.at), priced.row(call.at), cut)
    if _is_unbilled(call, attempt):
        return NOTHING
    if priced is None:
        return Cost(None, "", estimated=True)
    usage = _estimated(call, attempt, facts, complete=complete)
    cost = priced.cost(usage, tier=facts.tier, at=call.at)
    return Cost(priced.cost(usage, at=call.at) if cost is None else cost, priced.row(call.at), estimated=True)


def _is_unbilled(call: Call, attempt: Attempt) -> bool:
    """Return whether the provider refused the request before a model ran: by a status, or by a stream's first event."""
    if attempt.head is None or attempt.delivered is not None:
        return False
    problem = call.problem
    return attempt.head.status in UNBILLED_STATUSES or (problem is not None and problem.status in UNBILLED_STATUSES)


def _estimated(call: Call, attempt: Attempt, facts: Facts, *, complete: bool) -> Usage:
    """Return the probable usage of a reply whose usage the provider did not report completely.

    - Tokens are at least those that the provider reported.
    - Without a report, input tokens are estimated from the body that was sent (`money/quotas/estimate.py`). No input
      counts as cached.
    - Output tokens are the bytes of the received text, thinking and tool arguments divided by three, if there are far
      more bytes than the reported output tokens explain.
    - If the reply is not `complete`, output tokens are also estimated from the time since the request was received: a
      client that leaves just before the end would else get the output for free, and so would thinking that the provider
      does not send.
    """
    usage = copy(facts.usage)
    if not facts.reported:
        usage.input = max(usage.input, input_tokens(attempt.request.top.body))
    delivered = attempt.delivered or 0
    if delivered > usage.output * MOST_BYTES:
        usage.output = max(usage.output, delivered // BYTES_PER_TOKEN)
    usage.output = max(1, usage.output)
    if complete:
        return usage
    return probable(Facts(usage, reported=True), expected(call), monotonic() - call.received)


def expected(call: Call) -> Estimate:
    """Return the maximum usage of a call, as it was or would have been reserved."""
    if call.reservation is not None:
        return call.reservation.estimate
    outputs = [candidate.offer.caps.max_output for candidate in call.candidates]
    return estimate(call.request, call.flag.limit(call.request), outputs)
