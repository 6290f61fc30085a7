"""The HTTP client for requests to providers; no other module opens connections to providers.

This module handles URLs, timeouts and HTTP headers. It never parses the content of a request or a reply.
"""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Final

import aiohttp
from yarl import URL

from gateway import __version__
from gateway.config.model import Provider, Timeouts
from gateway.contract.errors import (
    TIMEOUT,
    UNAVAILABLE,
    NotReached,
    Problem,
    Truncated,
    UpstreamFailed,
)
from gateway.contract.flag import Head, UpstreamRequest
from gateway.upstream.faults import unreachable

MAX_BODY: Final = 64 * 1024 * 1024
"""Maximum number of bytes of a reply that is read as a whole into memory; a larger reply is an error."""

WRITE_CHUNK_BYTES: Final = 1024 * 1024
"""Maximum number of bytes of a body that are sent in one write.

A longer body is sent in pieces, so that the event loop serves other calls in between."""

_VERSION_AT_END: Final = re.compile(r"/v[0-9]+[a-z0-9]*$")
_VERSION_AT_START: Final = re.compile(r"^/v[0-9]+[a-z0-9]*(?=/)")

_OWN_HEADERS: Final = {"accept-encoding": "identity", "user-agent": f"irisgate/{__version__}"}
"""Headers of every request. `identity` asks for an uncompressed reply, which can be forwarded event by event."""


class UpstreamResponse:
    """A reply whose head has arrived. `close` closes the connection unless the body has been read to its end."""

    def __init__(self, response: aiohttp.ClientResponse, provider: str, read_seconds: float) -> None:
        self._response = response
        self._provider = provider
        self._read_seconds = read_seconds
        self.head = Head(
            response.status,
            {name.lower(): ", ".join(response.headers.getall(name)) for name in response.headers},
        )

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the pieces of the body as they arrive.

        Raises `Truncated` if the connection breaks, and `UpstreamFailed` if no data arrives within the read timeout.
        """
        content = self._response.content
        while True:
            try:
                data = await content.readany()
            except aiohttp.SocketTimeoutError:
                raise self._timed_out() from None
            except (aiohttp.ClientError, ConnectionError) as error:
                raise Truncated(f"the connection to {self._provider} broke off: {type(error).__name__}") from None
            if not data:
                return
            yield data

    async def read(self, limit: int) -> bytes:
        """Return the whole body.

        Raises the exceptions of `chunks`, and `UpstreamFailed` for a body with more than `limit` bytes.
        """
        parts = []
        size = 0
        async for data in self.chunks():
            size += len(data)
            if size > limit:
                message = f"{self._provider} answered {self.head.status} with more than {limit} bytes"
                problem = Problem(UNAVAILABLE, message)
                raise UpstreamFailed(problem)
            parts.append(data)
        return b"".join(parts)

    def close(self) -> None:
        self._response.close()

    def _timed_out(self) -> UpstreamFailed:
        message = f"{self._provider} sent nothing for {self._read_seconds:g} seconds"
        return UpstreamFailed(Problem(TIMEOUT, message, retryable=True))


class Upstream:
    """The HTTP client of the gateway, with one pool of connections for all providers."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def open(
        self, provider: Provider, request: UpstreamRequest, added: Mapping[str, str], timeouts: Timeouts
    ) -> UpstreamResponse:
        """Send a request with its own headers and those in `added`, and wait for the head of the reply.

        Raises `NotReached` if no connection can be made, and `UpstreamFailed` (unavailable or timeout) if no reply
        arrives over the connection.
        """
        timeout = aiohttp.ClientTimeout(total=None, connect=timeouts.connect_seconds, sock_read=timeouts.read_seconds)
        target = url(provider.baseurl, request)
        headers = {**_OWN_HEADERS, **request.headers, **added}
        try:
            response = await self._request(provider, request, headers, timeout)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            why = unreachable(error, target.host or "", target.port)
            message = f"{provider.id} cannot be reached: {why.words}"
            raise NotReached(Problem(UNAVAILABLE, message, reason=why.name, retryable=True)) from None
        except TimeoutError as error:
            message = f"{provider.id} did not answer in time: {type(error).__name__}"
            raise UpstreamFailed(Problem(TIMEOUT, message, retryable=True)) from None
        except (aiohttp.ClientError, OSError) as error:
            message = f"{provider.id} broke off before it answered: {type(error).__name__}"
            raise UpstreamFailed(Problem(UNAVAILABLE, message, retryable=True)) from None
        return UpstreamResponse(response, provider.id, timeouts.read_seconds)

    async def _request(
        self, provider: Provider, request: UpstreamRequest, headers: dict[str, str], limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """Send the request, and send it a second time if a reused connection broke before the reply.

        The provider had then most likely closed the idle connection, without reading the request.
        """
        trace = SimpleNamespace(reused=False)
        try:
            return await self._request_once(provider, request, headers, limits, trace)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if not trace.reused:
                raise
        return await self._request_once(provider, request, headers, limits, SimpleNamespace(reused=False))

    async def _request_once(
        self,
        provider: Provider,
        request: UpstreamRequest,
        headers: dict[str, str],
        limits: aiohttp.ClientTimeout,
        trace: SimpleNamespace,
    ) -> aiohttp.ClientResponse:
        return await self._client().request(
            request.method,
            url(provider.baseurl, request),
            data=request.body if len(request.body) <= WRITE_CHUNK_BYTES else io.BytesIO(request.body),
            headers=headers,
            timeout=limits,
            allow_redirects=False,
            trace_request_ctx=trace,
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            # calls are limited elsewhere, so connections are not; no cookies are kept, as callers would share them
            connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=60)
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("Content-Type",),
                trace_configs=[_trace_reuse()],
            )
        return self._session


def _trace_reuse() -> aiohttp.TraceConfig:
    """Return a trace that sets `reused` in the context of a request if its connection was used before."""

    async def reused(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
        context.trace_request_ctx.reused = True

    config = aiohttp.TraceConfig()
    config.on_connection_reuseconn.append(reused)
    return config


def url(baseurl: str, request: UpstreamRequest) -> URL:
    """Join the base URL and the request's path, without a double slash or a double version. The path is not re-encoded.

    If the base URL ends with a version, as `https://x/v1` and `https://x/api/paas/v4` do, the version at the start of
    the path is left out. So a base URL may contain any path before the API's own paths, as for Bedrock:
    `https://bedrock-runtime.us-east-1.amazonaws.com/anthropic` and `.../openai/v1`.
    """
    base = baseurl.rstrip("/")
    path = request.path
    if _VERSION_AT_END.search(base):
        path = _VERSION_AT_START.sub("", path)
    return URL(base + path + (f"?{request.query}" if request.query else ""), encoded=True)
