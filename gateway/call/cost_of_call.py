"""The cost of a call, from the usage that the provider reports, or from an estimate if the provider reports none.

The cost is computed once, for the record of a call that has ended, and is marked if it is an estimate. Prices of tokens
are in `money/prices/rates.py`. The amount that a quota reserves before a call is decided in `settlement.py`.
"""

from __future__ import annotations

from copy import copy
from typing import Final, NamedTuple

from gateway.call.chain import Attempt, Call
from gateway.contract.flag import Facts, Usage
from gateway.money.prices.rates import Priced
from gateway.money.quotas.estimate import BYTES_PER_TOKEN, input_tokens

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


NOTHING: Final = Cost(0, "")
UNKNOWN: Final = Cost(None, "")

MOST_BYTES: Final = 8
"""Maximum average number of bytes per token in a reply. If a reply has more bytes per reported token, then the report
was made before most of the reply was written."""


def cost_of(call: Call, facts: Facts, *, complete: bool) -> Cost:
    """Return the cost by the provider's report, else by an estimate; 0 if no request reached a model.

    A reply has broken off if it is not `complete` and has no stop reason. A stream also counts as broken off if it has
    output, and its usage report has input tokens but no output tokens. The usage report of such a reply is only a lower
    bound, so the cost is marked as estimated. If the reply has far more bytes than the reported output tokens explain,
    the output is estimated from these bytes. This is so if only Anthropic's first event has reported usage.
    """
    attempt = call.attempt
    if attempt is None or not attempt.sent or call.operation == "count_tokens":
        return NOTHING
    priced = call.runtime.prices.of(attempt.candidate.offer.provider, attempt.candidate.offer.model)
    if facts.reported:
        silent = attempt.request.stream and bool(attempt.delivered and facts.usage.input) and not facts.usage.output
        cut = silent or (not facts.stop and not complete)
        if priced is None:
            return Cost(None, "", cut)
        usage = _delivered(facts.usage, attempt.delivered or 0) if cut else facts.usage
        return Cost(priced.cost(usage, tier=facts.tier, extra=facts.extra, at=call.at), priced.row(call.at), cut)
    if attempt.head is not None and attempt.head.status in UNBILLED_STATUSES:
        return NOTHING
    return _estimated(call, attempt, facts, priced)


def _delivered(usage: Usage, size: int) -> Usage:
    """Return the usage, with estimated output tokens if the reported ones are too few for `size` bytes of output."""
    if size <= usage.output * MOST_BYTES:
        return usage
    usage = copy(usage)
    usage.output = max(usage.output, size // BYTES_PER_TOKEN)
    return usage


def _estimated(call: Call, attempt: Attempt, facts: Facts, priced: Priced | None) -> Cost:
    """Return an estimate for a reply without a usage report, as when the client left or the report was lost.

    - Input tokens are the bytes of the request's body divided by three, with a constant for each image or file
      (`money/quotas/estimate.py`). No input counts as cached.
    - Output tokens are the bytes of the received text, thinking and tool arguments divided by three, and at least one.
      Thinking that the provider does not send is not counted.
    - The price is that of the service tier, if the tier is known and has a price, else that of the standard tier.
    - If no reply had begun, or the model has no price, the cost is unknown.
    """
    if priced is None or attempt.delivered is None:
        return UNKNOWN
    usage = Usage(input_tokens(attempt.request.top.body), max(1, attempt.delivered // BYTES_PER_TOKEN))
    cost = priced.cost(usage, tier=facts.tier, at=call.at)
    return Cost(priced.cost(usage, at=call.at) if cost is None else cost, priced.row(call.at), estimated=True)
