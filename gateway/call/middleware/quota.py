"""Reserve before spend: a call holds what it may cost at most in its buckets, or is refused with a time to wait.

It is settled where the call's record is made (`gateway.money.quotas.book.settle`), however the call ends.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.call.chain import Answer, Call, Next
from gateway.contract.errors import QUOTA, Problem, Refused
from gateway.money.quotas.book import Quotas, problem_for
from gateway.money.quotas.ledger import Exceeded
from gateway.telemetry.log import Logger


@dataclass(frozen=True, slots=True)
class Quota:
    quotas: Quotas
    log: Logger

    async def __call__(self, call: Call, following: Next) -> Answer:
        """Raises `Refused`: the quota is spent, or cannot be charged; or too much was asked for in a time."""
        if call.runtime.grants.metered or call.require_identity().capabilities:
            self._reserve(call)
        return await following(call)

    def _reserve(self, call: Call) -> None:
        try:
            call.reservation = self.quotas.reserve(call)
        except Exceeded as exceeded:
            self._note(call, exceeded.bucket, said := problem_for(exceeded))
            raise Refused(said) from None
        except Refused as refused:
            self._note(call, "", refused.problem)
            raise

    def _note(self, call: Call, bucket: str, said: Problem) -> None:
        """Tell of quotas; that somebody is too fast is in the record of the call, and nobody's concern beyond it."""
        if said.code == QUOTA:
            who = {"login": call.require_identity().login, "model": call.model, "request_id": call.id}
            self.log.warning("quota.exceeded", bucket=bucket, **who, detail=said.message)
