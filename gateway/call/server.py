"""The handler of API calls: the only file that writes the responses of calls.

- `handle` receives every request. It reads the body (`request_body.py`), parses the request, runs the chain, and then
  writes a whole body or a stream.
- Every request gets exactly one record, however the request ends.
- An error before the first byte of the response is sent with an HTTP status. A later error is written as the last event
  of the stream, in the client's dialect.
- Events that came before a fault are written before the fault.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Final
from urllib.parse import quote

from aiohttp import web

from gateway.access.identity.caller import unknown
from gateway.call import request_body
from gateway.call.agents import agent
from gateway.call.capture import Capture
from gateway.call.chain import Batch, Batches, Call, Inbound, Next, Stream, Whole
from gateway.call.context import CALL, REFUSED, REQUEST_ID, Gateway, identity_of
from gateway.call.finish import Finish
from gateway.call.middleware.grants import NO_ROLE
from gateway.call.stream_writer import PassedEvents, StreamWriter
from gateway.contract.errors import (
    INTERNAL,
    UNAVAILABLE,
    GatewayError,
    Problem,
    Refused,
    UpstreamFailed,
)
from gateway.contract.flag import Encoder, Event, HttpRequest, Route
from gateway.contract.registry import Plugin

PING_SECONDS: Final = 15.0
"""Seconds without an event after which a ping is written into a stream. Some clients drop a connection on which nothing
has come for 30 seconds."""

MAX_HEADER: Final = 2000
"""Maximum number of characters of a header that lists dropped fields or quotas; the record has all fields."""

STALLED_SECONDS: Final = 300.0
"""Seconds after which a client that does not read is disconnected, to free its connection and its reservation."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class _Exchange:
    """The state of one HTTP request and its response."""

    inbound: Inbound
    call: Call | None = None
    """The call; None until the request is parsed."""
    capture: Capture | None = None
    """The copy of the bodies; None if bodies are not kept."""
    finished: bool = False
    """Whether the record was written."""

    def captured(self, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Copy the headers of the response, and the body if the response is not a stream."""
        if self.capture is not None:
            self.capture.replied(headers)
            self.capture.feed(body)


@dataclass(frozen=True, slots=True)
class Server:
    gateway: Gateway
    chain: Next
    finish: Finish
    ping_seconds: float = PING_SECONDS
    stalled_seconds: float = STALLED_SECONDS

    def handler(self, flag: Plugin, route: Route) -> Handler:
        return partial(self.handle, flag, route)

    async def handle(self, flag: Plugin, route: Route, request: web.Request) -> web.StreamResponse:
        inbound = Inbound(
            id=request[REQUEST_ID],
            runtime=self.gateway.runtime,
            flag=flag,
            operation=route.operation,
            agent=agent(request.headers),
            identity=identity_of(request),
        )
        exchange = _Exchange(inbound)
        task = asyncio.current_task()
        assert task is not None
        self.gateway.open_calls.add(task)
        try:
            async with AsyncExitStack() as stack:
                return await self._serve(exchange, stack, route, request)
        except (asyncio.CancelledError, ConnectionError):
            self._finish(exchange, 499, "cancelled")
            raise
        except Exception:
            self.gateway.log.exception("call.crashed", request_id=inbound.id)
            return self._error(exchange, GatewayError(_CRASHED))
        finally:
            self.gateway.open_calls.discard(task)
            if exchange.capture is not None:
                self.gateway.bodies.put(exchange.capture)

    async def _serve(
        self, exchange: _Exchange, stack: AsyncExitStack, route: Route, request: web.Request
    ) -> web.StreamResponse:
        try:
            call = await self._received(exchange, stack, route, request)
            match await self.chain(call):
                case Whole() as whole:
                    return self._whole(exchange, call, whole)
                case Stream() as stream:
                    first = await self._first(call, stream)
        except GatewayError as error:
            return self._error(exchange, error)
        except asyncio.CancelledError:
            if not self._stopping():
                raise
            return self._error(exchange, GatewayError(_STOPPING))
        return await self._stream(exchange, call, request, stream, first)

    async def _received(self, exchange: _Exchange, stack: AsyncExitStack, route: Route, request: web.Request) -> Call:
        """Read and parse the request, and return the call. Raises `Refused` if the request is wrong or not admitted."""
        inbound = exchange.inbound
        body = await self._read(inbound, stack, request)
        received = monotonic()
        message = _request(route, request, body)
        exchange.capture = _capture(inbound, message)
        parsed = inbound.flag.parse(message)
        if inbound.identity is None:
            raise unknown("the caller is not known")
        call = exchange.call = request[CALL] = Call(inbound, inbound.identity, parsed, received, stack)
        return call

    async def _read(self, inbound: Inbound, stack: AsyncExitStack, request: web.Request) -> bytes:
        """Return the request's body. Raises `Refused` if the guard, a limit or a full disk refuses the request."""
        if (refused := request.get(REFUSED)) is not None:
            raise refused
        if inbound.identity and inbound.runtime.grants.access(inbound.identity).role is None:
            raise Refused(NO_ROLE)  # before the body is read, which would take room from the bodies of others
        if self.gateway.follower.full:
            raise Refused(_NO_ROOM)
        limits = inbound.runtime.config.server.limits
        login = inbound.identity.login if inbound.identity else ""
        admitted = self.gateway.admission.enter(login, request_body.announced(request, limits.body_bytes))
        stack.callback(admitted.leave)
        return await request_body.read(request, limits, admitted)

    def _stopping(self) -> bool:
        """Return whether a call was cancelled because the gateway is stopping, and not because its client left.

        If so, undo the cancellation of the task, so that an error can still be sent.
        """
        task = asyncio.current_task()
        if not self.gateway.draining or task is None:
            return False
        task.uncancel()
        return True

    async def _first(self, call: Call, stream: Stream) -> Batch:
        """Return the first batch of the stream. Raises `UpstreamFailed` if the stream failed before any event.

        The server waits for the first batch before it sends a status, so that such a failure gets the status of an
        error.
        """
        open_streams = self.gateway.metrics.open_streams
        open_streams.inc()
        call.stack.callback(open_streams.dec)
        batches = await call.stack.enter_async_context(aclosing(stream.batches))
        first = await anext(batches, _EMPTY)
        if first.events:
            call.start_stream()
        elif first.fault is not None:
            raise first.fault
        return first

    def _whole(self, exchange: _Exchange, call: Call, whole: Whole) -> web.Response:
        native = call.is_native
        body = whole.body if native else call.flag.encoder(call.request).whole(whole.body)
        headers = whole.headers if native else _made_here(whole.headers)
        headers = _reply_headers(exchange, headers, made_here=not native)
        self._finish(exchange, whole.status, "failed" if call.problem else "ok")
        exchange.captured(headers, body)
        return web.Response(status=whole.status, headers=headers, body=body)

    def _error(self, exchange: _Exchange, error: GatewayError) -> web.Response:
        """Return the response for an error that occurs before the first byte of the response is sent.

        It is the provider's own error response if the client speaks the provider's format.
        """
        status, headers, body = exchange.inbound.flag.error(error.problem)
        native = exchange.call is not None and exchange.call.is_native
        if native and isinstance(error, UpstreamFailed) and error.headers and error.status >= 400:
            status, headers, body = error.status, dict(error.headers), error.raw
        self._finish(exchange, status, "refused" if isinstance(error, Refused) else "failed", error.problem)
        headers = _reply_headers(exchange, headers)
        exchange.captured(headers, body)
        return web.Response(status=status, headers=headers, body=body)

    async def _stream(
        self, exchange: _Exchange, call: Call, request: web.Request, stream: Stream, first: Batch
    ) -> web.StreamResponse:
        encoder = call.flag.encoder(call.request)
        native = call.is_native
        headers = stream.headers if native else {"content-type": call.flag.content_type, "cache-control": "no-cache"}
        headers = _reply_headers(exchange, headers)
        exchange.captured(headers)
        response = web.StreamResponse(status=stream.status, headers=headers)
        if self.gateway.draining:
            response.force_close()
        await response.prepare(request)
        writer = StreamWriter(response, exchange.capture)
        watch = asyncio.create_task(self._watch(writer, encoder.ping(), call, request))
        call.stack.callback(watch.cancel)
        last, fault = await self._events(call, writer, encoder, first, stream.batches)
        watch.cancel()
        self._finish(exchange, stream.status, "ok" if fault is None else "failed", fault)
        if last:
            await writer.write(last)
        await response.write_eof()
        return response

    async def _events(
        self, call: Call, writer: StreamWriter, encoder: Encoder, first: Batch, batches: Batches
    ) -> tuple[bytes, Problem | None]:
        """Write the events of the stream.

        Return the last bytes of the stream, which are not written yet, and the problem that ended the stream; None if
        the stream is complete.
        """
        native = call.is_native
        fault: GatewayError | None = first.fault
        passed = PassedEvents(first.events)
        try:
            await writer.write(_encoded(encoder, native, first.events))
            async for batch in batches:
                fault = batch.fault
                passed.note(batch.events)
                if data := _encoded(encoder, native, batch.events):
                    await writer.write(data)
            if fault is None:
                return b"" if native else encoder.close(), None
        except ConnectionError:
            raise
        except GatewayError as error:
            fault = error
        except asyncio.CancelledError:
            if not self._stopping():
                raise
            fault = GatewayError(_STOPPING)
        except Exception:
            self.gateway.log.exception("call.crashed", request_id=call.id)
            fault = GatewayError(_CRASHED)
        raw = fault.raw if native and isinstance(fault, UpstreamFailed) else b""
        if native and not raw:
            passed.tell(encoder)
        return raw or encoder.fail(fault.problem), fault.problem

    def _finish(self, exchange: _Exchange, status: int, outcome: str, problem: Problem | None = None) -> None:
        """Write the record of the request, unless this has been done."""
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
            request.transport.abort()  # this ends the call in the same way as when a client leaves


def _request(route: Route, request: web.Request, body: bytes) -> HttpRequest:
    """Return the request with its decoded body, and without the headers that describe the body as it was sent."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        key = name.lower()
        if key in _OF_THE_SENT_BODY and "Content-Encoding" in request.headers:
            continue
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return HttpRequest(
        route=route,
        path=request.raw_path.partition("?")[0],
        query=request.rel_url.raw_query_string,
        headers=headers,
        params=request.match_info,
        body=body,
    )


def _capture(inbound: Inbound, request: HttpRequest) -> Capture | None:
    """Return the copy of the bodies, or None where bodies are not kept."""
    limit = inbound.runtime.config.bodies.limit
    if not limit:
        return None
    login = inbound.identity.login if inbound.identity else ""
    return Capture((inbound.id, login, inbound.at), limit, request.headers, request.body)


def _encoded(encoder: Encoder, native: bool, events: Sequence[Event]) -> bytes:
    if not native:
        # events without raw bytes are only for the meter, such as those after the end of a reply
        return b"".join([encoder.feed(event) for event in events if event.raw != b""])
    return b"".join([encoder.feed(event) if event.raw is None else event.raw for event in events])


def _reply_headers(exchange: _Exchange, headers: Mapping[str, str], *, made_here: bool = False) -> dict[str, str]:
    """Return the response's headers: those that clients expect of the flag, `headers`, and the gateway's own.

    `made_here` is True for a complete response that this gateway wrote. The flag's headers may then state the usage.
    """
    inbound, call = exchange.inbound, exchange.call
    facts = call.facts if made_here and call is not None else None
    usual = inbound.flag.reply_headers(inbound.id, facts.parts[0].usage if facts and facts.reported else None)
    own = {"x-request-id": inbound.id, "server": "irisgate"}
    if call is not None and call.attempt is not None and call.attempt.dropped:
        own["x-irisgate-dropped"] = _header_value(", ".join(call.attempt.dropped))
    if call is not None and call.reservation is not None and call.reservation.notice:
        own["x-irisgate-quota"] = _header_value(call.reservation.notice)
    return {**usual, **headers, **own}


def _made_here(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the gateway's own headers among `headers`, for a response whose body this gateway wrote."""
    own = {name: value for name, value in headers.items() if name.startswith("x-irisgate-")}
    return {"content-type": "application/json", **own}


def _header_value(text: str) -> str:
    """Return text in a form safe for a header: quoted and cut off. Clients choose the text, such as names of fields."""
    safe = quote(text[: MAX_HEADER + 1], safe="/, !#$&'()*+-.:;<=>?@[]^_`{|}~")
    return safe if len(safe) <= MAX_HEADER else f"{safe[:MAX_HEADER]}..."


_OF_THE_SENT_BODY: Final = frozenset({"content-encoding", "content-length"})
_EMPTY: Final = Batch(())
_STOPPING: Final = Problem(UNAVAILABLE, "the gateway is being stopped; try again", retryable=True)
_NO_ROOM: Final = Problem(
    UNAVAILABLE, "the gateway cannot write its records to its disk; try again later", retry_after=10
)
_CRASHED: Final = Problem(INTERNAL, "the gateway failed on this call; its log has the cause under the request id")
