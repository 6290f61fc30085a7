"""Sends the requests of calls to providers, counts them, and logs failures. No other file sends requests of calls.

- A request counts as sent as soon as the provider may have received a byte of it.
- Before the first request of a billed call is sent, a line about the call is written to the journal (`write_ahead.py`).
- A failure is logged if the provider cannot be reached, refuses the gateway's key, or denies access.

`middleware/send.py` and `middleware/steps.py` make the requests and interpret the replies.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from time import monotonic
from typing import Any, Final

import msgspec

from gateway.call.chain import Attempt, Call
from gateway.call.health_reports import has_our_key, report_break
from gateway.call.key_redaction import redaction
from gateway.call.write_ahead import UNWRITABLE, announce
from gateway.config.credentials import AwsSettings
from gateway.config.model import Provider
from gateway.contract.errors import UPSTREAM, NotReached, Problem, Refused, UpstreamFailed, invalid
from gateway.contract.flag import Head, UpstreamRequest
from gateway.store.base import StoreFailed
from gateway.store.follower import JournalFollower
from gateway.telemetry.log import Logger
from gateway.telemetry.metrics import Metrics
from gateway.upstream.client import Notices, Upstream, UpstreamResponse
from gateway.upstream.credentials.live import Address, LiveCredentials
from gateway.upstream.credentials.renewal import CredentialFailed
from gateway.upstream.health.circuits import Health
from gateway.upstream.http1.targets import base
from gateway.upstream.refused_keys import RefusedKeys
from gateway.upstream.subdomains import at_subdomain
from gateway.upstream.subjects import Subject

MAX_LOGGED: Final = 300
"""Maximum number of characters of a provider's error message in the log."""
_AUTH_STATUSES: Final = (401, 403)
"""Statuses with which a provider refuses a key, or access to a model with this key."""


class CredentialRefused(Exception):
    """The error for a credential that the provider refuses and that can perhaps be replaced. `date` is the `Date`
    header of the provider's reply, from which a wrong clock is detected.
    """

    def __init__(self, problem: Problem, date: str) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.date = date


class Sender(msgspec.Struct, frozen=True):
    upstream: Upstream
    follower: JournalFollower
    metrics: Metrics
    keys: RefusedKeys
    health: Health
    live: LiveCredentials
    log: Logger

    def open(self, call: Call, attempt: Attempt, request: UpstreamRequest) -> Awaitable[UpstreamResponse]:
        """Send the main request of an attempt. Return the reply, whose body is not read yet.

        Raises `UpstreamFailed` if there is no reply. If `storage.sync` is set, the journal is first flushed to the
        disk. Raises `Refused`, and sends nothing, if this fails.
        """

        def before() -> Awaitable[None] | None:
            pending = announce(call, attempt, self.follower)
            return None if pending is None else _durable(pending)

        def begins() -> None:
            # from here on, the costs depend on the reply to this request, and not on an earlier reply
            attempt.sent, attempt.head, attempt.metering = attempt.sent + 1, None, None

        return self._open(call, attempt, request, Notices(before, begins))

    async def open_step(self, call: Call, attempt: Attempt, request: UpstreamRequest) -> UpstreamResponse:
        """Send a request that a plugin's hook `steps` needs before the main request can be built. Return the reply.

        The provider charges nothing for such a request. Raises `UpstreamFailed` if there is no reply.
        """

        def begins() -> None:
            attempt.stepped += 1

        return await self._open(call, attempt, request, Notices(begins=begins))

    async def _open(self, call: Call, attempt: Attempt, request: UpstreamRequest, notices: Notices) -> UpstreamResponse:
        provider = attempt.candidate.offer.provider
        timeouts = provider.timeouts
        if attempt.deadline is not None:
            timeouts = timeouts.within(attempt.deadline - monotonic())
        if request.subdomain:
            provider = _at_subdomain(provider, request.subdomain)
        headers = attempt.headers
        key = "" if attempt.key is None else attempt.key.name
        if provider.issuer_of(key) is not None and has_our_key(attempt):
            headers = await self._with_credential(call, attempt, provider, request, key)
        opening = self.upstream.open(provider, request, headers, timeouts, notices)
        try:
            reply = await attempt.stopwatch.wait(opening)
        except NotReached as error:
            failure = {"reason": error.problem.reason, "message": error.problem.message}
            self.log.warning("upstream.unreachable", provider=provider.id, request_id=call.id, **failure)
            raise
        (attempt.stack or call.stack).callback(reply.close)
        return reply

    async def _with_credential(
        self, call: Call, attempt: Attempt, provider: Provider, request: UpstreamRequest, key: str
    ) -> Mapping[str, str]:
        """Return the headers that the gateway adds to a request, with the credential that is valid now.

        `provider` has the address to which the request is sent. `key` is the name of the attempt's key. It is "" if the
        provider has only one key.

        Raises `UpstreamFailed` if no credential can be obtained.
        """
        subject = Subject(call.identity.login, call.identity.node)
        try:
            used = self.live.ready(provider, subject, key)
            if used is None:
                used = await attempt.stopwatch.wait(self.live.get(provider, subject, key))
        except CredentialFailed:
            self.metrics.upstream_auth_failure(provider.id)
            self._rest(attempt)
            message = f"the gateway has no valid credential for {provider.id}; tell an administrator of this gateway"
            raise UpstreamFailed(Problem(UPSTREAM, message, reason="no_credential", key_refused=True)) from None
        attempt.used = used
        others = tuple(other.secret.value for other in provider.apikeys)
        attempt.redaction = redaction(used.secret, provider.baseurl, tuple(attempt.headers.items()), others)
        where = base(provider.baseurl)
        path, _, query = where.target(request.path, request.query).partition("?")
        address = Address(where.authority, path, query)
        sent = {**request.headers, **attempt.headers}
        return {**attempt.headers, **await self.live.headers(provider, used, address, request, sent)}

    def failed(self, attempt: Attempt, error: UpstreamFailed) -> None:
        """Count a failed attempt, and report its error to `health`.

        The attempt may have failed before it reached the provider.
        """
        offer, problem = attempt.candidate.offer, error.problem
        self.metrics.upstream_error(offer.provider_id, problem.code)
        self.health.note(offer.provider_id, offer.model, problem.code, problem.message)
        report_break(self.health, attempt, error)

    def check_key(self, call: Call, attempt: Attempt, head: Head, problem: Problem) -> None:
        """Count and log a reply that refuses the gateway's key, or that denies this key access to a model. Ignore other
        replies.

        If the key itself is refused, raises `UpstreamFailed`, with the advice to ask an administrator. For a credential
        that changes at run time, the first refusal raises `CredentialRefused` instead, so that the credential can be
        replaced.
        """
        is_refusal = problem.key_refused or problem.status in _AUTH_STATUSES
        if not is_refusal or not has_our_key(attempt):
            return
        if problem.key_refused:
            if attempt.used is not None and not attempt.renewed:
                raise CredentialRefused(problem, head.headers.get("date", ""))
            raise self._refused(call, attempt, problem)
        provider = attempt.candidate.offer.provider
        self.metrics.upstream_auth_failure(provider.id)
        self.log.warning(
            "upstream.access_denied",
            provider=provider.id,
            **_key_name(attempt),
            request_id=call.id,
            **_refusal(call, problem),
        )

    async def renew(self, call: Call, attempt: Attempt, refusal: CredentialRefused) -> None:
        """Obtain another credential after a refusal, or correct the clock if it was wrong. The request can then be sent
        again.

        Raises `UpstreamFailed` if there is no other credential and the clock was right.
        """
        if not await self.has_other(attempt, refusal):
            raise self._refused(call, attempt, refusal.problem)

    async def has_other(self, attempt: Attempt, refusal: CredentialRefused) -> bool:
        """Return whether the request can be sent again: there is another credential, or the clock was wrong and is now
        corrected.
        """
        attempt.renewed = True
        assert attempt.used is not None
        provider = attempt.candidate.offer.provider
        return await attempt.stopwatch.wait(self.live.has_other(provider, attempt.used, refusal.date))

    def _refused(self, call: Call, attempt: Attempt, problem: Problem) -> UpstreamFailed:
        """Count and log the refusal of the gateway's key, and return the error for the client."""
        provider = attempt.candidate.offer.provider
        self.metrics.upstream_auth_failure(provider.id)
        self._rest(attempt)
        issuer = {} if attempt.used is None else {"issuer": attempt.used.source}
        self.log.warning(
            "upstream.key_refused", provider=provider.id, **_key_name(attempt), request_id=call.id, **issuer,
            **_refusal(call, problem),
        )  # fmt: skip
        message = f"{provider.id} refused the gateway's key; tell an administrator of this gateway"
        return UpstreamFailed(Problem(UPSTREAM, message, reason=problem.native or "key_refused", key_refused=True))

    def _rest(self, attempt: Attempt) -> None:
        """Keep later calls from using the key of an attempt, which the provider refuses.

        If the provider has refused all its keys, later calls avoid the provider. This does not apply with
        `assume_role`: each caller then has a credential of its own, and the provider may refuse only one caller.
        """
        provider, key = attempt.candidate.offer.provider, attempt.key
        self.keys.refused(provider, "" if key is None else key.name)
        if key is not None:
            key.refused()
            if not key.pool.are_all_refused:
                return
        if not isinstance(provider.issuer, AwsSettings) or provider.issuer.assume_role is None:
            self.health.key_refused(provider.id)

    def key_accepted(self, attempt: Attempt) -> None:
        """Record that the provider has accepted the gateway's key, if the attempt used it."""
        if not has_our_key(attempt):
            return
        provider, key = attempt.candidate.offer.provider, attempt.key
        if key is None:
            self.keys.accepted(provider)
        elif key.accepted(attempt.began):
            self.keys.accepted(provider, key.name)


def _at_subdomain(provider: Provider, subdomain: str) -> Provider:
    """Return the provider with `subdomain` in place of the first label of its host name, such as `bedrock` in place of
    `bedrock-runtime`. Raises `Refused` if the host has no label to replace.
    """
    try:
        return at_subdomain(provider, subdomain)
    except ValueError as error:
        raise invalid(str(error)) from None


def _key_name(attempt: Attempt) -> dict[str, str]:
    """Return a log field with the name of the attempt's key.

    Return no field if the provider has only one key or none.
    """
    return {} if attempt.key is None else {"key": attempt.key.name}


def _refusal(call: Call, problem: Problem) -> dict[str, Any]:
    """Return the log fields of a refusal. With zero retention they lack the message, which may quote the request."""
    fields = {"status": problem.status, "native": problem.native}
    if call.inbound.runtime.config.bodies.are_forgotten:
        return fields
    return {**fields, "message": problem.message[:MAX_LOGGED]}


async def _durable(pending: Awaitable[None]) -> None:
    """Wait until the call's journal line is on the disk. Raises `Refused` if the line cannot be written."""
    try:
        await pending
    except StoreFailed:
        raise Refused(UNWRITABLE) from None
