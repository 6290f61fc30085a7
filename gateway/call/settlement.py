"""The amounts that are reserved in quotas and rate limits before a call is sent, and charged when it has ended.

- The buckets come from the caller's grants. Quotas are buckets of money. Rate limits are buckets of requests or tokens.
- If several offers (models of providers) could serve a call, amounts are reserved for each of them. When the call has
  ended, each offer is charged for the attempts that sent it a request. The other reservations are released.
- If the price of a call is unknown, the caller's quotas refuse the call. Quotas that only notify do not refuse it.
- A call that was never sent is charged nothing. If only requests of plugins' `steps` were sent, such as for a count of
  tokens, the call counts as one request.

Balances are kept in `gateway.money.quotas`. The cost of a call is computed in `cost_of_call.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from gateway.call.candidate import Candidate
from gateway.call.chain import Attempt, Call
from gateway.call.charged_buckets import OfferBuckets, bucket_rules, unpriced
from gateway.call.cost import NOTHING, Cost
from gateway.call.cost_of_call import elapsed, price_of_call
from gateway.call.operations import UNBILLED_OPERATIONS, UNCOUNTED_OPERATIONS, UNKNOWN_COST
from gateway.contract.errors import QUOTA, RATE_LIMIT, Problem
from gateway.contract.flag import Usage
from gateway.money.prices.rates import Priced
from gateway.money.quotas.book import CallReservation, Quotas
from gateway.money.quotas.bucket_chains import MAX_RETRY_AFTER, Exceeded
from gateway.money.quotas.buckets import Charge, Kind, Rule
from gateway.money.quotas.definitions import usd
from gateway.money.quotas.estimate import Size, estimate, probable, rate_limited_tokens
from gateway.money.quotas.reservations import Claim, Reservation
from gateway.money.quotas.settlements import BucketChain, Settlement
from gateway.store.entries import Bill
from gateway.upstream.catalog import Offer

Hold = Callable[[Sequence[Claim]], Mapping[Kind, Reservation]]
"""A function that reserves the amounts of claims, and returns the reservations. A claim is an amount for one bucket or
for a chain of buckets.

Raises `Exceeded` if too little is left for a claim.
"""


def reserve(
    call: Call, quotas: Quotas, size: Size, hold: Hold | None = None
) -> tuple[CallReservation, Sequence[Candidate]]:
    """Reserve the maximum that a call may use. Return the reservation, and the candidates (models of providers) that no
    quota or rate limit refuses.

    `size` has the estimated input tokens of the request. `hold` makes the reservation if another process keeps the
    balances. Otherwise `quotas` makes it.

    Raises `Exceeded` if all candidates are refused. Raises `Refused` if a quota cannot be charged, because it is not
    defined or no price is known.
    """
    charged = {candidate.offer.name: _charged(call, candidate.offer, quotas) for candidate in call.candidates}
    candidates = _chargeable(call, charged)
    while True:
        try:
            return _reserve(call, quotas, candidates, charged, size, hold or quotas.reserve), candidates
        except Exceeded as exceeded:
            others = [
                candidate for candidate in candidates if exceeded.chain not in charged[candidate.offer.name].rules
            ]
            if not others:
                raise
            candidates = others


def settle(call: Call, cost: Cost, *, complete: bool) -> tuple[Charge, ...]:
    """Charge a call that has ended, release its reservation, and return the charges.

    `cost` is the cost of the call's last attempt. `complete` is True if the outcome of the call is `ok`. A second
    `settle` of the same call charges nothing more and returns the same charges.
    """
    if (reservation := call.reservation) is None:
        return ()
    match _due(call, reservation, cost, complete=complete):
        case []:
            return reservation.release()
        case [(offer, settlement)]:
            return reservation.charge(offer, settlement)
        case parts:
            return reservation.charge_each(parts)


def bill(call: Call, cost: Cost, *, complete: bool) -> Bill | None:
    """Return the amounts that another process, which keeps the quota balances, must charge for a call that has ended.
    Return None if the call has no reservation.

    `cost` is the cost of the call's last attempt. `complete` is True if the outcome of the call is `ok`.
    """
    if (reservation := call.reservation) is None:
        return None
    bills = [
        Bill(reservation.terms(offer), due.requests, due.tokens, due.money, due.estimated)
        for offer, due in _due(call, reservation, cost, complete=complete)
    ]
    if len(bills) <= 1:
        return bills[0] if bills else Bill()
    return msgspec.structs.replace(bills[0], others=tuple(bills[1:]))


def _due(call: Call, reservation: CallReservation, cost: Cost, *, complete: bool) -> Sequence[tuple[str, Settlement]]:
    """Return a pair for each attempt that was sent: the name of its offer (model of a provider), and the amounts to
    charge to that offer's buckets.
    """
    last = len(call.attempts)
    return [
        (
            attempt.candidate.offer.name,
            _settlement(call, reservation, attempt, cost, complete=complete)
            if number == last
            else _settlement(call, reservation, attempt, attempt.cost or NOTHING, complete=False),
        )
        for number, attempt in enumerate(call.attempts, 1)
        if attempt.sent or attempt.stepped
    ]


def _settlement(
    call: Call, reservation: CallReservation, attempt: Attempt, cost: Cost, *, complete: bool
) -> Settlement:
    """Return the amounts that a call is charged for an attempt.

    - The number of tokens is the reported one. It is estimated if the call broke off or nothing was reported.
    - The amount of money is the cost of the attempt. If the cost is unknown, it is computed from the nearest known
      prices.
    - If only requests of plugins' `steps` were sent, the attempt costs nothing but counts as a request.
    """
    if not attempt.sent:
        return Settlement(requests=1)
    facts = attempt.metering.facts if attempt.metering else None
    reported = facts is not None and facts.reported
    cut = cost.estimated and not complete
    if facts is not None and not cut and (reported or cost.nanodollars == 0):
        usage = facts.usage
    elif cost == NOTHING:
        usage = Usage()
    else:
        usage = probable(facts, reservation.estimate, elapsed(call, attempt))
    tokens = rate_limited_tokens(usage)
    if cost.nanodollars is not None:
        return Settlement(1, tokens, cost.nanodollars, cost.estimated)
    offer = attempt.candidate.offer
    price = price_of_call(call, offer)
    guess = 0 if price is None else _guess(price, usage, facts.tier if facts else "")
    return Settlement(1, tokens, guess, estimated=True)


def _guess(price: Priced, usage: Usage, tier: str) -> int:
    """Return the cost of `usage` in nanodollars, by the nearest known prices. Return 0 if no price is known.

    The result is the first known one of these costs: in the service tier `tier`, in the standard tier, and in the
    standard tier with all input at the price of plain input.
    """
    plain = Usage(input=rate_limited_tokens(usage) - usage.output + usage.cache_read, output=usage.output)
    costs = (price.cost(usage, tier=tier), price.cost(usage), price.cost(plain))
    return next((cost for cost in costs if cost is not None), 0)


def _charged(call: Call, offer: Offer, quotas: Quotas) -> OfferBuckets:
    """Return the buckets (of quotas and rate limits) to which a call is charged if `offer` (a model of a provider)
    serves it.

    Raises `Refused` if a grant names a quota that is not defined.
    """
    assert call.plan is not None
    kept, defined = call.plan.buckets, quotas.rules
    found = kept.get(offer.name, defined)
    if found is None:
        operation = call.request.operation
        billed, counted = operation not in UNBILLED_OPERATIONS, operation not in UNCOUNTED_OPERATIONS
        # the quotas of the call's configuration, each with its newest rule
        rules = {name: defined.get(name, quota.rule) for name, quota in call.runtime.config.quotas.items()}
        chains = bucket_rules(call.identity, call.access, offer, rules, billed=billed, counted=counted)
        is_priced = _is_priced(price_of_call(call, offer))
        refused = None if is_priced else unpriced(offer, chains, by_model=operation not in UNKNOWN_COST)
        found = OfferBuckets(chains, refused)
        kept.put(offer.name, defined, found)
    return found


def _chargeable(call: Call, charged: Mapping[str, OfferBuckets]) -> Sequence[Candidate]:
    """Return the candidates (models of providers) whose calls can be charged to quotas. Raises `Refused` if there is
    none.

    A candidate can be charged if its price is known, or if the caller's quotas allow calls of unknown cost
    (`charged_buckets.unpriced`).
    """
    refusals = [refused for candidate in call.candidates if (refused := charged[candidate.offer.name].unpriced)]
    if not refusals:
        return call.candidates
    candidates = [candidate for candidate in call.candidates if charged[candidate.offer.name].unpriced is None]
    if not candidates:
        raise refusals[0]
    return candidates


def _reserve(
    call: Call,
    quotas: Quotas,
    candidates: Sequence[Candidate],
    charged: Mapping[str, OfferBuckets],
    size: Size,
    hold: Hold,
) -> CallReservation:
    """Reserve amounts in the quotas and rate limits of all candidates (models of providers).

    In all quotas, the cost of the call at the most expensive candidate is reserved. Raises `Exceeded` if a quota or a
    rate limit refuses the call.
    """
    request = call.request
    offers = [candidate.offer for candidate in candidates]
    outputs = [offer.caps.max_output for offer in offers]
    estimated = estimate(request, call.output_limit, outputs, size)
    costs = {offer.name: estimated.cost(price) for offer in offers if (price := price_of_call(call, offer)) is not None}
    highest = max(costs.values(), default=0)
    amounts: dict[Kind, int] = {"requests": 1, "tokens": estimated.tokens, "money": highest}
    merged = {chain: links for offer in offers for chain, links in charged[offer.name].rules.items()}
    claims = [_claim(chain, links, amounts[chain[0].kind]) for chain, links in merged.items()]
    chains = {offer.name: tuple(charged[offer.name].rules) for offer in offers}
    return CallReservation(quotas, estimated, hold(claims), chains, costs)


def _claim(chain: BucketChain, links: Sequence[Rule], amount: int) -> Claim:
    (first, *more), (rule, *rules) = chain, links
    return Claim(first.name, rule, amount, [(bucket.name, one) for bucket, one in zip(more, rules, strict=True)])


def _is_priced(price: Priced | None) -> bool:
    """Return whether input and output both have a price. An operator may have configured only one of the prices."""
    return price is not None and price.has_both


def problem_for(exceeded: Exceeded) -> Problem:
    """Return the error for a call that a bucket (of a quota or rate limit) or a chain of buckets refused."""
    rule, seconds = exceeded.rule, exceeded.retry_after
    again = f"try again in {seconds} s" if seconds != MAX_RETRY_AFTER else "an admin can refill it"
    if rule.window is not None:
        again += f"; it is filled at the start of each {rule.window.unit} ({rule.window.zone})"
    if rule.kind != "money":
        return Problem(RATE_LIMIT, f"rate limit of {rule.name} reached; {again}", retry_after=seconds, retryable=True)
    left = "what is left is held by calls in flight" if exceeded.balance > 0 else "nothing is left"
    others = "".join(f' nor of its overdraft "{bucket.name}"' for bucket in exceeded.chain[1:])
    message = f'quota "{exceeded.bucket}" exceeded: {left} of {usd(rule.capacity)}{others}; {again}'
    return Problem(QUOTA, message, retry_after=seconds)
