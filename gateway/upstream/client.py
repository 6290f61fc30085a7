"""The only file that opens connections to providers.

It knows URLs, timeouts and headers of HTTP; what is said in a request or a reply it does not read.
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
"""Bytes of a reply that is not streamed; a larger one is a fault, and would be held in memory whole."""

WRITE_CHUNK_BYTES: Final = 1024 * 1024
"""Bytes of a body that are written in one go; a longer one goes piece by piece and lets others run in between."""

_VERSION_AT_END: Final = re.compile(r"/v[0-9]+[a-z0-9]*$")
_VERSION_AT_START: Final = re.compile(r"^/v[0-9]+[a-z0-9]*(?=/)")

_OWN_HEADERS: Final = {"accept-encoding": "identity", "user-agent": f"irisgate/{__version__}"}
"""identity: a compressed stream cannot be forwarded event by event."""


class UpstreamResponse:
    """An open reply. Closing it closes the connection unless the body has been read to its end."""

    def __init__(self, response: aiohttp.ClientResponse, provider: str, read_seconds: float) -> None:
        self._response = response
        self._provider = provider
        self._read_seconds = read_seconds
        self.head = Head(
            response.status,
            {name.lower(): ", ".join(response.headers.getall(name)) for name in response.headers},
        )

    async def chunks(self) -> AsyncIterator[bytes]:
        """What comes, as it comes. Raises `Truncated` when the connection breaks, `UpstreamFailed` on a timeout."""
        content = self._response.content
        while True:
            try:
                data = await content.readany()
            except aiohttp.SocketTimeoutError:
                raise self._silent() from None
            except (aiohttp.ClientError, ConnectionError) as error:
                raise Truncated(f"the connection to {self._provider} broke off: {type(error).__name__}") from None
            if not data:
                return
            yield data

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises as `chunks` does, and `UpstreamFailed` when it is longer than the limit."""
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

    def _silent(self) -> UpstreamFailed:
        message = f"{self._provider} sent nothing for {self._read_seconds:g} seconds"
        return UpstreamFailed(Problem(TIMEOUT, message, retryable=True))


class Upstream:
    """The client side of the gateway: one pool of connections for all providers."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def open(
        self, provider: Provider, send: UpstreamRequest, added: Mapping[str, str], timeouts: Timeouts
    ) -> UpstreamResponse:
        """Send a request, with the headers `added` to its own, and await the head of its reply.

        Raises `UpstreamFailed` (unavailable or timeout) when there is none.
        """
        timeout = aiohttp.ClientTimeout(total=None, connect=timeouts.connect_seconds, sock_read=timeouts.read_seconds)
        target = url(provider.baseurl, send)
        headers = {**_OWN_HEADERS, **send.headers, **added}
        try:
            response = await self._request(provider, send, headers, timeout)
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
        self, provider: Provider, send: UpstreamRequest, headers: dict[str, str], limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """The request; once more on a fresh connection when a kept one turns out to have been closed meanwhile.

        Such a connection gives no byte back, and a provider that closes an idle one has not read the request.
        """
        for last in (False, True):
            trace = SimpleNamespace(reused=False)
            try:
                return await self._client().request(
                    send.method,
                    url(provider.baseurl, send),
                    data=send.body if len(send.body) <= WRITE_CHUNK_BYTES else io.BytesIO(send.body),
                    headers=headers,
                    timeout=limits,
                    allow_redirects=False,
                    trace_request_ctx=trace,
                )
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if last or not trace.reused:
                    raise
        raise AssertionError

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            # no limit: how many calls run at once is decided in front of the pool, not by it; cookies are nobody's here
            connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=60)
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("Content-Type",),
                trace_configs=[_noting_reuse()],
            )
        return self._session


def _noting_reuse() -> aiohttp.TraceConfig:
    """Tells a request whether its connection had served another one before."""

    async def reused(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
        context.trace_request_ctx.reused = True

    config = aiohttp.TraceConfig()
    config.on_connection_reuseconn.append(reused)
    return config


def url(baseurl: str, send: UpstreamRequest) -> URL:
    """Base URL and path, joined so that neither a slash nor a version is doubled; the path stays encoded as it is.

    A base URL that ends with a version says which one: with `https://x/v1` and `https://x/api/paas/v4` the path's own
    is left out. So providers that put an API below a path of their own need no more than that path: Bedrock's
    `https://bedrock-runtime.us-east-1.amazonaws.com/anthropic` and `.../openai/v1`.
    """
    base = baseurl.rstrip("/")
    path = send.path
    if _VERSION_AT_END.search(base):
        path = _VERSION_AT_START.sub("", path)
    return URL(base + path + (f"?{send.query}" if send.query else ""), encoded=True)
