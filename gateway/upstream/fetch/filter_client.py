"""The HTTP client that filters use for requests of their own, such as to a moderation service.

- Addresses are resolved and checked as for files that clients name (`client.py`, `guard.py`): public addresses and the
  hosts in `server.fetch.private_hosts` are allowed.
- No credential of the gateway is sent, and no redirect is followed.
- A request that still runs when the call has ended is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import aiohttp
import orjson

from gateway.config.server import Fetching
from gateway.contract.filter import SECONDS, HttpReply
from gateway.upstream.fetch.client import USER_AGENT, Fetcher
from gateway.upstream.fetch.guard import NotFetched, host_of

MAX_REPLY: Final = 4 * 1024 * 1024
"""Maximum number of bytes of the reply to a filter's own request."""


class FilterClient:
    """The HTTP client of the filters of one call. This class implements the protocol `contract.filter.HttpClient`."""

    def __init__(self, fetcher: Fetcher, rules: Fetching) -> None:
        self._fetcher = fetcher
        self._rules = rules
        self._requests: set[asyncio.Task[HttpReply]] = set()
        self._closed = False

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, json: Any = None, body: bytes = b""
    ) -> HttpReply:
        """Send a request, and return the whole reply (`contract.filter.HttpClient.send`)."""
        if self._closed:
            raise ConnectionError("the call has ended, and its client is closed")
        sent = {"accept-encoding": "identity", "user-agent": USER_AGENT}
        if json is not None:
            body = orjson.dumps(json)
            sent["content-type"] = "application/json"
        sent |= {name.lower(): value for name, value in (headers or {}).items()}
        request = asyncio.create_task(self._send(method, url, sent, body))
        self._requests.add(request)
        request.add_done_callback(self._requests.discard)
        return await request

    def close(self) -> None:
        """Cancel the requests that are still running, and allow no new ones."""
        self._closed = True
        for request in self._requests:
            request.cancel()

    async def _send(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> HttpReply:
        # the list of hosts for clients does not apply, because filters' URLs come from the operator
        rules = replace(self._rules, allow_hosts=())
        try:
            async with (
                asyncio.timeout(SECONDS),
                self._fetcher.session(url, rules) as (session, checked),
                session.request(method, checked, headers=headers, data=body or None, allow_redirects=False) as response,
            ):
                data = await response.content.read(MAX_REPLY + 1)
                while not response.content.at_eof() and len(data) <= MAX_REPLY:
                    data += await response.content.read(MAX_REPLY + 1 - len(data))
        except NotFetched as error:
            raise ConnectionError(f"{host_of(url)} {error}") from None
        except (aiohttp.ClientError, ValueError) as error:
            raise ConnectionError(f"{host_of(url)} cannot be reached: {type(error).__name__}") from None
        if len(data) > MAX_REPLY:
            raise ConnectionError(f"{host_of(url)} sent more than {MAX_REPLY} bytes")
        return HttpReply(response.status, {name.lower(): value for name, value in response.headers.items()}, data)
