"""The only file that reads client requests and writes replies.

`handle` is the way of every call: parse, the chain, then a whole body or a stream; whatever happens, the call is
finished once. An error before the first byte has a status; after it, the client's encoder says it as the last thing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Final
from urllib.parse import quote

from aiohttp import web

from gateway.call.capture import Capture
from gateway.call.chain import Answer, Call, Items
from gateway.call.context import REFUSED, REQUEST_ID, Gateway, identity_of
from gateway.call.sessions import agent
from gateway.contract.errors import (
    INTERNAL,
    TIMEOUT,
    TOO_LARGE,
    UNAVAILABLE,
    GatewayError,
    Problem,
    Refused,
    UpstreamFailed,
    invalid,
)
from gateway.contract.flag import Encoder, Event, HttpRequest, Route
from gateway.contract.registry import Plugin

PING_SECONDS: Final = 15.0
"""Of silence in a stream before a ping: some clients' runtimes drop a connection after 30 s without a byte."""

MAX_HEADER: Final = 2000
"""Characters of the header that names dropped fields; the record has them all."""

BODY_SECONDS: Final = 60.0
"""For which a client may send nothing of a body that it has begun."""

STALLED_SECONDS: Final = 300.0
"""For which a client may take nothing of a stream: all the while it holds a provider's connection and a reservation."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Server:
    gateway: Gateway
    finish: Callable[[Call, int, str], None]
    """Writes the call's record, given its status and outcome; does so once, however often it is called."""
    ping_seconds: float = PING_SECONDS
    stalled_seconds: float = STALLED_SECONDS

    def handler(self, flag: Plugin, route: Route) -> Handler:
        return partial(self.handle, flag, route)

    async def handle(self, flag: Plugin, route: Route, request: web.Request) -> web.StreamResponse:
        call = Call(
            id=request[REQUEST_ID],
            runtime=self.gateway.runtime,
            flag=flag,
            operation=route.operation,
            agent=agent(request.headers),
            identity=identity_of(request),
        )
        task = asyncio.current_task()
        assert task is not None
        self.gateway.open_calls.add(task)
        try:
            async with call.stack:
                return await self._serve(call, route, request)
        except (asyncio.CancelledError, ConnectionError):
            self.finish(call, 499, "cancelled")
            raise
        except Exception:
            self.gateway.log.exception("call.crashed", request_id=call.id)
            return self._error(call, GatewayError(_CRASHED))
        finally:
            self.gateway.open_calls.discard(task)
            if call.capture is not None:
                self.gateway.bodies.put(call.capture)

    async def _serve(self, call: Call, route: Route, request: web.Request) -> web.StreamResponse:
        try:
            body = await self._read(call, request)
            call.received = monotonic()
            asked = _request(route, request, body)
            call.capture = _capture(call, asked)
            call.request = call.flag.parse(asked)
            answer = await self.gateway.chain(call)
            if answer.items is None:
                return self._whole(call, answer)
            items = await call.stack.enter_async_context(aclosing(answer.items))
            first = await anext(items, ())
        except GatewayError as error:
            return self._error(call, error)
        except asyncio.CancelledError:
            if not self._stopping():
                raise
            return self._error(call, GatewayError(_STOPPING))
        return await self._stream(call, request, answer, first, items)

    async def _read(self, call: Call, request: web.Request) -> bytes:
        """The body. Raises `Refused`; a client that stops sending is one that left."""
        if (refused := request.get(REFUSED)) is not None:
            raise refused
        if self.gateway.keeper.full:
            raise Refused(_NO_ROOM)
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            # what is small on the wire could be anything in memory, and no client of this trade compresses
            raise invalid("the body is compressed; send it as it is, without Content-Encoding")
        limit = call.runtime.config.server.limits.body_bytes
        if (request.content_length or 0) > limit:
            raise _too_large(limit)
        parts: list[bytes] = []
        size = 0
        while True:
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    data = await request.content.readany()
            except TimeoutError:
                raise Refused(Problem(TIMEOUT, f"nothing of the body came for {BODY_SECONDS:g} seconds")) from None
            if not data:
                return b"".join(parts)
            size += len(data)
            if size > limit:
                raise _too_large(limit)
            parts.append(data)

    def _stopping(self) -> bool:
        """Whether a cancelled call is one that the gateway's own end cut off, and not its client."""
        task = asyncio.current_task()
        if not self.gateway.draining or task is None:
            return False
        task.uncancel()
        return True

    def _whole(self, call: Call, answer: Answer) -> web.Response:
        assert answer.body is not None
        attempt = call.require_attempt()
        native = attempt.candidate.native
        body = answer.body if native else call.flag.encoder(call.require_request()).whole(answer.body)
        headers = _reply_headers(call, answer.headers if native else _made_here(answer.headers), made_here=not native)
        self.finish(call, answer.status, "failed" if call.problem else "ok")
        _replied(call, headers, body)
        return web.Response(status=answer.status, headers=headers, body=body)

    def _error(self, call: Call, error: GatewayError) -> web.Response:
        """An error that came before anything was sent; a provider's own bytes where the client speaks its language."""
        call.problem = error.problem
        status, headers, body = call.flag.error(error.problem)
        attempt = call.attempt
        native = attempt is not None and attempt.candidate.native
        if native and isinstance(error, UpstreamFailed) and error.headers and error.status >= 400:
            status, headers, body = error.status, dict(error.headers), error.raw
        self.finish(call, status, "refused" if isinstance(error, Refused) else "failed")
        headers = _reply_headers(call, headers)
        _replied(call, headers, body)
        return web.Response(status=status, headers=headers, body=body)

    async def _stream(
        self, call: Call, request: web.Request, answer: Answer, first: Sequence[Event], items: Items
    ) -> web.StreamResponse:
        encoder = call.flag.encoder(call.require_request())
        native = call.require_attempt().candidate.native
        headers = answer.headers if native else {"content-type": call.flag.content_type, "cache-control": "no-cache"}
        headers = _reply_headers(call, headers)
        _replied(call, headers)
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(request)
        writer = _Writer(response, call.capture)
        watch = asyncio.create_task(self._watch(writer, encoder.ping(), call, request))
        call.stack.callback(watch.cancel)
        try:
            await writer.write(_encoded(encoder, native, first))
            async for events in items:
                if data := _encoded(encoder, native, events):
                    await writer.write(data)
            last = b"" if native else encoder.close()
        except ConnectionError:
            raise
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 (`_cause` logs, or raises again)
            call.problem = self._cause(call, error)
            raw = error.raw if native and isinstance(error, UpstreamFailed) else b""
            last = raw or encoder.fail(call.problem)
        watch.cancel()
        self.finish(call, answer.status, "ok" if call.problem is None else "failed")
        if last:
            await writer.write(last)
        await response.write_eof()
        return response

    async def _watch(self, writer: _Writer, ping: bytes, call: Call, request: web.Request) -> None:
        """Send pings into silence, and leave a client that takes nothing any more."""
        await writer.watch(ping, self.ping_seconds, self.stalled_seconds)
        self.gateway.log.warning("client.stalled", request_id=call.id, seconds=self.stalled_seconds)
        if request.transport is not None:
            request.transport.abort()  # which ends the call as a client's leaving does

    def _cause(self, call: Call, error: BaseException) -> Problem:
        """What a client is told of an exception in mid-stream. Raises it again when the client itself has left."""
        if isinstance(error, GatewayError):
            return error.problem
        if isinstance(error, asyncio.CancelledError):
            if self._stopping():
                return _STOPPING
            raise error
        self.gateway.log.error("call.crashed", request_id=call.id, exc_info=error)
        return _CRASHED


def _request(route: Route, request: web.Request, body: bytes) -> HttpRequest:
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return HttpRequest(
        route=route,
        path=request.raw_path.partition("?")[0],
        query=request.rel_url.raw_query_string,
        headers=headers,
        params=request.match_info,
        body=body,
    )


def _capture(call: Call, asked: HttpRequest) -> Capture | None:
    """None where bodies are not kept."""
    limit = call.runtime.config.bodies.limit
    if not limit:
        return None
    login = call.identity.login if call.identity else ""
    return Capture((call.id, login, call.at), limit, asked.headers, asked.body)


def _replied(call: Call, headers: Mapping[str, str], body: bytes = b"") -> None:
    if call.capture is not None:
        call.capture.replied(headers)
        call.capture.feed(body)


def _encoded(encoder: Encoder, native: bool, events: Sequence[Event]) -> bytes:
    if not native:
        return b"".join([encoder.feed(event) for event in events])
    return b"".join([encoder.feed(event) if event.raw is None else event.raw for event in events])


class _Writer:
    """The reply's body, and a ping into its silence; frames are written whole, so a ping falls between two."""

    def __init__(self, response: web.StreamResponse, capture: Capture | None) -> None:
        self._response = response
        self._capture = capture
        self._last = monotonic()
        self._waits = False
        """For the client to take what has been written."""

    async def write(self, data: bytes) -> None:
        self._last = monotonic()
        if self._capture is not None:
            self._capture.feed(data)
        self._waits = True
        await self._response.write(data)
        self._waits = False

    async def watch(self, ping: bytes, seconds: float, patience: float) -> None:
        """Write a ping whenever nothing has been written for `seconds`; returns when a write waits for `patience`.

        One timer a stream looks after all of its writes.
        """
        turn = min(seconds, patience)
        while True:
            silent = monotonic() - self._last
            if self._waits and silent >= patience:
                return
            if ping and not self._waits and silent >= seconds:
                with suppress(ConnectionError):
                    await self.write(ping)
            else:
                left = (patience if self._waits else seconds) - silent
                await asyncio.sleep(min(turn, left) if left > 0 else turn)


def _reply_headers(call: Call, headers: Mapping[str, str], *, made_here: bool = False) -> dict[str, str]:
    """`made_here` is a whole reply that is not the provider's own."""
    attempt = call.attempt
    facts = call.facts if made_here else None
    usual = call.flag.reply_headers(call.id, facts.usage if facts is not None and facts.reported else None)
    own = {"x-request-id": call.id, "server": "irisgate"}
    if attempt is not None and attempt.dropped:
        own["x-irisgate-dropped"] = _header_value(", ".join(attempt.dropped))
    if call.reservation is not None and call.reservation.notice:
        own["x-irisgate-quota"] = _header_value(call.reservation.notice)
    return {**usual, **headers, **own}


def _made_here(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a body that this gateway wrote: of the answer's own, those that are ours too."""
    own = {name: value for name, value in headers.items() if name.startswith("x-irisgate-")}
    return {"content-type": "application/json", **own}


def _header_value(text: str) -> str:
    """Names of a client's members, as they may stand in a header: printable, and not endless."""
    safe = quote(text[:MAX_HEADER], safe="/, !#$&'()*+-.:;<=>?@[]^_`{|}~")
    return safe if len(safe) <= MAX_HEADER else f"{safe[:MAX_HEADER]}..."


def _too_large(limit: int) -> Refused:
    return Refused(Problem(TOO_LARGE, f"the request's body is larger than {limit} bytes, the limit of this gateway"))


_STOPPING: Final = Problem(UNAVAILABLE, "the gateway is being stopped; try again", retryable=True)
_NO_ROOM: Final = Problem(
    UNAVAILABLE, "the gateway cannot write its records, since its disk is full; try again later", retry_after=10
)
_CRASHED: Final = Problem(INTERNAL, "the gateway failed on this call; its log has the cause under the request id")
