"""The HTTP client for files that clients name by URL.

- A host name is resolved once. All of its addresses are checked, and the connection goes to one of these addresses.
- The TLS certificate must be valid for the host name.
- The target of a redirect is checked like any other URL.
- No header, cookie or credential of the client or of a provider is sent. No proxy from the environment is used.

`guard.py` decides which URLs and addresses are allowed.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gateway import __version__
from gateway.config.server import Fetching
from gateway.contract.errors import Refused, invalid
from gateway.contract.flag import Fetch, StepResponse
from gateway.upstream.fetch import guard
from gateway.upstream.fetch.guard import NotFetched, shown

MAX_REDIRECTS: Final = 3
"""Maximum number of redirects that are followed. File storage services use one or two."""
MAX_FETCHES: Final = 64
"""Maximum number of concurrent downloads of the process. If a download has to wait for its turn, the wait is a part of
its timeout.
"""
LOOKUPS: Final = 8
"""Number of threads that resolve host names. They do nothing else, because a dead name server can block them for
seconds.
"""

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
USER_AGENT: Final = f"irisgate/{__version__}"
_HEADERS: Final = {
    "user-agent": USER_AGENT,
    "accept": "image/*, application/pdf, text/*;q=0.9, */*;q=0.5",
    "accept-encoding": "identity",
}
"""Headers of every request. `identity` requests an uncompressed file, because decompression may expand a file a lot."""

Lookup = Callable[[str, int], Sequence[str]]


def lookup(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host name from this machine's resolver. Raises `OSError` if there are none.

    This blocks the thread.
    """
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for _, _, _, _, sockaddr in entries))


def is_reachable(address: str) -> bool:
    """Return whether an address is public and does not belong to this machine.

    This machine may run internal services on a public address, so its own addresses are not allowed.
    """
    return guard.is_public(address) and not is_own(address)


def is_own(address: str) -> bool:
    """Return whether an address belongs to this machine.

    The test asks the operating system for the source address that a connection to `address` would have. No packet is
    sent. If `address` belongs to this machine, the source address is `address` itself.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return str(probe.getsockname()[0]) == address
    except OSError:  # no route to this address
        return False


class Allowance(msgspec.Struct):
    """The number of bytes that may still be fetched for one call, over all files together."""

    left: int

    def take(self, size: int) -> None:
        """Subtract `size` bytes. Raises `NotFetched` if fewer bytes are left."""
        self.left -= size
        if self.left < 0:
            raise NotFetched("makes the request larger than this gateway takes; send fewer or smaller files")


class Fetcher:
    """A client that downloads files. `lookup` resolves host names, and `judge` decides whether an address is allowed.

    Tests replace both functions.
    """

    def __init__(
        self,
        *,
        lookup: Lookup = lookup,
        judge: Callable[[str], bool] = is_reachable,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._lookup = lookup
        self._judge = judge
        self._tls = tls
        self._turns = asyncio.Semaphore(MAX_FETCHES)
        self._threads = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="fetch-lookup")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def fetch(self, fetch: Fetch, rules: Fetching, allowance: Allowance) -> StepResponse:
        """Return the file, with its type in the header `content-type`.

        Raises `Refused` if the file is not allowed or cannot be fetched. The message names the field of the request and
        the URL.
        """
        if not rules.enabled:
            raise _refused(fetch, 'is not fetched: "server.fetch" of this gateway is off')
        try:
            async with asyncio.timeout(rules.timeout_seconds), self._turns:
                return await self._follow(fetch, rules, allowance)
        except TimeoutError:
            raise _refused(fetch, f"did not come within {rules.timeout_seconds:g} seconds") from None
        except NotFetched as error:
            raise _refused(fetch, str(error)) from None
        except ssl.SSLError:
            raise _refused(fetch, _NO_TLS) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # aiohttp raises ValueError for a malformed status line or header
            reason = _NO_TLS if isinstance(error, aiohttp.ClientSSLError) else "cannot be read from its host"
            raise _refused(fetch, reason) from None

    @asynccontextmanager
    async def session(self, url: str, rules: Fetching) -> AsyncIterator[tuple[aiohttp.ClientSession, URL]]:
        """Yield a session that connects only to the checked addresses of the URL's host, and the URL in normal form.

        Raises `NotFetched` if the URL is not allowed.
        """
        checked = guard.check_url(url, rules)
        async with _session(await self._addresses(checked, rules), self._tls) as session:
            yield session, checked

    async def _follow(self, fetch: Fetch, rules: Fetching, allowance: Allowance) -> StepResponse:
        """Request a URL and follow its redirects. Return the file.

        Raises `NotFetched` if a URL is not allowed, if there are too many redirects, or if the reply cannot be used.
        """
        url = guard.check_url(fetch.url, rules)
        limit = min(rules.max_bytes, fetch.max_bytes)
        for _ in range(MAX_REDIRECTS + 1):
            addresses = await self._addresses(url, rules)
            async with _get(url, addresses, self._tls) as response:
                if response.status not in _REDIRECTS:
                    return StepResponse(200, _head(response), await _read(response, limit, allowance))
                url = guard.check_url(_next(url, response), rules)
        raise NotFetched(f"is redirected more than {MAX_REDIRECTS} times; send the last URL")

    async def _addresses(self, url: URL, rules: Fetching) -> Sequence[str]:
        """Return all addresses of the URL's host.

        Raises `NotFetched` if the host has no address, or has an address that is not allowed. The message is the same
        for unknown and for internal host names, so that no client can find out which internal names exist.
        """
        host, port = str(url.raw_host), int(url.port or 0)
        judge = guard.is_host if guard.is_listed(host, port, rules) else self._judge
        loop = asyncio.get_running_loop()
        try:
            addresses = await loop.run_in_executor(
                self._threads, partial(_allowed_addresses, self._lookup, judge, host, port)
            )
        except (OSError, UnicodeError):
            addresses = ()
        if not addresses:
            raise NotFetched(f"names {host}, which has no address on the public internet")
        return addresses


def _allowed_addresses(lookup: Lookup, judge: Callable[[str], bool], host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host, or () if one of them is not allowed."""
    literal = ":" in host or host.rpartition(".")[2].isdigit()
    addresses = [host] if literal else lookup(host, port)
    return addresses if all(judge(address) for address in addresses) else ()


class _Pinned(AbstractResolver):
    """A resolver for aiohttp that returns the checked addresses, without a query to a name server."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
            if family in {socket.AF_UNSPEC, socket.AF_INET6 if ":" in address else socket.AF_INET}
        ]

    async def close(self) -> None:
        """Do nothing, because there are no resources to close."""


def _socket_to(addresses: Sequence[str]) -> Callable[[tuple[Any, ...]], socket.socket]:
    """Return a function that creates sockets for connections to `addresses`, and raises `OSError` for other addresses.

    An address may differ from the checked ones if a library parses the host differently from `guard.py`.
    """

    def make(info: tuple[Any, ...]) -> socket.socket:
        family, kind, proto, _, sockaddr = info
        if sockaddr[0] not in addresses:
            raise OSError("an address that was not checked")
        made = socket.socket(family, kind, proto)
        made.setblocking(False)
        return made

    return make


def _session(addresses: Sequence[str], tls: ssl.SSLContext | None) -> aiohttp.ClientSession:
    """Return a session that connects to these addresses only, with a new connection for each request."""
    connector = aiohttp.TCPConnector(
        resolver=_Pinned(addresses),
        socket_factory=_socket_to(addresses),
        use_dns_cache=False,
        force_close=True,
        ssl=True if tls is None else tls,
    )
    timeout = aiohttp.ClientTimeout(total=None)
    cookies = aiohttp.DummyCookieJar()
    return aiohttp.ClientSession(connector=connector, cookie_jar=cookies, auto_decompress=False, timeout=timeout)


@asynccontextmanager
async def _get(url: URL, addresses: Sequence[str], tls: ssl.SSLContext | None) -> AsyncIterator[aiohttp.ClientResponse]:
    """Request a URL, and yield the reply when its head has arrived."""
    async with _session(addresses, tls) as session:
        response = await session.get(url, headers=_HEADERS, allow_redirects=False)
        try:
            yield response
        finally:
            # not `release`, which would wait for the rest of an unwanted body, and could fail
            response.close()


def _next(url: URL, response: aiohttp.ClientResponse) -> str:
    """Return the target of a redirect. Raises `NotFetched` if it is malformed, or leads from https to http."""
    location = response.headers.get("Location", "")
    try:
        target = url.join(URL(location))
    except guard.NO_URL:
        target = URL()
    if not location or not target.absolute:
        raise NotFetched("is redirected to no URL that can be read")
    if url.scheme == "https" and target.scheme == "http":
        raise NotFetched("is redirected from https to http")
    return str(target)


def _head(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Return the header `content-type` with the file's type.

    Raises `NotFetched` for a status other than 200, and for a compressed file.
    """
    if response.status != 200:
        raise NotFetched(f"was answered with status {response.status}")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise NotFetched("came compressed, although it was asked for as it is")
    return {"content-type": response.headers.get("Content-Type", "")}


async def _read(response: aiohttp.ClientResponse, limit: int, allowance: Allowance) -> bytes:
    """Return the body of a reply, and subtract its size from the allowance.

    Raises `NotFetched` for an empty body, and for a body with more bytes than `limit` or the allowance. If
    `Content-Length` is above the limit, the body is not read.
    """
    if (response.content_length or 0) > limit:
        raise NotFetched(_too_long(limit))
    parts = []
    size = 0
    async for data in response.content.iter_any():
        size += len(data)
        if size > limit:
            raise NotFetched(_too_long(limit))
        allowance.take(len(data))
        parts.append(data)
    if not size:
        raise NotFetched("came without a byte")
    return b"".join(parts)


def _too_long(limit: int) -> str:
    return f"has more than {limit} bytes, the limit of this gateway"


def _refused(fetch: Fetch, reason: str) -> Refused:
    field = f"{fetch.param}: " if fetch.param else ""
    return invalid(f"{field}{shown(fetch.url)} {reason}; or send the file itself, as base64", fetch.param)


_NO_TLS: Final = "has a TLS certificate that is not valid for its name"
