"""Tokens that no provider of the model counts are estimated; and every such estimate is told in the log.

A flag's `steps` may give an estimate too, where its provider counts some models and not others. The reply of either has
the header `x-irisgate-estimated`. What an estimate is made of is in `money/quotas/estimate.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.call.chain import Answer, Call, Next
from gateway.contract.flag import Head
from gateway.contract.json_api import ESTIMATED, estimated_count
from gateway.money.quotas.estimate import input_tokens
from gateway.telemetry.log import Logger


@dataclass(frozen=True, slots=True)
class Count:
    log: Logger

    async def __call__(self, call: Call, following: Next) -> Answer:
        attempt = call.require_attempt()
        if attempt.candidate.estimated:
            reply = estimated_count(input_tokens(attempt.request.top.body))
            attempt.head = Head(reply.status, reply.headers)
            answer = Answer(reply.status, dict(reply.headers), body=reply.body)
        else:
            answer = await following(call)
        if ESTIMATED in answer.headers:
            provider = attempt.candidate.offer.provider_id
            self.log.info("tokens.estimated", request_id=call.id, provider=provider, model=call.model)
        return answer
