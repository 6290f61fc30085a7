"""Sends, counts and logs every request to a provider that a call causes. No other file sends such requests.

- A request counts as sent as soon as the provider may have received a byte of it.
- Before the first request of a billed call is sent, a line about the call is written to the journal (`write_ahead.py`).
- A request is logged if the provider cannot be reached, or refuses the gateway's key.

What is sent, and what a reply means, is decided in `middleware/send.py` and `middleware/steps.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final

from gateway.call.chain import Attempt, Call
from gateway.call.write_ahead import UNWRITABLE, announce
from gateway.contract.errors import UPSTREAM, NotReached, Problem, Refused, UpstreamFailed
from gateway.contract.flag import UpstreamRequest
from gateway.store.base import StoreFailed
from gateway.store.follower import JournalFollower
from gateway.telemetry.log import Logger
from gateway.telemetry.metrics import Metrics
from gateway.upstream.client import Notices, Upstream, UpstreamResponse
from gateway.upstream.credentials import keys
from gateway.upstream.refused_keys import RefusedKeys

MAX_LOGGED: Final = 300
"""Maximum number of characters of a provider's error message in the log."""
_AUTH_STATUSES: Final = (401, 403)
"""Statuses with which a provider refuses a key, or refuses access to a model with this key."""


@dataclass(frozen=True, slots=True)
class Sender:
    upstream: Upstream
    follower: JournalFollower
    metrics: Metrics
    keys: RefusedKeys
    log: Logger

    async def open(self, call: Call, attempt: Attempt, request: UpstreamRequest) -> UpstreamResponse:
        """Send the request that answers the call, and return the reply, whose body is not read yet.

        Raises `UpstreamFailed` if there is no reply. With `storage.sync`, the journal is flushed to the disk first. If
        this fails, raises `Refused` and sends nothing.
        """

        def before() -> Awaitable[None] | None:
            pending = announce(call, attempt, self.follower)
            return None if pending is None else _durable(pending)

        def begins() -> None:
            # from here on, the costs depend on the reply to this request, and not on an earlier reply
            attempt.sent, attempt.head, attempt.metering = attempt.sent + 1, None, None

        return await self._open(call, attempt, request, Notices(before, begins))

    async def open_step(self, call: Call, attempt: Attempt, request: UpstreamRequest) -> UpstreamResponse:
        """Send a request of a plugin's `steps`, which costs nothing. Raises `UpstreamFailed` if there is no reply."""

        def begins() -> None:
            attempt.stepped += 1

        return await self._open(call, attempt, request, Notices(begins=begins))

    async def _open(self, call: Call, attempt: Attempt, request: UpstreamRequest, notices: Notices) -> UpstreamResponse:
        provider = attempt.candidate.offer.provider
        timeouts = call.runtime.config.resilience.timeouts
        opening = self.upstream.open(provider, request, attempt.headers, timeouts, notices)
        try:
            reply = await attempt.stopwatch.wait(opening)
        except NotReached as error:
            failure = {"reason": error.problem.reason, "message": error.problem.message}
            self.log.warning("upstream.unreachable", provider=provider.id, request_id=call.id, **failure)
            raise
        call.stack.callback(reply.close)
        return reply

    def failed(self, attempt: Attempt, error: UpstreamFailed) -> None:
        """Count an attempt that failed at the provider, or before it reached the provider."""
        self.metrics.upstream_error(attempt.candidate.offer.provider_id, error.problem.code)

    def check_key(self, call: Call, attempt: Attempt, problem: Problem) -> None:
        """Count and log the provider's refusal of the gateway's key, or of access to a model with this key.

        If the key itself is refused, raises `UpstreamFailed` with the advice to ask an administrator.
        """
        is_refusal = problem.key_refused or problem.status in _AUTH_STATUSES
        if not is_refusal or not _is_our_key(attempt):
            return
        provider = attempt.candidate.offer.provider
        self.metrics.upstream_auth_failure(provider.id)
        refusal = {"status": problem.status, "native": problem.native, "message": problem.message[:MAX_LOGGED]}
        if not problem.key_refused:
            self.log.warning("upstream.access_denied", provider=provider.id, request_id=call.id, **refusal)
            return
        self.keys.refused(provider)
        self.log.warning("upstream.key_refused", provider=provider.id, request_id=call.id, **refusal)
        message = f"{provider.id} refused the gateway's key; tell an administrator of this gateway"
        raise UpstreamFailed(Problem(UPSTREAM, message, reason=problem.native or "key_refused"))

    def key_accepted(self, attempt: Attempt) -> None:
        """Note that the provider has accepted the gateway's key, because it has answered a request."""
        if _is_our_key(attempt):
            self.keys.accepted(attempt.candidate.offer.provider)


async def _durable(pending: Awaitable[None]) -> None:
    """Wait until the call's journal line is on the disk. Raises `Refused` if the line cannot be written."""
    try:
        await pending
    except StoreFailed:
        raise Refused(UNWRITABLE) from None


def _is_our_key(attempt: Attempt) -> bool:
    return keys.is_gateways(attempt.candidate.offer.provider, attempt.request.headers)
