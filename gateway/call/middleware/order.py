"""The step that puts the granted offers (models of providers) of a call into the order in which they are tried.

No other step decides the order. The rules are in `call/candidate_order.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

import msgspec

from gateway.call.candidate_order import FOR_EACH_CALL, CandidateOrder, best_ranked
from gateway.call.chain import Call, Next
from gateway.call.responses import Response
from gateway.contract.conversions import GENERATE
from gateway.upstream.catalog import Offer


class Order(msgspec.Struct, frozen=True):
    candidates: CandidateOrder

    def __call__(self, call: Call, following: Next) -> Awaitable[Response]:
        return following(call) if len(call.offers) == 1 else self._in_order(call, following)

    async def _in_order(self, call: Call, following: Next) -> Response:
        """Put the offers (models of providers) in order, run the next step, and remember which offer has served the
        session.
        """
        session = call.identity.login, call.session_id, call.request.model
        call.offers = self._ordered(call, session)
        call.model = call.offers[0].model
        response = await following(call)
        if call.attempt is not None and call.request.operation == GENERATE:
            self.candidates.served(session, call.attempt.candidate.offer, call.offers[0])
        return response

    def _ordered(self, call: Call, session: tuple[str, str, str]) -> Sequence[Offer]:
        settings, prices, offers = call.runtime.config.resilience, call.runtime.prices, call.offers
        alias = call.runtime.catalog.aliases.get(call.request.model)
        order = self.candidates.order
        if alias is not None:
            ordered = order(offers, alias.strategy, session, prices, settings.sticky_seconds)
            # without failover, an alias is one model, whatever the formats of the others are
            return ordered if settings.failover else ordered[:1]
        best = best_ranked(offers)
        ranked = [*order(offers[:best], settings.strategy, session, prices, settings.sticky_seconds), *offers[best:]]
        if settings.strategy in FOR_EACH_CALL or not settings.failover:
            return ranked
        return order(ranked, "first", session, prices, settings.sticky_seconds)
