"""What a call reserves in quotas and rate limits before it is sent, and what it is charged when it is over.

- Money is charged to the quotas that grants name; requests and tokens count in the rate limits of grants.
- A call that several offers could serve reserves in the buckets of all of them, and is charged in those of the one
  that served it.
- A quota fails closed: a call whose price is unknown is refused, unless the quota only notifies.
- A call that was never sent is charged nothing.

Balances are in `gateway.money.quotas`; what a call costs is decided in `cost_of_call.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Final

from gateway.call.chain import Attempt, Call, Candidate
from gateway.call.cost_of_call import Cost
from gateway.contract.errors import QUOTA, RATE_LIMIT, Problem, Refused
from gateway.contract.flag import Usage
from gateway.money.prices.rates import Priced
from gateway.money.quotas.book import CallReservation, Quotas, Settlement
from gateway.money.quotas.definitions import bucket_of, usd
from gateway.money.quotas.estimate import estimate, probable, rate_limited_tokens
from gateway.money.quotas.ledger import MAX_RETRY_AFTER, Bucket, Charge, Claim, Exceeded, Kind, Rule
from gateway.upstream.catalog import Offer

UNBILLED_OPERATIONS: Final = frozenset({"count_tokens"})
"""Operations that cost neither money nor tokens."""
_ONE_TOKEN_EACH: Final = Usage(input=1, output=1)

Rules = Mapping[Bucket, Rule]
"""The buckets that a call counts in, with their rules."""


def reserve(call: Call, quotas: Quotas) -> tuple[CallReservation, Sequence[Candidate]]:
    """Reserve the most that a call may use; return the reservation and the candidates that can be charged for it.

    Raises `Exceeded`, and `Refused` where a quota cannot be charged.
    """
    rules = {candidate.offer.name: _rules(call, candidate.offer, quotas) for candidate in call.candidates}
    candidates = _chargeable(call, rules)
    while True:
        try:
            return _reserve(call, quotas, candidates, rules), candidates
        except Exceeded as exceeded:
            others = [candidate for candidate in candidates if exceeded.key not in rules[candidate.offer.name]]
            if not others:
                raise
            candidates = others


def settle(call: Call, cost: Cost, *, complete: bool) -> tuple[Charge, ...]:
    """Charge a call that is over and free what it reserved; a second time, return the same charges.

    `cost` is the one in the call's record; `complete` says that its outcome is `ok`.
    """
    reservation, attempt = call.reservation, call.attempt
    if reservation is None:
        return ()
    if attempt is None or not attempt.sent:
        return reservation.release()
    return reservation.charge(attempt.candidate.offer.name, _settlement(call, reservation, attempt, cost, complete))


def _settlement(call: Call, reservation: CallReservation, attempt: Attempt, cost: Cost, complete: bool) -> Settlement:
    """Return what a sent call has used: as measured, else priced by its estimated tokens, else as is probable.

    A call that was cut, or whose cost is unknown, is charged its probable use. Otherwise leaving just before the end
    would make the output free, and so would thinking that is not shown to the client.
    """
    facts = call.facts
    reported = facts is not None and facts.reported
    cut = cost.estimated and not complete
    if cost.nanodollars is not None and not cut and (cost.nanodollars == 0 or reported):
        tokens = rate_limited_tokens(facts.usage) if facts else 0
        return Settlement(1, tokens, cost.nanodollars, cost.estimated)
    if facts is not None and facts.reported and not cut:
        usage = facts.usage
    else:
        usage = probable(facts, reservation.estimate, monotonic() - call.started)
    tokens = rate_limited_tokens(usage)
    if cost.nanodollars is not None and not cut:
        return Settlement(1, tokens, cost.nanodollars, estimated=True)
    offer = attempt.candidate.offer
    price = call.runtime.prices.of(offer.provider, offer.model)
    guess = 0 if price is None else _guess(price, usage, facts.tier if facts else "")
    return Settlement(1, tokens, max(cost.nanodollars or 0, guess), estimated=True)


def _guess(price: Priced, usage: Usage, tier: str) -> int:
    """Return nanodollars; a tier without a price counts as the standard one, a kind of input as plain input."""
    plain = Usage(input=rate_limited_tokens(usage) - usage.output + usage.cache_read, output=usage.output)
    costs = (price.cost(usage, tier=tier), price.cost(usage), price.cost(plain))
    return next((cost for cost in costs if cost is not None), 0)


def _rules(call: Call, offer: Offer, quotas: Quotas) -> Rules:
    """Return the buckets that a call counts in if an offer serves it.

    Raises `Refused` for a quota that is granted and not defined.
    """
    identity = call.identity
    access = call.runtime.grants.access(identity)
    billed = call.operation not in UNBILLED_OPERATIONS
    rules = {
        limit.bucket(identity.login, offer.model, patterns): limit.rule
        for limit, patterns in access.rate_limits(offer.provider_id, offer.model)
        if billed or limit.kind == "requests"
    }
    names = access.quotas(offer.provider_id, offer.model) if billed else ()
    for name in names:
        quota = call.runtime.config.quotas.get(name)
        if quota is None:
            raise _unusable(f'quota "{name}" is granted and not defined; define it in "quotas"')
        bucket = Bucket("money", bucket_of(name, identity.login, identity.node))
        rules[bucket] = quotas.rules.get(name) or quota.rule
    return rules


def _chargeable(call: Call, rules: Mapping[str, Rules]) -> Sequence[Candidate]:
    """Return the candidates whose price is known, or whose quotas refuse no call. Raises `Refused` if there is none."""
    refusals: list[Refused] = []
    candidates: list[Candidate] = []
    for candidate in call.candidates:
        offer = candidate.offer
        strict = [key.name for key, rule in rules[offer.name].items() if key.kind == "money" and not rule.notify]
        if not strict or _is_priced(call.runtime.prices.of(offer.provider, offer.model)):
            candidates.append(candidate)
        else:
            refusals.append(_unpriced(offer, strict[0]))
    if not candidates:
        raise refusals[0]
    return candidates


def _reserve(
    call: Call, quotas: Quotas, candidates: Sequence[Candidate], rules: Mapping[str, Rules]
) -> CallReservation:
    """Reserve in the buckets of all candidates, the money at the highest of their prices. Raises `Exceeded`."""
    request = call.request
    offers = [candidate.offer for candidate in candidates]
    estimated = estimate(request, call.flag.limit(request), [offer.caps.max_output for offer in offers])
    prices = [price for offer in offers if (price := call.runtime.prices.of(offer.provider, offer.model)) is not None]
    amounts: dict[Kind, int] = {"requests": 1, "tokens": estimated.tokens, "money": estimated.cost(prices)}
    merged = {bucket: rule for offer in offers for bucket, rule in rules[offer.name].items()}
    claims = [Claim(bucket.name, rule, amounts[bucket.kind]) for bucket, rule in merged.items()]
    buckets = {offer.name: tuple(rules[offer.name]) for offer in offers}
    return CallReservation(quotas, estimated, quotas.reserve(claims), buckets)


def _is_priced(price: Priced | None) -> bool:
    """Return whether a call's cost can be computed: an operator's row may hold only some of the prices."""
    return price is not None and price.cost(_ONE_TOKEN_EACH) is not None


def _unpriced(offer: Offer, bucket: str) -> Refused:
    return _unusable(
        f'the price of model "{offer.model}" is not known, so quota "{bucket}" cannot be charged for it; set '
        f'"cost_basis" of provider "{offer.provider_id}" to a price list that has it'
    )


def _unusable(message: str) -> Refused:
    return Refused(Problem(QUOTA, message, retry_after=MAX_RETRY_AFTER))


def problem_for(exceeded: Exceeded) -> Problem:
    """Return the error of a call that a bucket refused."""
    rule, seconds = exceeded.rule, exceeded.retry_after
    again = f"try again in {seconds} s" if seconds < MAX_RETRY_AFTER else "an admin can refill it"
    if rule.kind != "money":
        return Problem(RATE_LIMIT, f"rate limit of {rule.name} reached; {again}", retry_after=seconds, retryable=True)
    left = "what is left is held by calls in flight" if exceeded.balance > 0 else "nothing is left"
    message = f'quota "{exceeded.bucket}" exceeded: {left} of {usd(rule.capacity)}; {again}'
    return Problem(QUOTA, message, retry_after=seconds)
