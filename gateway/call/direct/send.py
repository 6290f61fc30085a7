"""Sends a direct request to the provider unchanged, and passes the reply on unchanged.

- An error of the provider affects the health of the provider and of the key, and another key may be tried, as in any
  other call. The client gets the status and the body of the error unchanged.
- If no plugin recognises the path, a 401 may concern this path alone. Such a 401 affects neither the health of the
  provider nor the key.
- A redirect is never followed and never passed on, because its target is another host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from dataclasses import replace as changed
from typing import Final

import msgspec
from msgspec.structs import replace

from gateway.call.chain import Attempt, Call
from gateway.call.direct.byte_redaction import ByteRedaction
from gateway.call.direct.headers import for_client
from gateway.call.direct.tap import Tap, tap_of
from gateway.call.health_reports import has_our_key
from gateway.call.middleware.send import MAX_ERROR
from gateway.call.responses import Batch, Batches, Response, Stream, Take
from gateway.call.sender import CredentialRefused, Sender
from gateway.contract.errors import UNAVAILABLE, UPSTREAM, Problem, UpstreamFailed
from gateway.contract.flag import Event, Head
from gateway.contract.registry import Plugin
from gateway.upstream.client import UpstreamResponse
from gateway.upstream.process_pool import ProcessPool

_NOT_MODIFIED: Final = 304
"""The status 304, which is no redirect, although it is between 300 and 399."""


class DirectSend(msgspec.Struct, frozen=True):
    sender: Sender
    pool: ProcessPool
    flags: Mapping[str, Plugin]
    """All compatibility flags (plugins of API formats), by name."""

    async def __call__(self, call: Call, attempt: Attempt) -> Response:
        try:
            try:
                return await self._response(call, attempt)
            except CredentialRefused as refusal:
                if _is_recognised(call, attempt):
                    await self.sender.renew(call, attempt, refusal)
                elif not await self.sender.has_other(attempt, refusal):
                    raise _refused_here(attempt, refusal.problem) from None
            return await self._response(call, attempt)
        except UpstreamFailed as error:
            self.sender.failed(attempt, attempt.redaction.failure(error))
            raise

    async def _response(self, call: Call, attempt: Attempt) -> Response:
        request = call.flag.build(attempt.request, attempt.candidate.target, attempt.drop)
        reply = await self.sender.open(call, attempt, request)
        head = attempt.head = attempt.redaction.head(reply.head)
        provider = attempt.candidate.offer.provider_id
        if head.status >= 400:
            raise await self._failure(call, attempt, head, reply)
        if head.status >= 300 and head.status != _NOT_MODIFIED:
            message = f"{provider} answered with status {head.status}; a redirect is not followed and not passed on"
            raise UpstreamFailed(Problem(UNAVAILABLE, message, status=502))
        self.sender.key_accepted(attempt)
        reply.begin_stream()
        passed = _Passed(call, attempt, reply, tap_of(call, attempt, self.pool), self.sender.failed)
        return Stream(head.status, for_client(head.headers), passed)

    async def _failure(self, call: Call, attempt: Attempt, head: Head, reply: UpstreamResponse) -> UpstreamFailed:
        """Return the exception for an error reply of the provider. It has the body of the reply.

        If the provider refuses the gateway's key, some refusals are raised at once: `CredentialRefused` for the first
        refusal of a credential that changes at run time, and `UpstreamFailed` for any other refusal of a request that a
        plugin recognises.
        """
        body = await attempt.stopwatch.wait(reply.read(MAX_ERROR, call.hold_reply))
        _received(call, len(body))
        body = attempt.redaction.bytes(body)
        provider = attempt.candidate.offer.provider
        flag = next((self.flags[name] for name in provider.flags if name in self.flags), call.flag)
        message = f"{provider.id} answered {head.status}"
        problem = flag.problem(head, body) or Problem(UNAVAILABLE, message, status=head.status)
        if problem.key_refused and has_our_key(attempt) and not _is_recognised(call, attempt):
            if attempt.used is not None and not attempt.renewed:
                raise CredentialRefused(problem, head.headers.get("date", ""))
            self.sender.check_key(call, attempt, head, changed(problem, key_refused=False))
            return _refused_here(attempt, problem)
        self.sender.check_key(call, attempt, head, problem)
        return UpstreamFailed(problem, body, for_client(head.headers), head.status)


def _is_recognised(call: Call, attempt: Attempt) -> bool:
    """Return whether `target.py` has found a plugin of the provider that can read the request."""
    return attempt.candidate.flag is not call.flag


def _refused_here(attempt: Attempt, problem: Problem) -> UpstreamFailed:
    """Return the error for the client if the provider refuses the gateway's key for a certain path.

    The provider's own message is left out, because it may show parts of the key.
    """
    provider = attempt.candidate.offer.provider_id
    message = f"{provider} refused the gateway's key for this path; tell an administrator of this gateway"
    return UpstreamFailed(Problem(UPSTREAM, message, problem.native or "key_refused", problem.status))


@dataclass(slots=True)
class _Passed:
    """The stream that the client gets: the bytes of the provider's reply, without the gateway's keys.

    The bytes of one read are one event.
    """

    call: Call
    attempt: Attempt
    reply: UpstreamResponse
    tap: Tap
    failed: Callable[[Attempt, UpstreamFailed], None]
    """Called with the error if the reply breaks off. It counts the failed attempt."""
    _redacted: ByteRedaction = field(init=False)
    _take: Take = field(init=False)
    _clean: bytes | None = None
    """Bytes that `_quick` has read but could not pass on. The task of the call passes them on. None if there are
    none.
    """

    def __post_init__(self) -> None:
        self._redacted = ByteRedaction(self.attempt.redaction)

    async def batches(self, take: Take) -> Batches:
        """Yield the bytes of the reply in batches, except those that `take` passes on (see `Source.batches`)."""
        self._take = take
        try:
            while data := await self._next():
                clean, self._clean = self._read(data) if self._clean is None else self._clean, None
                if clean:
                    yield _batch(clean)
            await self.tap.close()
            if rest := self._redacted.rest():
                yield _batch(rest)
        except UpstreamFailed as error:
            self.failed(self.attempt, self.attempt.redaction.failure(error))
            yield Batch((), error)

    async def _next(self) -> bytes:
        """Return the next bytes of the reply that the task of the call must pass on, or b"" at the end of the reply.

        Bytes that arrive while this method waits are first given to `_quick`. They are returned only if `_quick`
        returns False.
        """
        reading, stopwatch = self.reply.next(self._quick), self.attempt.stopwatch
        return await (reading if stopwatch.stopped else stopwatch.wait(reading))

    def _quick(self, data: bytes) -> bool:
        """Pass the bytes of a read on to the client. Return False if this is not possible now, so that the task of the
        call must pass them on.
        """
        clean = self._read(data)
        if not clean or self._take(_batch(clean)):
            return True
        self._clean = clean
        return False

    def _read(self, data: bytes) -> bytes:
        """Process the bytes of a read, and return the bytes that can be passed on now.

        Bytes at the end that may be the beginning of a key are held back.
        """
        _received(self.call, len(data))
        self.tap.feed(data)
        self.reply.event_came()
        return self._redacted.feed(data)


def _batch(data: bytes) -> Batch:
    return Batch((Event("", data, data),))


def _received(call: Call, size: int) -> None:
    """Count bytes of the reply's body, for the record."""
    if call.direct is not None:
        call.direct = replace(call.direct, reply_bytes=call.direct.reply_bytes + size)
