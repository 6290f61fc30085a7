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
from typing import Final
from urllib.parse import quote

from aiohttp import web

from gateway.chain import Answer, Call, Items
from gateway.context import REFUSED, REQUEST_ID, Gateway, identity_of
from gateway.errors import INTERNAL, TOO_LARGE, GatewayError, Problem, Refused, UpstreamFailed
from gateway.flag import Encoder, Event, Request, Route
from gateway.registry import Plugin
from gateway.sessions import agent

PING_SECONDS: Final = 15.0
"""Of silence in a stream before a ping: some clients' runtimes drop a connection after 30 s without a byte."""

MAX_DROPPED: Final = 2000
"""Letters of the header that names dropped fields; the record has them all."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Server:
    gateway: Gateway
    finish: Callable[[Call, int, str], None]
    """Writes the call's record, given its status and outcome; does so once, however often it is called."""
    ping_seconds: float = PING_SECONDS

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
        async with call.stack:
            try:
                return await self._serve(call, route, request)
            except (asyncio.CancelledError, ConnectionError):
                self.finish(call, 499, "cancelled")
                raise

    async def _serve(self, call: Call, route: Route, request: web.Request) -> web.StreamResponse:
        try:
            body = await self._read(call, request)
            call.ask = call.flag.parse(_request(route, request, body))
            answer = await self.gateway.chain(call)
            if answer.items is None:
                return self._whole(call, answer)
            items = await call.stack.enter_async_context(aclosing(answer.items))
            first = await anext(items, ())
        except GatewayError as error:
            return self._error(call, error)
        except Exception:
            self.gateway.log.exception("call.crashed", request_id=call.id)
            return self._error(call, GatewayError(_CRASHED))
        return await self._stream(call, request, answer, first, items)

    async def _read(self, call: Call, request: web.Request) -> bytes:
        if (refused := request.get(REFUSED)) is not None:
            raise refused
        limits = call.runtime.config.server.limits
        if (request.content_length or 0) > limits.body_bytes:
            raise _too_large(limits.body_bytes)
        try:
            return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise _too_large(limits.body_bytes) from None

    def _whole(self, call: Call, answer: Answer) -> web.Response:
        assert answer.body is not None
        attempt = call.require_attempt()
        native = attempt.candidate.native
        body = answer.body if native else call.flag.encoder(call.require_ask()).whole(answer.body)
        headers = _reply_headers(call, answer.headers if native else {"content-type": "application/json"})
        self.finish(call, answer.status, "ok")
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
        return web.Response(status=status, headers=_reply_headers(call, headers), body=body)

    async def _stream(
        self, call: Call, request: web.Request, answer: Answer, first: Sequence[Event], items: Items
    ) -> web.StreamResponse:
        encoder = call.flag.encoder(call.require_ask())
        native = call.require_attempt().candidate.native
        headers = answer.headers if native else {"content-type": call.flag.content_type, "cache-control": "no-cache"}
        response = web.StreamResponse(status=answer.status, headers=_reply_headers(call, headers))
        await response.prepare(request)
        writer = _Writer(response)
        pinger = asyncio.create_task(writer.ping(encoder.ping(), self.ping_seconds))
        call.stack.callback(pinger.cancel)
        outcome = "ok"
        try:
            await writer.write(_encoded(encoder, native, first))
            async for events in items:
                if data := _encoded(encoder, native, events):
                    await writer.write(data)
            last = b"" if native else encoder.close()
        except GatewayError as error:
            outcome = "failed"
            call.problem = error.problem
            raw = error.raw if native and isinstance(error, UpstreamFailed) else b""
            last = raw or encoder.fail(error.problem)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception:
            outcome = "failed"
            call.problem = _CRASHED
            self.gateway.log.exception("call.crashed", request_id=call.id)
            last = encoder.fail(_CRASHED)
        pinger.cancel()
        self.finish(call, answer.status, outcome)
        if last:
            await response.write(last)
        await response.write_eof()
        return response


def _request(route: Route, request: web.Request, body: bytes) -> Request:
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return Request(
        route=route,
        path=request.raw_path.partition("?")[0],
        query=request.rel_url.raw_query_string,
        headers=headers,
        params=request.match_info,
        body=body,
    )


def _encoded(encoder: Encoder, native: bool, events: Sequence[Event]) -> bytes:
    if not native:
        return b"".join([encoder.feed(event) for event in events])
    return b"".join([encoder.feed(event) if event.raw is None else event.raw for event in events])


class _Writer:
    """The reply's body, and a ping into its silence; frames are written whole, so a ping falls between two."""

    def __init__(self, response: web.StreamResponse) -> None:
        self._response = response
        self._writes = 0

    async def write(self, data: bytes) -> None:
        self._writes += 1
        await self._response.write(data)

    async def ping(self, data: bytes, seconds: float) -> None:
        """Write a ping whenever nothing has been written for so long."""
        with suppress(ConnectionError):
            while data:
                seen = self._writes
                await asyncio.sleep(seconds)
                if self._writes == seen:
                    await self.write(data)


def _reply_headers(call: Call, headers: Mapping[str, str]) -> dict[str, str]:
    attempt = call.attempt
    own = {"x-request-id": call.id, "server": "irisgate"}
    if attempt is not None and attempt.dropped:
        own["x-irisgate-dropped"] = _header_value(", ".join(attempt.dropped))
    return {**headers, **own}


def _header_value(text: str) -> str:
    """Names of a client's members, as they may stand in a header: printable, and not endless."""
    safe = quote(text, safe="/, !#$&'()*+-.:;<=>?@[]^_`{|}~")
    return safe if len(safe) <= MAX_DROPPED else f"{safe[:MAX_DROPPED]}..."


def _too_large(limit: int) -> Refused:
    return Refused(Problem(TOO_LARGE, f"the request's body is larger than {limit} bytes, the limit of this gateway"))


_CRASHED: Final = Problem(INTERNAL, "the gateway failed on this call; its log has the cause under the request id")
