"""The step that tries the candidates (models of providers) of a call in their order, until one of them serves it.

- Every attempt starts with the client's unchanged request.
- Another candidate is tried only after certain failures (`call/failover.py`), and only before the client has received
  an event.
- There are limits for the number of a call's attempts, for their total time, and for the ratio of retries to calls
  (`config/sections/resilience.py`).
- Candidates whose providers are known to fail are skipped. If all are known to fail, the first one is tried.
- A failed attempt is closed, and its cost is computed, before the next attempt begins.
- If the provider throttles or refuses a key, another free key of the provider is tried before another candidate.
- A call with a single candidate and a single key, as most calls are, skips the work for failover.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from time import monotonic

import msgspec
from msgspec.structs import replace

from gateway.call.admission import Admission
from gateway.call.candidate import Candidate
from gateway.call.chain import Attempt, AttemptNext, Call
from gateway.call.clean_up import CleanUp
from gateway.call.cost_of_call import cost_of_attempt
from gateway.call.failover import CandidateRefused, Health, error_of_all, is_providers_failure
from gateway.call.health_reports import has_our_key, is_of_key, report
from gateway.call.peek import Peeked
from gateway.call.plugin_reports import PluginReports
from gateway.call.responses import Response, Stream, Whole
from gateway.call.retry_budget import RetryBudget
from gateway.config.document.secrets import Secret
from gateway.config.model import Resilience
from gateway.contract.errors import TIMEOUT, GatewayError, PluginFailed, Problem, Refused, UpstreamFailed
from gateway.contract.flag import Facts
from gateway.contract.losses import Way
from gateway.telemetry.log import Logger
from gateway.upstream.catalog import Offer
from gateway.upstream.credentials import keys
from gateway.upstream.key_pools import KeyPools, KeyState


class _Failed(msgspec.Struct):
    """An attempt that failed, or a candidate (model of a provider) for which no attempt could be made."""

    candidate: Candidate
    error: GatewayError
    was_sent: bool
    """Whether the provider may have received a request."""
    key: KeyState | None
    """The key that was chosen for the attempt. It is None if the provider has only one key or none."""
    is_of_key: bool
    """Whether the attempt failed because of its key. Another key of the provider may then serve the call."""


class Attempts(msgspec.Struct, frozen=True):
    """Makes the attempts of a call. This is the last step of the call's chain.

    `steps` is the chain that runs once for each attempt.
    """

    steps: AttemptNext
    admission: Admission
    health: Health
    pools: KeyPools
    budget: RetryBudget
    reports: PluginReports
    log: Logger

    async def __call__(self, call: Call) -> Response:
        """Return the response of the first candidate (model of a provider) that serves the call.

        If no candidate serves it, raises the error that helps the client most (`failover.error_of_all`).
        """
        settings = call.runtime.config.resilience
        if settings.failover and (len(call.candidates) > 1 or settings.retry_after_seconds):
            return await self._one_by_one(call, call.candidates, settings)
        candidate = call.candidates[0]
        if candidate.offer.provider.apikeys:
            return await self._one_by_one(call, (candidate,), settings)
        self._enter(candidate, call.stack)
        attempt = _attempt(call, candidate)
        try:
            response = await self.steps(call, attempt)
        except GatewayError as error:
            report(self.health, attempt, error)
            raise
        if isinstance(response, Whole):
            report(self.health, attempt, None)
        return response

    async def _one_by_one(self, call: Call, candidates: Sequence[Candidate], settings: Resilience) -> Response:
        """Try the candidates (models of providers) one by one, and return the response of the first that serves the
        call.

        If all fail, and a provider asks for a wait that the configuration allows (`retry_after_seconds`), wait and try
        that provider again.
        """
        deadline = monotonic() + settings.total_seconds
        self.budget.called()
        failed: list[_Failed] = []
        for candidate, key in self._ways(call, candidates, failed):
            if failed and not self._may_go_on(call, settings, failed, deadline):
                break
            if (response := await self._tried(call, candidate, key, deadline, failed)) is not None:
                return response
        while (waits := _waits(failed, settings)) is not None:
            candidate, seconds = waits
            if monotonic() + seconds >= deadline or not self._may_go_on(call, settings, failed, deadline):
                break
            await _wait(call, seconds)
            key = self._key(call, candidate)
            if (response := await self._tried(call, candidate, key, deadline, failed)) is not None:
                return response
        raise error_of_all([one.error for one in failed])

    def _ways(
        self, call: Call, candidates: Sequence[Candidate], failed: Sequence[_Failed]
    ) -> Iterator[tuple[Candidate, KeyState | None]]:
        """Yield the candidates (models of providers) to try, each with a key if its provider has several keys.

        If an attempt fails because of its key, the same candidate is yielded again with another key, as long as a key
        is free.
        """
        for candidate in self._healthy(candidates):
            key = self._key(call, candidate)
            yield candidate, key
            while key is not None and failed[-1].is_of_key and (key := self._free_key(call, candidate)) is not None:
                yield candidate, key

    def _key(self, call: Call, candidate: Candidate) -> KeyState | None:
        """Return the key for an attempt.

        Return None if the provider does not have several keys, or if the client sends its own key.
        """
        provider = candidate.offer.provider
        if not provider.apikeys or not keys.uses_pool(provider, call.request.headers):
            return None
        free = self._free_key(call, candidate)
        if free is not None:
            return free
        return self.pools.of(provider).next_free(candidate.offer.model, (call.identity.login, call.session_id))

    def _free_key(self, call: Call, candidate: Candidate) -> KeyState | None:
        offer, session = candidate.offer, (call.identity.login, call.session_id)
        sticky_seconds = call.runtime.config.resilience.sticky_seconds
        return self.pools.of(offer.provider).free(offer.model, session, sticky_seconds)

    def _healthy(self, candidates: Sequence[Candidate]) -> Iterator[Candidate]:
        """Yield the candidates (models of providers) that are not known to fail. If all are known to fail, yield the
        first.
        """
        found = False
        for candidate in candidates:
            offer = candidate.offer
            if self.health.may_try(offer.provider_id, offer.model):
                found = True
                yield candidate
        if not found:
            yield candidates[0]

    def _may_go_on(self, call: Call, settings: Resilience, failed: Sequence[_Failed], deadline: float) -> bool:
        """Return whether another attempt may begin, by the limits of attempts, time and retries.

        An attempt counts as a retry only if the attempt before it was sent.
        """
        if len(call.attempts) >= settings.max_attempts or monotonic() >= deadline:
            return False
        return not failed[-1].was_sent or self.budget.take(settings.retry_budget)

    async def _tried(
        self, call: Call, candidate: Candidate, key: KeyState | None, deadline: float, failed: list[_Failed]
    ) -> Response | None:
        """Try a candidate (model of a provider) and return its response.

        If the attempt fails and another candidate may be tried, add the failure to `failed` and return None. If no
        other candidate may be tried, raise the failure, a `GatewayError`.
        """
        stack = CleanUp()
        call.stack.push_async_callback(stack.aclose)
        attempt: Attempt | None = None
        try:
            self._enter(candidate, stack)
            if key is not None:
                _use(key, stack)
            attempt = _attempt(call, candidate, stack, deadline, key)
            return await self._response(call, attempt, deadline)
        except GatewayError as error:
            # after a provider's failure, a refusal by the gateway tells only that this candidate cannot take over
            leads_on = isinstance(error, CandidateRefused) or (bool(failed) and isinstance(error, Refused))
            if attempt is not None:
                leads_on = leads_on or is_providers_failure(error, is_our_key=has_our_key(attempt))
                self._end(call, attempt, error)
                if leads_on:
                    self._log(call, attempt, error.problem)
            await stack.aclose()
            call.hold_reply(0)
            if not leads_on:
                raise
            was_sent = attempt is not None and bool(attempt.sent or attempt.stepped)
            of_key = attempt is not None and is_of_key(attempt, error)
            failed.append(_Failed(candidate, error, was_sent, key, of_key))
            return None

    async def _response(self, call: Call, attempt: Attempt, deadline: float) -> Response:
        """Return the response of an attempt. Raises `GatewayError` if the attempt fails before its first event."""
        response = await self.steps(call, attempt)
        if not isinstance(response, Stream):
            report(self.health, attempt, None)
            return response
        peeked = Peeked(response)
        assert attempt.stack is not None
        attempt.stack.push_async_callback(peeked.close)
        try:
            async with asyncio.timeout(deadline - monotonic()):
                failure = await peeked.failure()
        except TimeoutError:
            seconds = call.runtime.config.resilience.total_seconds
            message = f"no provider sent an event within {seconds:g} seconds"
            failure = UpstreamFailed(Problem(TIMEOUT, message, retryable=True))
        if failure is not None:
            raise failure
        return replace(response, source=peeked, stages=())

    def _end(self, call: Call, attempt: Attempt, error: GatewayError) -> None:
        """Store the error, the duration and the cost of a failed attempt in `attempt`, and report the failure to
        `health`.
        """
        report(self.health, attempt, error)
        attempt.problem = error.problem
        attempt.seconds = monotonic() - attempt.began
        attempt.cost = cost_of_attempt(call, attempt, self._facts(call, attempt), complete=False)

    def _log(self, call: Call, attempt: Attempt, problem: Problem) -> None:
        """Log the failure of an attempt after which another candidate (model of a provider) may be tried."""
        offer = attempt.candidate.offer
        key = {} if attempt.key is None else {"key": attempt.key.name}
        self.log.warning(
            "attempt.failed", provider=offer.provider_id, model=offer.model, **key, request_id=call.id,
            error=problem.code, error_native=problem.native or problem.reason, status=problem.status,
        )  # fmt: skip

    def _facts(self, call: Call, attempt: Attempt) -> Facts:
        """Return the facts (usage, stop reason, ...) that were read from the attempt's reply so far.

        If the meter (usage reader) fails now, return the facts that it returned last.
        """
        if attempt.metering is None:
            return Facts()
        try:
            return attempt.metering.read()
        except PluginFailed as failure:
            self.reports.failed(failure, call.id)
            return attempt.metering.facts

    def _enter(self, candidate: Candidate, stack: CleanUp) -> None:
        """Count the call as in flight at the provider of `candidate`.

        Raises `CandidateRefused` if the provider's limit of calls in flight is reached.
        """
        if candidate.way is not Way.ESTIMATE:
            provider = candidate.offer.provider
            self.admission.enter_provider(provider)
            stack.callback(self.admission.leave_provider, provider)


def _attempt(
    call: Call,
    candidate: Candidate,
    stack: CleanUp | None = None,
    deadline: float | None = None,
    key: KeyState | None = None,
) -> Attempt:
    """Add an attempt to the call and return it.

    The attempt gets the client's request, without the fields that would choose the provider's key or URL.
    """
    headers = _added_headers(call, candidate.offer, None if key is None else key.secret)
    attempt = Attempt(candidate, call.request, headers, stack=stack, deadline=deadline, key=key)
    attempt.request = keys.without_own(attempt.request, attempt.drop)
    call.attempts.append(attempt)
    call.model = candidate.offer.model
    return attempt


def _use(key: KeyState, stack: CleanUp) -> None:
    """Count a call as in flight for this key until the stack is closed."""
    key.in_flight += 1
    stack.callback(_leave, key)


def _leave(key: KeyState) -> None:
    key.in_flight -= 1


def _waits(failed: Sequence[_Failed], settings: Resilience) -> tuple[Candidate, float] | None:
    """Return the candidate (model of a provider) whose provider asks for the shortest wait, and the wait in seconds.

    Return None if no provider asks for a wait, or if the shortest wait is longer than the configuration allows.
    """
    if not settings.failover or not settings.retry_after_seconds:
        return None
    last = {(one.candidate.offer.name, one.key): one for one in failed}
    waits = [
        (one.error.problem.retry_after, one.candidate)
        for one in last.values()
        if one.error.problem.retry_after is not None and isinstance(one.error, UpstreamFailed)
    ]
    if not waits:
        return None
    seconds, candidate = min(waits, key=lambda wait: wait[0])
    return (candidate, seconds) if seconds <= settings.retry_after_seconds else None


async def _wait(call: Call, seconds: float) -> None:
    """Wait before another attempt. The wait is not counted as time that the gateway itself takes."""
    assert call.attempt is not None
    await call.attempt.stopwatch.wait(asyncio.sleep(seconds))


def _added_headers(call: Call, offer: Offer, key: Secret | None) -> dict[str, str]:
    """Return the headers that the gateway adds to a request that a provider's plugin has built.

    `key` is the chosen key, or None if the provider does not have several keys. If several sources set the same header,
    the first of these wins: the credential, the provider's configuration, a grant, a filter.
    """
    assert call.plan is not None
    own = keys.headers(offer.provider, call.request.headers, key)
    return {**call.filter_headers, **call.plan.headers[offer.name], **own}
