"""Leaves out of a request those features that the provider refused for this model in earlier calls.

If a provider refuses a feature, such as a beta, the `retry` of the provider's plugin leaves the feature out and adds
its name to `ClientRequest.without`. If the provider then accepts the request, this step remembers these names for later
calls.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gateway.call.chain import Attempt, AttemptNext, Call
from gateway.call.responses import Response
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
