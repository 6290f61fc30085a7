"""Reserves amounts for a call in its quotas and rate limits, or refuses the call.

The amounts are the maximum that the call may use. They are reserved before a request is sent to a provider. A refusal
tells the client how long to wait. The reservation is replaced by the actual charge when the record of the call is made
(`gateway.call.settlement.settle`), however the call ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from msgspec.structs import replace

from gateway.call.auto_caching import is_on, lifetime_at
from gateway.call.chain import Call, Next
from gateway.call.keeper import Keeper
from gateway.call.responses import Response
from gateway.call.settlement import problem_for, reserve
from gateway.contract.billing import is_lazy
from gateway.contract.errors import QUOTA, Problem, Refused
from gateway.money.quotas.book import Quotas
from gateway.money.quotas.bucket_chains import Exceeded
from gateway.money.quotas.estimate import Size, measure, measured_bytes
from gateway.telemetry.log import Logger
from gateway.upstream.process_pool import NO_DROP, ProcessPool


@dataclass(frozen=True, slots=True)
class Quota:
    quotas: Quotas
    pool: ProcessPool
    log: Logger
    keeper: Keeper

    async def __call__(self, call: Call, following: Next) -> Response:
        """Reserve the maximum that the call may use, and run the next step.

        Raises `Refused` if a quota is used up or cannot be charged, or if a rate limit is reached.
        """
        call.output_limit = call.flag.limit(call.request)
        if call.access.metered:
            top, hook = call.request.top, call.flag.hooks["billed_parts"]
            measuring = partial(measure, is_lazy=is_lazy(hook.function))
            size = await self.pool.run(measured_bytes(top), NO_DROP, measuring, top, hook.as_list)
            size = _with_cache(call, size)
            try:
                if self.keeper.is_immediate:
                    call.reservation, call.candidates = reserve(call, self.quotas, size)
                else:
                    call.reservation, call.candidates = await self.keeper.reserve(call, self.quotas, size)
            except Exceeded as exceeded:
                problem = problem_for(exceeded)
                self._log(call, exceeded.bucket, problem)
                raise Refused(problem) from None
            except Refused as refused:
                self._log(call, "", refused.problem)
                raise
        return await following(call)

    def _log(self, call: Call, bucket: str, problem: Problem) -> None:
        """Log a refusal by a quota. A refusal by a rate limit is not logged, and appears only in the record of the
        call.
        """
        if problem.code == QUOTA:
            who = {"login": call.identity.login, "model": call.model, "request_id": call.id}
            self.log.warning("quota.exceeded", bucket=bucket, **who, detail=problem.message)


def _with_cache(call: Call, size: Size) -> Size:
    """Return `size`, with `caches` set to true if `auto_cache` may add cache marks with a lifetime of an hour.

    Writing such a cache entry costs more than plain input, so more must be reserved. Marks with a lifetime of five
    minutes need no such change, because every reservation allows for them.
    """
    has_marks = call.flag.has_cache_marks
    asked = (
        is_on(offer.provider, has_marks=has_marks) and lifetime_at(offer.provider, offer.caps) == "1h"
        for offer in (candidate.offer for candidate in call.candidates)
    )
    return replace(size, caches=True) if not size.caches and any(asked) else size
