"""The handler of API calls: the only file that makes the responses of calls.

- `handle` receives the request of every call from `call_routes.py`. It reads the body (`request_body.py`), parses the
  request (`request_parsing.py`), runs the chain, and then writes a stream or returns another reply.
- Every request gets exactly one record, however the request ends.
- If an error comes before the response has begun, it is sent with an HTTP status. If it comes later, it is written as
  the last event of the stream, in the client's dialect (API format).
- Events that came before an error are written before the error.
- A plugin's failure affects only the current call. If the plugin cannot even write the error, the error is sent in the
  gateway's own format. If a stream has already begun, it is aborted, so that no client takes it for complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Final

import msgspec
from aiohttp import web

from gateway.access.identity.caller import unknown
from gateway.call import request_body
from gateway.call.admission import Admitted
from gateway.call.agents import agent
from gateway.call.capture import capture_of
from gateway.call.chain import Call, Inbound, Next
from gateway.call.clean_up import CleanUp
from gateway.call.context import CALL, REQUEST_ID, Gateway, identity_of
from gateway.call.early_stream import EarlyStream
from gateway.call.error_replies import Report, error_reply, result_of
from gateway.call.exchange import Exchange
from gateway.call.finish import Finish
from gateway.call.health_reports import report
from gateway.call.plan import NO_ROLE
from gateway.call.recorded_headers import of_request
from gateway.call.reply import Reply
from gateway.call.request_parsing import http_request, parse_request
from gateway.call.response_headers import made_here, own_headers, response_headers, stream_headers
from gateway.call.responses import Batch, Stream, Whole
from gateway.call.stages import Staged
from gateway.call.stream_events import CRASHED, STOPPING, StreamEvents
from gateway.call.stream_writer import StreamWriter
from gateway.call.write_ahead import UNWRITABLE
from gateway.contract.errors import (
    INTERNAL,
    STATUS,
    GatewayError,
    Problem,
    Refused,
)
from gateway.contract.flag import Encoder, Route
from gateway.contract.registry import Plugin
from gateway.upstream.process_pool import NO_DROP, ProcessPool

PING_SECONDS: Final = 15.0
"""Seconds without an event after which a ping is written into a stream. Some clients close a connection after 30
seconds without data."""

STALLED_SECONDS: Final = 300.0
"""Seconds after which a client that does not read is disconnected. This frees its connection and its quota
reservation."""

HELD_BYTES: Final = 64 * 1024
"""Number of bytes above which a reply that is not a stream counts in the memory budget until the client has read it."""


class _Opened(msgspec.Struct, frozen=True):
    """A stream that is ready to be sent. Its response and its encoder exist."""

    response: web.StreamResponse
    events: StreamEvents
    ping: bytes
    staged: Staged


@dataclass(frozen=True, slots=True)
class Server:
    gateway: Gateway
    chain: Next
    finish: Finish
    pool: ProcessPool
    ping_seconds: float = PING_SECONDS
    stalled_seconds: float = STALLED_SECONDS

    async def handle(
        self,
        flag: Plugin,
        route: Route,
        request: web.Request,
        params: Mapping[str, str],
        ended: Refused | asyncio.CancelledError | None,
    ) -> web.StreamResponse | Reply:
        """Serve a call, and return its response.

        `params` has the parameters in the path of the request. `ended` is the exception with which the guard ended the
        call, or None if the guard let the request pass.
        """
        runtime, identity = self.gateway.runtime, identity_of(request)
        inbound = Inbound(
            id=request[REQUEST_ID],
            runtime=runtime,
            flag=flag,
            operation=route.operation,
            agent=agent(request.headers),
            identity=identity,
            headers=of_request(request.headers, runtime, identity),
        )
        exchange = Exchange(inbound, params, ended)
        task = asyncio.current_task()
        assert task is not None
        self.gateway.open_calls.add(task)
        stack = CleanUp()
        try:
            try:
                response = await self._serve(exchange, stack, route, request)
                if isinstance(response, Reply) and len(response.body) > HELD_BYTES:
                    return await self._written(response, request)
                return response
            finally:
                await stack.aclose()
        except (asyncio.CancelledError, ConnectionError):
            raise
        except (Exception, SystemExit, KeyboardInterrupt):  # the last two would otherwise end the process
            self.gateway.log.exception("call.crashed", request_id=inbound.id)
            return await self._crashed(exchange)
        finally:
            self.gateway.open_calls.discard(task)
            self.gateway.calls.pop(inbound.id, None)
            if exchange.capture is not None:
                self.gateway.bodies.put(exchange.capture)
            # the client has disconnected, perhaps while an error was being written
            self._finish(exchange, 499, "cancelled")

    async def _written(self, reply: Reply, request: web.Request) -> web.StreamResponse:
        """Write a large reply while the call is still in flight, so that its bytes count in the memory budget.

        `web/connections.py` writes a small reply after the call has ended.
        """
        response = as_response(reply)
        await response.prepare(request)
        await response.write_eof()
        return response

    async def _serve(
        self, exchange: Exchange, stack: CleanUp, route: Route, request: web.Request
    ) -> web.StreamResponse | Reply:
        try:
            call = await self._received(exchange, stack, route, request)
            if call.request.stream:
                self._expect_stream(exchange, call, request)
            match await self.chain(call):
                case Whole() as whole:
                    if exchange.early is not None:
                        await _require_no_head(exchange.early)
                    return await self._whole(exchange, call, whole)
                case Stream() as stream:
                    if exchange.early is not None:
                        exchange.early.head_came()
                    staged = Staged(stream)
                    first = await self._first(call, staged)
                    opened = await self._open(exchange, call, stream, staged)
        except GatewayError as error:
            return await self._failed(exchange, error)
        except asyncio.CancelledError:
            if not self._stopping():
                raise
            return await self._failed(exchange, GatewayError(STOPPING))
        return await self._stream(exchange, call, request, opened, first)

    def _expect_stream(self, exchange: Exchange, call: Call, request: web.Request) -> None:
        """Start a timer. If it fires before the provider's first event comes, the response's headers are sent early."""

        def opening() -> tuple[web.StreamResponse, bytes]:
            response = self._stream_response(exchange, call, 200, stream_headers(call))
            encoder = call.flag.encoder(call.request)
            return response, call.flag.hooks["encoder.ping"].run(encoder.ping)

        exchange.early = EarlyStream(request, opening, self.ping_seconds, self.stalled_seconds)
        call.stack.callback(exchange.early.cancel)

    async def _failed(self, exchange: Exchange, error: GatewayError) -> web.StreamResponse | Reply:
        """Return the response for an error that comes before the first event of a stream. If the headers were sent
        early, the error is written into the stream.

        Raises `ConnectionAbortedError` if it cannot be written there.
        """
        response = await exchange.early.end() if exchange.early is not None else None
        if response is None:
            return self._error(exchange, error)
        call = exchange.call
        assert call is not None
        self._finish(exchange, response.status, _outcome(error), error.problem)
        encoder = result_of(error, self._report(call.inbound), None, call.flag.encoder, call.request)
        last = None if encoder is None else self._events(call, encoder).last_words(error)
        return await StreamWriter(response, exchange.capture).end(last)

    async def _received(self, exchange: Exchange, stack: CleanUp, route: Route, request: web.Request) -> Call:
        """Read and parse the request, and return the call.

        Raises `Refused` if the request is invalid or not admitted.
        """
        inbound = exchange.inbound
        body, admitted = await self._read(exchange, stack, request)
        received = monotonic()
        message = http_request(route, request, exchange.params, body)
        exchange.capture = capture_of(inbound, message)
        parsed = await parse_request(self.pool, inbound.flag, message)
        if inbound.identity is None:
            raise unknown("the caller is not known")
        call = exchange.call = request[CALL] = Call(inbound, inbound.identity, parsed, received, stack, admitted)
        self.gateway.calls[call.id] = call
        return call

    async def _read(self, exchange: Exchange, stack: CleanUp, request: web.Request) -> tuple[bytes, Admitted]:
        """Admit the call and read its body. Return the body, and the admission of the call.

        Raises `Refused` if the guard, a limit or a full disk refuses the request. Raises `CancelledError` if the client
        disconnected before it was identified.
        """
        if exchange.ended is not None:
            raise exchange.ended
        inbound = exchange.inbound
        if inbound.identity and inbound.runtime.grants.access(inbound.identity).role is None:
            raise Refused(NO_ROLE)  # before the body is read, so that it takes no part of the budget
        if self.gateway.follower.full:
            raise Refused(UNWRITABLE)
        limits = inbound.runtime.config.server.limits
        login = inbound.identity.login if inbound.identity else ""
        admitted = self.gateway.admission.enter(login, request_body.announced(request, limits.body_bytes))
        stack.callback(admitted.leave)
        return await request_body.read(request, limits, admitted), admitted

    def _stopping(self) -> bool:
        """Return True if the task of a call was cancelled because the gateway is stopping. Also undo the cancellation,
        so that an error can still be sent.

        Return False if it was cancelled because the client disconnected.
        """
        task = asyncio.current_task()
        if not self.gateway.draining or task is None:
            return False
        task.uncancel()
        return True

    async def _first(self, call: Call, staged: Staged) -> Batch:
        """Return the first batch of the stream. Raises `UpstreamFailed` if the stream failed before any event.

        This is called before the status is sent, so that such a failure gets an error status.
        """
        open_streams = self.gateway.metrics.open_streams
        open_streams.inc()
        call.stack.callback(open_streams.dec)
        call.stack.push_async_callback(staged.batches.aclose)
        first = await anext(staged.batches, _EMPTY)
        if call.attempt is not None and (first.events or first.fault is not None):
            report(self.gateway.health, call.attempt, None if first.events else first.fault)
        if first.events:
            call.start_stream()
        elif first.fault is not None:
            raise first.fault
        return first

    async def _whole(self, exchange: Exchange, call: Call, whole: Whole) -> Reply:
        native = call.is_native
        call.read_facts()
        body = whole.body
        if not native:
            encoder, hook = call.flag.encoder(call.request), call.flag.hooks["encoder.whole"]
            body = await self.pool.run_reply(body, NO_DROP, hook.run, encoder.whole, body)
        headers = whole.headers if native else made_here(whole.headers)
        headers = response_headers(exchange.inbound, call, headers, shows_usage=not native)
        self._finish(exchange, whole.status, "failed" if call.problem else "ok")
        exchange.captured(headers, body)
        return Reply(whole.status, headers, body, keep_alive=not self.gateway.is_leaving)

    def _error(self, exchange: Exchange, error: GatewayError) -> Reply:
        """Return the response for an error that occurs before any byte of the response is sent."""
        inbound, call = exchange.inbound, exchange.call
        native = call is not None and call.is_native
        request = call.request if call is not None else None
        report = self._report(inbound)
        status, headers, body = error_reply(inbound.flag, inbound.id, error, report, native=native, request=request)
        self._finish(exchange, status, _outcome(error), error.problem)
        headers |= own_headers(inbound, call)
        exchange.captured(headers, body)
        return Reply(status, headers, body, keep_alive=not self.gateway.is_leaving)

    async def _crashed(self, exchange: Exchange) -> web.StreamResponse | Reply:
        """Return the response for a bug in the gateway. Raises `ConnectionAbortedError` if events of a stream were
        already written.
        """
        if not exchange.begun:
            return await self._failed(exchange, GatewayError(CRASHED))
        self._finish(exchange, STATUS[INTERNAL], "failed", CRASHED)
        raise ConnectionAbortedError

    def _report(self, inbound: Inbound) -> Report:
        return partial(self.gateway.reports.report, request_id=inbound.id)

    def _events(self, call: Call, encoder: Encoder) -> StreamEvents:
        log, native = self.gateway.log, call.is_native
        return StreamEvents(call, encoder, native, self.pool, self._stopping, self._report(call.inbound), log)

    async def _open(self, exchange: Exchange, call: Call, stream: Stream, staged: Staged) -> _Opened:
        """Make the encoder of a stream. Also make its response, unless the response's headers were sent early. Return
        both, ready for the first event.

        Raises `PluginFailed` if the plugin of the client's API fails.
        """
        encoder = call.flag.encoder(call.request)
        ping = call.flag.hooks["encoder.ping"].run(encoder.ping)
        response = await exchange.early.end() if exchange.early is not None else None
        if response is None:
            headers = stream.headers if call.is_native else stream_headers(call)
            response = self._stream_response(exchange, call, stream.status, headers)
        return _Opened(response, self._events(call, encoder), ping, staged)

    def _stream_response(
        self, exchange: Exchange, call: Call, status: int, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        """Return the response for a stream. Its headers are not sent yet."""
        headers = response_headers(exchange.inbound, call, headers)
        exchange.captured(headers)
        response = web.StreamResponse(status=status, headers=headers)
        self._close_if_leaving(response)
        return response

    def _close_if_leaving(self, response: web.StreamResponse) -> None:
        """Mark the connection to be closed after the response if this process is stopping or being replaced."""
        if self.gateway.is_leaving:
            response.force_close()

    async def _stream(
        self, exchange: Exchange, call: Call, request: web.Request, opened: _Opened, first: Batch
    ) -> web.StreamResponse:
        """Write the stream.

        Raises `ConnectionAbortedError` if the stream fails, and the client cannot be told within the stream.
        """
        response = opened.response
        exchange.begun = True
        if not response.prepared:
            await response.prepare(request)
        writer = StreamWriter(response, exchange.capture, request)
        watch = asyncio.create_task(self._watch(writer, opened.ping, call, request))
        call.stack.callback(watch.cancel)
        last, fault = await opened.events.write(writer, first, opened.staged)
        watch.cancel()
        self._finish(exchange, response.status, "failed" if fault or call.problem else "ok", fault)
        return await writer.end(last)

    def _finish(self, exchange: Exchange, status: int, outcome: str, problem: Problem | None = None) -> None:
        """Write the record of the request. Do nothing if it has been written already."""
        if exchange.finished:
            return
        exchange.finished = True
        if exchange.call is None:
            self.finish.refused(exchange.inbound, status, outcome, problem)
        else:
            exchange.call.problem = problem or exchange.call.problem
            self.finish(exchange.call, status, outcome)

    async def _watch(self, writer: StreamWriter, ping: bytes, call: Call, request: web.Request) -> None:
        """Write pings while there are no events, and disconnect a client that has stopped reading."""
        await writer.watch(ping, self.ping_seconds, self.stalled_seconds)
        self.gateway.log.warning("client.stalled", request_id=call.id, seconds=self.stalled_seconds)
        if request.transport is not None:
            request.transport.abort()  # this ends the call as if the client had disconnected


def as_response(reply: Reply) -> web.Response:
    """Return a reply as a response of aiohttp."""
    response = web.Response(status=reply.status, headers=reply.headers, body=reply.body)
    if not reply.keep_alive:
        response.force_close()
    return response


async def _require_no_head(early: EarlyStream) -> None:
    """Raise `GatewayError` if the headers of a stream were sent early (`early_stream.py`), because a complete reply can
    no longer be sent.
    """
    if await early.end() is not None:
        raise GatewayError(_NO_STREAM)


def _outcome(error: GatewayError) -> str:
    return "refused" if isinstance(error, Refused) else "failed"


_EMPTY: Final = Batch(())
_NO_STREAM: Final = Problem(INTERNAL, "the reply is no stream, although the request asks for one")
