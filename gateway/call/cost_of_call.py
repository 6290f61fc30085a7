"""The cost of a call. It is computed from the usage that the provider reports, or from an estimate without such a
report.

The cost is computed once, when the call has ended. The cost of a call with several attempts is the sum of the attempts'
costs. `money/prices/rates.py` computes with prices of tokens. `settlement.py` decides the amount that a quota reserves
before a call.

- A reply may have several parts that are billed separately. Each part has the price of the model that did the work.
- A provider may report that another model did the work (a fallback, an advisor). If that model has no price, the cost
  is unknown.
- The name in the field `model` of a reply may differ from the called model. If it has no price, it may be an alias, and
  the price of the called model is used. If the two names do not resemble each other, the cost is marked as an estimate.
- A router is a provider that forwards calls to other providers, and states the amount that it charges (`usage.cost`).
  This amount is the cost if `cost_basis` of the provider is the router's price list and no rule of `model_cost_map`
  applies to the model. Amounts that other providers state are ignored, because their unit is not documented.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Final

from msgspec.structs import replace

from gateway.call.chain import Attempt, Call
from gateway.call.cost import NOTHING, Cost, total
from gateway.call.operations import UNBILLED_OPERATIONS, UNKNOWN_COST
from gateway.config.model import Provider
from gateway.contract.facts import MESSAGE
from gateway.contract.flag import Facts, Part, Usage
from gateway.money.prices.rates import Amount, Priced, nanodollars
from gateway.money.prices.table import Prices, matching_rule, resembles
from gateway.money.quotas.estimate import BYTES_PER_TOKEN, Estimate, input_tokens, probable, rough
from gateway.upstream.catalog import Offer

UNBILLED_STATUSES: Final = frozenset({400, 401, 403, 404, 405, 413, 415, 422, 429, 500, 503, 529})
"""HTTP statuses of replies for which a provider charges nothing, because no model has run. Other error statuses (408,
424, 504) may come after a model has run."""


ROUTERS: Final = frozenset({"openrouter"})
"""The names of the price lists of routers. A router's replies state the charged amount in USD (OpenRouter's
documentation)."""
_NO_TOKENS: Final = Usage()

MOST_BYTES: Final = 8
"""Maximum plausible number of bytes per output token in a reply.

If a reply has more bytes per reported token, the report was made before most of the reply was written. Then the tokens
are estimated from the bytes.
"""


def last_cost(call: Call, facts: Facts, *, complete: bool) -> Cost:
    """Return the cost of the last attempt of a call, or 0 if there was no attempt.

    `facts` (usage, stop reason, ...) are read from the reply of this attempt.
    """
    if (attempt := call.attempt) is None:
        return NOTHING
    return attempt.cost or cost_of_attempt(call, attempt, facts, complete=complete)


def costs_of(call: Call, last: Cost) -> Sequence[Cost]:
    """Return the cost of each attempt of a call. `last` is the cost of the last attempt."""
    return [*(attempt.cost or NOTHING for attempt in call.attempts[:-1]), last]


def total_cost(call: Call, last: Cost) -> Cost:
    """Return the cost of a call. `last` is the cost of its last attempt."""
    return last if len(call.attempts) <= 1 else total(costs_of(call, last))


def cost_of_attempt(call: Call, attempt: Attempt, facts: Facts, *, complete: bool) -> Cost:
    """Return the cost of an attempt. `facts` were read from its reply. `complete` is true if the outcome of the call is
    `ok`.

    - The cost is 0 if no model was reached.
    - If the reply reports no usage, the usage is estimated.
    - If the reply broke off, the reported usage is only a lower bound. Then the usage is estimated too, and the cost is
      marked as estimated.
    - A reply broke off if it has no stop reason, and neither `complete` nor `attempt.whole` is true. A stream with
      output also counts as broken off if its report has input tokens but no output tokens.
    """
    if not attempt.sent or attempt.request.operation in UNBILLED_OPERATIONS:
        return NOTHING
    if facts.reported:
        usage = facts.usage
        has_prompt = bool(usage.input or usage.cache_read)
        silent = attempt.request.stream and bool(attempt.delivered) and has_prompt and not usage.output
        cut = silent or not (facts.stop or complete or attempt.whole)
        parts = _probable(call, attempt, facts, complete=complete) if cut else facts.parts
        return _reported(call, attempt, facts, parts, cut=cut)
    if _is_unbilled(call, attempt):
        return NOTHING
    priced, _ = _price_of(call, attempt, facts.parts[0])
    if priced is None or attempt.request.operation in UNKNOWN_COST:
        return Cost(None, "", estimated=True)
    usage = _probable(call, attempt, facts, complete=complete)[0].usage
    cost = priced.cost(usage, tier=facts.tier, geo=facts.geo, at=call.at)
    cost = priced.cost(usage, at=call.at) if cost is None else cost
    # without a report, no input counts as cached
    return Cost(cost, priced.row(call.at), estimated=True, cache_saved=0)


def _reported(call: Call, attempt: Attempt, facts: Facts, parts: Sequence[Part], *, cut: bool) -> Cost:
    """Return the cost of the `parts`. If the provider is a router that states the charged amount, such as OpenRouter,
    return that amount.

    `cut` is true if the reply broke off. The cost is then marked as estimated.
    """
    offer = attempt.candidate.offer
    if (
        facts.charged is not None
        and offer.provider.cost_basis in ROUTERS
        and not matching_rule(offer.provider, offer.model)
    ):
        saved = None if any(_is_cached(part.usage) for part in parts) else 0
        return Cost(facts.charged, f"{offer.provider.cost_basis}/usage.cost", cut, saved)
    amounts, pairs, rows, estimated = [], [], [], cut or facts.inexact
    for part in parts:
        priced, assumed = _price_of(call, attempt, part)
        if priced is None:
            if part.usage == _NO_TOKENS and len(parts) > 1:
                continue
            return Cost(None, "", estimated)
        rows.append(priced.row(call.at))
        amounts.append(priced.amount(part.usage, tier=part.tier, geo=part.geo, extra=part.extra, at=call.at))
        if _is_cached(part.usage):
            fresh = uncached(part.usage)
            without = priced.amount(fresh, tier=part.tier, geo=part.geo, extra=part.extra, at=call.at)
            pairs.append((without, amounts[-1]))
        estimated = estimated or assumed
    basis = ", ".join(dict.fromkeys(rows))
    known = [amount for amount in amounts if amount is not None]
    if len(known) < len(amounts):
        return Cost(None, basis, estimated)
    return Cost(nanodollars(known), basis, estimated, _saved(pairs))


def _is_cached(usage: Usage) -> bool:
    return bool(usage.cache_read or usage.cache_write_5m or usage.cache_write_1h)


def uncached(usage: Usage) -> Usage:
    """Return the usage that the call would have had without a cache: all input counts as fresh input."""
    given = usage.input + usage.cache_read + usage.cache_write_5m + usage.cache_write_1h
    return replace(usage, input=given, cache_read=0, cache_write_5m=0, cache_write_1h=0)


def _saved(pairs: Sequence[tuple[Amount | None, Amount | None]]) -> int | None:
    """Return the nanodollars that caching saved, or None if a cost is unknown.

    `pairs` has a pair for each billed part of the call: its cost without the cache, and its cost with the cache.
    """
    if not pairs:
        return 0
    without = [amount for amount, _ in pairs if amount is not None]
    with_cache = [amount for _, amount in pairs if amount is not None]
    if len(without) < len(pairs) or len(with_cache) < len(pairs):
        return None
    return nanodollars(without) - nanodollars(with_cache)


def _price_of(call: Call, attempt: Attempt, part: Part) -> tuple[Priced | None, bool]:
    offer = attempt.candidate.offer
    return price_of_part(call.runtime.prices, offer.provider, offer.model, part)


def price_of_part(prices: Prices, provider: Provider, model: str, part: Part) -> tuple[Priced | None, bool]:
    """Return the prices for a billed part of a reply, and whether these prices are a guess.

    - `model` is the called model, and `part.model` is the model that the provider names for the part. If the provider
      names none, the prices of `model` are used.
    - Otherwise the prices of `part.model` are used, if they are known.
    - If they are unknown, and another model than the called one did the work (`part.kind`), the result is None.
    - If they are unknown, and the part is the reply itself, the prices of `model` are used. They are a guess if the two
      names do not resemble each other.
    """
    own = prices.of(provider, model)
    if part.model in {"", model}:
        return own, False
    is_other = part.kind != MESSAGE
    served = prices.served(provider, model, part.model, is_other=is_other)
    if served is not None or is_other:
        return served, False
    return own, not resembles(model, part.model)


def _is_unbilled(call: Call, attempt: Attempt) -> bool:
    """Return whether the provider refused the request before a model ran, and so charges nothing.

    The status of the reply shows this, or the status of an error in a stream.
    """
    if attempt.head is None or attempt.delivered is not None:
        return False
    problem = attempt.problem or call.problem
    return attempt.head.status in UNBILLED_STATUSES or (problem is not None and problem.status in UNBILLED_STATUSES)


def _probable(call: Call, attempt: Attempt, facts: Facts, *, complete: bool) -> Sequence[Part]:
    """Return the billed parts of an attempt with estimated token counts, because its usage report is missing or
    incomplete.

    - No estimate is lower than the reported count.
    - Without a report, input is estimated from the body that was sent (`money/quotas/estimate.py`). No input counts as
      cached.
    - If the reply has more than `MOST_BYTES` bytes for each reported output token, output is estimated from its bytes:
      three bytes of text, thinking or tool arguments count as one token.
    - If the reply is not `complete`, output is also estimated from the time that the attempt took. Otherwise hidden
      thinking would be free, and a client could get free output by disconnecting just before the end.
    """
    reply, *others = facts.parts
    given, output, delivered = reply.usage.input, reply.usage.output, attempt.delivered or 0
    if not facts.reported:
        is_translated = attempt.request.dialect != call.request.dialect
        flag = attempt.candidate.flag if is_translated else call.flag
        given = max(given, input_tokens(attempt.request.top.body, flag.hooks["billed_parts"].as_list))
    if delivered > facts.usage.output * MOST_BYTES:
        output = max(output, delivered // BYTES_PER_TOKEN)
    reply = replace(reply, usage=replace(reply.usage, input=given, output=max(1, output)))
    if not complete:
        usage = probable(Facts((reply,), reported=True), expected(call), elapsed(call, attempt))
        reply = replace(reply, usage=usage)
    return [reply, *others]


def price_of_call(call: Call, offer: Offer) -> Priced | None:
    """Return the prices for a call to an offer (model of a provider), or None if the prices are unknown.

    These prices are used for estimates, before the usage of the call is known or if it stays unknown.
    """
    if call.request.operation in UNKNOWN_COST:
        return None
    return call.runtime.prices.of(offer.provider, offer.model)


def elapsed(call: Call, attempt: Attempt) -> float:
    """Return the seconds for which a model may have worked in an attempt: the attempt's duration so far."""
    if attempt.seconds is not None:
        return attempt.seconds
    return monotonic() - (call.received if len(call.attempts) == 1 else attempt.began)


def expected(call: Call) -> Estimate:
    """Return the maximum usage of a call: the reserved amount, or a rough estimate if nothing was reserved."""
    if call.reservation is not None:
        return call.reservation.estimate
    outputs = [candidate.offer.caps.max_output for candidate in call.candidates]
    return rough(call.request, call.output_limit, max(outputs, default=1))
