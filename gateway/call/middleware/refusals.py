"""Omits features from a request if the provider refused them for this model in earlier calls.

A provider may refuse a feature, such as a beta. Then the hook `retry` of the provider's plugin omits the feature and
adds its name to `ClientRequest.without`. If the provider accepts the changed request, this step remembers the names for
later calls.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from gateway.call.chain import Attempt, AttemptNext, Call
from gateway.call.responses import Response
from gateway.upstream.refused_features import RefusedFeatures


class WithoutRefused(msgspec.Struct, frozen=True):
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
