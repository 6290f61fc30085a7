"""Answers a token-counting request with an estimate if the provider cannot count tokens.

The `steps` of a provider's plugin may also return an estimate, because the provider cannot count the tokens of some
models. In both cases, the response has the header `x-irisgate-estimated`, and the log has a line about the estimate.
`money/quotas/estimate.py` computes estimates.
"""

from __future__ import annotations

import msgspec

from gateway.call.chain import Attempt, AttemptNext, Call
from gateway.call.responses import Response, Whole
from gateway.contract.flag import Head
from gateway.contract.json_api import ESTIMATED, estimated_count
from gateway.contract.losses import Way
from gateway.money.quotas.estimate import input_tokens
from gateway.telemetry.log import Logger
from gateway.upstream.process_pool import DropRelay, ProcessPool


class Count(msgspec.Struct, frozen=True):
    pool: ProcessPool
    log: Logger

    async def __call__(self, call: Call, attempt: Attempt, following: AttemptNext) -> Response:
        if attempt.candidate.way is Way.ESTIMATE:
            body = attempt.request.top.body
            parts = call.flag.hooks["billed_parts"].as_list
            tokens = await self.pool.run(len(body), DropRelay(attempt.drop), input_tokens, body, parts)
            estimate = estimated_count(tokens)
            attempt.head = Head(estimate.status, estimate.headers)
            response: Response = Whole(estimate.status, estimate.headers, estimate.body)
        else:
            response = await following(call, attempt)
        if ESTIMATED in response.headers:
            provider = attempt.candidate.offer.provider_id
            self.log.info("tokens.estimated", request_id=call.id, provider=provider, model=call.model)
        return response
