"""Sets the candidates of a call: the offers (models of providers) that can serve it, with their conversions.

The order of the offers is not changed. `call/conversion_choice.py` has the rules.
"""

from __future__ import annotations

from collections.abc import Awaitable

import msgspec

from gateway.call.chain import Call, Next
from gateway.call.conversion_choice import Asked, Conversions
from gateway.call.responses import Response
from gateway.contract.flag import START_JOB


class Route(msgspec.Struct, frozen=True):
    conversions: Conversions

    def __call__(self, call: Call, following: Next) -> Awaitable[Response]:
        """Set the candidates (models of providers, with conversions) of the call, and run the next step.

        Raises `Refused` if no provider can serve the client's format.
        """
        assert call.plan is not None
        call.candidates = call.plan.candidates_of(call.offers)
        if not call.candidates:
            request = call.request
            raise self.conversions.missing(Asked(request.flag, request.dialect, request.operation), call.offers[0])
        if call.request.operation == START_JOB:
            # another provider would start a second job, with the buckets of the first provider's account and region
            call.candidates = call.candidates[:1]
        return following(call)
