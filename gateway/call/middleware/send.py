"""The last step of an attempt: builds the HTTP request for the provider, sends it, and decodes the reply.

- The request goes to the provider through `call/sender.py`.
- Events that came before an error are passed on before the error.
- A redirect is never followed.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec.structs import replace

from gateway.call.chain import Attempt, Call, Metering
from gateway.call.failover import CandidateRefused
from gateway.call.key_redaction import EventRedaction
from gateway.call.model_advice import with_advice
from gateway.call.provider_stream import ProviderStream, Reads, Received
from gateway.call.reply_work import READING_HOOKS, Reading, WholeReader
from gateway.call.responses import Response, Stream, Whole
from gateway.call.sender import CredentialRefused, Sender
from gateway.call.stream_decoding import Decoding
from gateway.call.turns import Turns
from gateway.contract.errors import (
    UNAVAILABLE,
    Problem,
    Truncated,
    UpstreamFailed,
    invalid,
)
from gateway.contract.flag import Head
from gateway.contract.json_api import DecodedOnce
from gateway.contract.losses import Way
from gateway.upstream.client import MAX_BODY, UpstreamResponse
from gateway.upstream.process_pool import LARGE, DropRelay, ProcessPool, is_costly, yield_to_loop
from gateway.upstream.reply_headers import forwarded
from gateway.upstream.request_metadata import with_metadata
from gateway.upstream.subjects import Subject

MAX_ERROR: Final = 1024 * 1024
"""Maximum number of bytes that are read from the body of an error reply."""
_JSON: Final = "application/json"
_DOCUMENTS: Final = (
    _JSON, "application/problem", "application/x-amz-json", "application/xml", "text/html", "text/xml",
)  # fmt: skip
MAX_RETRIES: Final = 5
"""Maximum number of changed requests that are sent in one attempt.

If a provider refuses a request, the hook `retry` of its plugin may change the request, which is then sent again. After
the first change, a further one is allowed only if it leaves out more features (`ClientRequest.without`).
"""


class CallProvider(msgspec.Struct, frozen=True):
    sender: Sender
    pool: ProcessPool
    turns: Turns

    async def __call__(self, call: Call, attempt: Attempt) -> Response:
        candidate = attempt.candidate
        for retries in range(MAX_RETRIES):
            try:
                return await self._try(call, attempt)
            except UpstreamFailed as error:
                drop = DropRelay(attempt.drop)
                arguments = (attempt.request, candidate.target, error.problem, drop)
                size = len(attempt.request.top.body)
                changed = await self.pool.run(size, drop, candidate.flag.retry, *arguments)
                if changed is None or call.left or (retries and len(changed.without) <= len(attempt.request.without)):
                    raise with_advice(call, attempt, error) from None
                attempt.request = changed
        return await self._try(call, attempt)

    async def _try(self, call: Call, attempt: Attempt) -> Response:
        try:
            try:
                return await self._response(call, attempt)
            except CredentialRefused as refusal:
                await self.sender.renew(call, attempt, refusal)
            return await self._response(call, attempt)
        except UpstreamFailed as error:
            self.sender.failed(attempt, attempt.redaction.failure(error))
            raise

    async def _response(self, call: Call, attempt: Attempt) -> Response:
        candidate = attempt.candidate
        reply = await self._send(call, attempt)
        head = attempt.head = attempt.redaction.head(reply.head)
        meter = candidate.flag.meter(attempt.request, candidate.target, head)
        attempt.metering = Metering(meter, candidate.flag.hooks["meter.facts"])
        is_success = 200 <= head.status < 300
        if is_success and attempt.request.stream:
            stream_type = candidate.flag.stream_type(attempt.request)
            if not _is_document(head, stream_type):
                self.sender.key_accepted(attempt)
                reply.begin_stream()
                return self._streamed(call, attempt, stream_type, reply)
        body = await _body(call, attempt, reply)
        if not is_success and head.status < 400:
            # a redirect is neither followed nor passed on, because then its target would receive the prompt
            message = f"{candidate.offer.provider_id} answered with status {head.status}"
            raise UpstreamFailed(Problem(UNAVAILABLE, message, status=502))
        return self._whole(call, attempt, await self._read(attempt, head, body))

    async def _read(self, attempt: Attempt, head: Head, body: bytes) -> Reading:
        target, metering = attempt.candidate.target, attempt.metering
        assert metering is not None
        if head.status < 400:
            attempt.delivered = len(body)  # the model has worked, even if the plugin or the worker process fails
        hooks = attempt.candidate.flag.hooks
        reader = WholeReader(hooks, attempt.request, target, head, attempt.redaction)
        if not is_costly(body):
            return reader.read(metering.meter, DecodedOnce(body))
        reader = replace(reader, hooks={name: hooks[name] for name in READING_HOOKS})
        return await self.pool.run_reply(body, DropRelay(attempt.drop), WholeReader.read, reader, metering.meter, body)

    def _whole(self, call: Call, attempt: Attempt, reading: Reading) -> Response:
        """Return the response for a reply that is not a stream.

        Raises `UpstreamFailed` if the body is an error, or does not have the provider's format.
        """
        head = attempt.head
        assert head is not None
        assert attempt.metering is not None
        attempt.metering.meter, attempt.metering.stale = reading.meter, True
        attempt.delivered, attempt.whole = reading.delivered, reading.is_whole
        headers = forwarded(head.headers, attempt.candidate.flag.passed_headers)
        if reading.problem is not None:
            self.sender.check_key(call, attempt, head, reading.problem)
            raw = reading.body if head.status >= 400 else b""  # with another status, the body is not passed on
            raise UpstreamFailed(reading.problem, raw, headers, head.status)
        self.sender.key_accepted(attempt)
        if reading.is_stream:
            stream_type = attempt.candidate.flag.stream_type(attempt.request)
            return self._streamed(call, attempt, stream_type, Received(reading.body))
        if reading.fault is not None:
            raise reading.fault
        body = reading.body if attempt.candidate.way is Way.NATIVE else reading.decoded
        return Whole(head.status, _with_type(headers, _JSON), body)

    def _streamed(self, call: Call, attempt: Attempt, stream_type: str, reads: Reads) -> Stream:
        head, flag = attempt.head, attempt.candidate.flag
        assert head is not None
        decoder = flag.decoder(attempt.request, attempt.candidate.target, head)
        decoding = Decoding(decoder, EventRedaction(attempt.redaction), hasattr(decoder, "frames"), self.turns)
        headers = _with_type(forwarded(head.headers, flag.passed_headers), stream_type)
        return Stream(
            head.status, headers, ProviderStream(call, attempt, reads, decoding, self.pool, self.sender.failed)
        )

    async def _send(self, call: Call, attempt: Attempt) -> UpstreamResponse:
        """Build and send the request. Return the reply, whose body is not read yet.

        Raises `CandidateRefused`, and sends nothing, if fields of the request would be dropped and the provider's
        `on_loss` forbids that.
        """
        candidate = attempt.candidate
        provider = candidate.offer.provider
        top, size = attempt.request.top, len(attempt.request.top.body)
        if self.pool.is_large(size) and candidate.way is Way.NATIVE and not top.has_halves:
            # most native bodies are only spliced, which takes less time than sending the body to another process
            size = size if any(map(top.mentions, candidate.flag.slow_marks)) else 0
        drop = DropRelay(attempt.drop)
        if len(top.body) >= LARGE:
            await yield_to_loop(len(top.body))
        client_request = attempt.request
        if provider.request_metadata:
            subject = Subject(call.identity.login, call.identity.node)
            client_request = with_metadata(client_request, provider.request_metadata, subject)
        request = await self.pool.run(size, drop, candidate.flag.build, client_request, candidate.target, drop)
        if len(top.body) >= LARGE:
            await yield_to_loop(len(top.body))
        if attempt.dropped and provider.on_loss == "refuse":
            raise _loss(attempt)
        return await self.sender.open(call, attempt, request)


async def _body(call: Call, attempt: Attempt, reply: UpstreamResponse) -> bytes:
    """Return the body of a reply.

    If a reply without an error status breaks off, mark the attempt, so that its cost is estimated.
    """
    is_error = reply.head.status >= 400
    try:
        return await attempt.stopwatch.wait(reply.read(MAX_ERROR if is_error else MAX_BODY, call.hold_reply))
    except Truncated:
        attempt.delivered = None if is_error else 0
        raise


def _is_document(head: Head, content_type: str) -> bool:
    """Return whether the content type proves that a reply is no stream, as for a JSON error or a proxy's HTML page.

    `content_type` is the type of the provider's streams. For server-sent events, the type text/plain proves nothing,
    because some servers send them as text/plain.
    """
    given = head.headers.get("content-type", "").lower()
    if given.startswith(content_type):
        return False
    return given.startswith(_DOCUMENTS) or (given.startswith("text/") and not content_type.startswith("text/"))


def _with_type(headers: dict[str, str], content_type: str) -> dict[str, str]:
    """Return the headers of a reply, with `content_type` in place of any other content type. Some SDKs rely on this
    type.
    """
    is_right = headers.get("content-type", "").lower().startswith(content_type)
    return headers if is_right else {**headers, "content-type": content_type}


def _loss(attempt: Attempt) -> CandidateRefused:
    fields = ", ".join(attempt.dropped)
    provider = attempt.candidate.offer.provider_id
    message = f'provider "{provider}" does not take {fields}, and its "on_loss" is "refuse"; leave them out'
    return CandidateRefused(invalid(message, fields).problem)
