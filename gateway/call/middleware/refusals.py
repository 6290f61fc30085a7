"""Leaves out of a request what the provider refused before for this model, and remembers what a retry left out.

A flag's `retry` puts the names of what it leaves out into `ClientRequest.without`. They are remembered if the provider
then accepts the request.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gateway.call.chain import Attempt, AttemptNext, Call, Response
from gateway.upstream.refused_features import RefusedFeatures


@dataclass(frozen=True, slots=True)
class WithoutRefused:
    features: RefusedFeatures

    async def __call__(self, call: Call, attempt: Attempt, following: AttemptNext) -> Response:
        target = attempt.candidate.target
        known = self.features.of(target.provider, target.model)
        if known:
            attempt.request = replace(attempt.request, without=known)
        response = await following(call, attempt)
        if attempt.request.without != known:
            self.features.refused(target.provider, target.model, attempt.request.without)
        return response
