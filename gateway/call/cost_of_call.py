"""What a call has cost, from what its provider reported; or an estimate that says so, where it reported nothing.

Read once, when a call is over, for its record. What a token costs is in `money/prices/rates.py`, what a quota holds
back before a call in `gateway/quotas`.
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
    """What a call has cost."""

    nanodollars: int | None
    """None where nobody knows."""
    basis: str
    """The price row that was used, as `book/model` or `book/model@day`; "" when none was."""
    estimated: bool = False
    """Tokens were not reported, or not all of them."""


NOTHING: Final = Cost(0, "")
UNKNOWN: Final = Cost(None, "")

MOST_BYTES: Final = 8
"""Of a token, on the average of a reply: a report of fewer tokens was made before most of it was written."""


def cost_of(call: Call, facts: Facts, *, complete: bool) -> Cost:
    """By the provider's report where there is one; nothing was spent where nothing reached a model.

    A report without an end is a lower bound, since more was to come: it is marked, unless the reply is `complete`.
    Where much more was delivered than it tells of, as after Anthropic's first event, or where it tells of no output at
    all, what was delivered counts.
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
    """The usage with the output of a number of bytes, where it has too few tokens for that."""
    if size <= usage.output * MOST_BYTES:
        return usage
    found = copy(usage)
    found.output = max(usage.output, size // BYTES_PER_TOKEN)
    return found


def _estimated(call: Call, attempt: Attempt, facts: Facts, priced: Priced | None) -> Cost:
    """Where a reply has begun, and its usage never came: a client left, or a provider's report was lost.

    Input is the request's body at three bytes a token, with each image or file a constant (`money/quotas/estimate.py`);
    nothing is taken for cached. Output is what was delivered of text, thinking and arguments of tools, at three bytes a
    token too, and one token at least: thinking that is not shown is not in it. The sum of both is near the truth and
    never nothing. A service tier that is known counts, unless it has no price. Where no reply had begun, nobody
    knows whether anything was spent.
    """
    if priced is None or attempt.delivered is None:
        return UNKNOWN
    usage = Usage(input_tokens(attempt.request.top.body), max(1, attempt.delivered // BYTES_PER_TOKEN))
    cost = priced.cost(usage, tier=facts.tier, at=call.at)
    return Cost(priced.cost(usage, at=call.at) if cost is None else cost, priced.row(call.at), estimated=True)
