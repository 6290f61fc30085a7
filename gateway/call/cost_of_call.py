"""The cost of a call: by the provider's report, or by an estimate that says so where nothing was reported.

It is computed once, for the record of a call that is over. The price of a token is in `money/prices/rates.py`, and the
amount that a quota reserves before a call is decided in `settlement.py`.
"""

from __future__ import annotations

from copy import copy
from typing import Final, NamedTuple

from gateway.call.chain import Attempt, Call
from gateway.contract.flag import Facts, Usage
from gateway.money.prices.rates import Priced
from gateway.money.quotas.estimate import BYTES_PER_TOKEN, input_tokens

UNBILLED_STATUSES: Final = frozenset({400, 401, 403, 404, 405, 413, 415, 422, 429, 500, 503, 529})
"""Statuses with which a provider refuses a request; with others (408, 424, 504) a model may have run before."""


class Cost(NamedTuple):
    """The cost of one call."""

    nanodollars: int | None
    """The amount; None where it is unknown."""
    basis: str
    """The price row that was used, as `book/model` or `book/model@day`; "" when none was."""
    estimated: bool = False
    """Whether tokens were not reported, or not all of them."""


NOTHING: Final = Cost(0, "")
UNKNOWN: Final = Cost(None, "")

MOST_BYTES: Final = 8
"""Most bytes of a token on a reply's average, because a report of fewer tokens came before most of it was written."""


def cost_of(call: Call, facts: Facts, *, complete: bool) -> Cost:
    """Return the cost by the provider's report; nothing was spent where nothing reached a model.

    A report without an end is a lower bound, since more was to come: it is marked, unless the reply is `complete`.
    The bytes that were delivered count where they are many more than were reported, as after Anthropic's first event,
    and where no output was reported at all.
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
    """Return the usage, with the output tokens of `size` bytes where it has too few for them."""
    if size <= usage.output * MOST_BYTES:
        return usage
    usage = copy(usage)
    usage.output = max(usage.output, size // BYTES_PER_TOKEN)
    return usage


def _estimated(call: Call, attempt: Attempt, facts: Facts, priced: Priced | None) -> Cost:
    """Return an estimate for a reply without usage: a client left, or a provider's report was lost.

    - Input is the request's body at three bytes a token, with a constant for each image or file
      (`money/quotas/estimate.py`). No input counts as cached.
    - Output is the delivered text, thinking and tool arguments at three bytes a token, and at least one token. Thinking
      that is not shown is not counted.
    - A known service tier counts, unless it has no price.
    - Where no reply had begun, the cost is unknown.
    """
    if priced is None or attempt.delivered is None:
        return UNKNOWN
    usage = Usage(input_tokens(attempt.request.top.body), max(1, attempt.delivered // BYTES_PER_TOKEN))
    cost = priced.cost(usage, tier=facts.tier, at=call.at)
    return Cost(priced.cost(usage, at=call.at) if cost is None else cost, priced.row(call.at), estimated=True)
