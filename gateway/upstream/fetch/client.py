"""Fetches a client's URLs: the only file, beside `upstream/client.py`, that opens connections outwards for a call.

A name is resolved once; all its addresses are judged, and the connection goes to one of those and nowhere else, while
TLS verifies the name. A redirect is a new URL, with the whole judgement again. Nothing of the client or of a provider
goes along: no header, no cookie, no credential, no proxy of the environment. What may be asked for is in `guard.py`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gateway import __version__
from gateway.config.model import Fetching
from gateway.contract.errors import Refused, invalid
from gateway.contract.flag import Fetch, StepResponse
from gateway.upstream.fetch import guard
from gateway.upstream.fetch.guard import NotFetched, shown

MAX_REDIRECTS: Final = 3
MAX_FETCHES: Final = 64
"""Fetches of the whole process at a time; others wait, within their own time."""
LOOKUPS: Final = 8
"""Threads that resolve names. They are apart from all others: a name server that is silent holds one for seconds."""

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_HEADERS: Final = {
    "user-agent": f"irisgate/{__version__}",
    "accept": "image/*, application/pdf, text/*;q=0.9, */*;q=0.5",
    "accept-encoding": "identity",
}
"""identity: what is small on the wire could be anything in memory."""

Lookup = Callable[[str, int], Sequence[str]]


def lookup(host: str, port: int) -> Sequence[str]:
    """The addresses of a name, as this machine's resolver finds them. Blocks. Raises `OSError` if there are none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for _, _, _, _, sockaddr in found))


def is_reachable(address: str) -> bool:
    """A public address that is not this machine's own: here also listens what no one outside gets to."""
    return guard.is_public(address) and not is_own(address)


def is_own(address: str) -> bool:
    """Whether an address is this machine's: the way to it then begins where it ends. Sends nothing."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return str(probe.getsockname()[0]) == address
    except OSError:  # there is no way at all, or not in this family
        return False


@dataclass(slots=True)
class Allowance:
    """Bytes that the files of one call may have together."""

    left: int

    def take(self, size: int) -> None:
        """Raises `NotFetched` when there are no more."""
        self.left -= size
        if self.left < 0:
            raise NotFetched("makes the request larger than this gateway takes; send fewer or smaller files")


class Fetcher:
    """Reads URLs. `lookup` and `judge` are what tests bring their own of: who has which address, and which are fine."""

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
        """The file, with its type in `content-type`. Raises `Refused`, which names the field and the URL."""
        if not rules.enabled:
            raise _refused(fetch, 'is not fetched: "server.fetch" of this gateway is off')
        try:
            async with asyncio.timeout(rules.timeout_seconds), self._turns:
                return await self._followed(fetch, rules, allowance)
        except TimeoutError:
            raise _refused(fetch, f"did not come within {rules.timeout_seconds:g} seconds") from None
        except NotFetched as error:
            raise _refused(fetch, str(error)) from None
        except ssl.SSLError:
            raise _refused(fetch, _NO_TLS) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # ValueError: what aiohttp says of a status line or header that is none
            reason = _NO_TLS if isinstance(error, aiohttp.ClientSSLError) else "cannot be read from its host"
            raise _refused(fetch, reason) from None

    async def _followed(self, fetch: Fetch, rules: Fetching, allowance: Allowance) -> StepResponse:
        """The reply at the end of its redirects."""
        url = guard.checked(fetch.url, rules)
        limit = min(rules.max_bytes, fetch.max_bytes)
        for _ in range(MAX_REDIRECTS + 1):
            addresses = await self._addresses(url, rules)
            async with _asked(url, addresses, self._tls) as response:
                if response.status not in _REDIRECTS:
                    return StepResponse(200, _head(response), await _read(response, limit, allowance))
                url = guard.checked(_next(url, response), rules)
        raise NotFetched(f"is redirected more than {MAX_REDIRECTS} times; send the last URL")

    async def _addresses(self, url: URL, rules: Fetching) -> Sequence[str]:
        """All addresses of the host, when each of them may be connected to. Raises `NotFetched`.

        One sentence for a name that is unknown and for one inside, so that nobody learns here which ones there are.
        """
        host, port = str(url.raw_host), int(url.port or 0)
        judge = guard.is_host if guard.is_listed(host, port, rules) else self._judge
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._threads, partial(_judged, self._lookup, judge, host, port))
        except (OSError, UnicodeError):
            found = ()
        if not found:
            raise NotFetched(f"names {host}, which has no address on the public internet")
        return found


def _judged(lookup: Lookup, judge: Callable[[str], bool], host: str, port: int) -> Sequence[str]:
    """The addresses, or none at all where one of them may not be connected to."""
    literal = ":" in host or host.rpartition(".")[2].isdigit()
    found = [host] if literal else lookup(host, port)
    return found if all(judge(address) for address in found) else ()


class _Pinned(AbstractResolver):
    """Answers with the addresses that were judged; nobody is asked again."""

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
        """Nothing is open."""


def _socket_to(addresses: Sequence[str]) -> Callable[[tuple[Any, ...]], socket.socket]:
    """Makes sockets for these addresses alone: the last gate, whatever a library above takes a host for."""

    def made(info: tuple[Any, ...]) -> socket.socket:
        family, kind, proto, _, sockaddr = info
        if sockaddr[0] not in addresses:
            raise OSError("an address that nobody judged")
        made = socket.socket(family, kind, proto)
        made.setblocking(False)
        return made

    return made


@asynccontextmanager
async def _asked(
    url: URL, addresses: Sequence[str], tls: ssl.SSLContext | None
) -> AsyncIterator[aiohttp.ClientResponse]:
    """A reply's head, over a connection of its own that is closed behind it."""
    connector = aiohttp.TCPConnector(
        resolver=_Pinned(addresses),
        socket_factory=_socket_to(addresses),
        use_dns_cache=False,
        force_close=True,
        ssl=True if tls is None else tls,
    )
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, timeout=timeout
    ) as session:
        response = await session.get(url, headers=_HEADERS, allow_redirects=False)
        try:
            yield response
        finally:
            # not released: that would wait for the rest of a body that nobody wants, and raise for a broken one
            response.close()


def _next(url: URL, response: aiohttp.ClientResponse) -> str:
    """Where a redirect leads. Raises `NotFetched` for one to nowhere, or out of TLS."""
    location = response.headers.get("Location", "")
    try:
        there = url.join(URL(location))
    except guard.NO_URL:
        there = URL()
    if not location or not there.absolute:
        raise NotFetched("is redirected to no URL that can be read")
    if url.scheme == "https" and there.scheme == "http":
        raise NotFetched("is redirected from https to http")
    return str(there)


def _head(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Raises `NotFetched` for a reply that is not the file."""
    if response.status != 200:
        raise NotFetched(f"was answered with status {response.status}")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise NotFetched("came compressed, although it was asked for as it is")
    return {"content-type": response.headers.get("Content-Type", "")}


async def _read(response: aiohttp.ClientResponse, limit: int, allowance: Allowance) -> bytes:
    """The body, whose length is believed before it is counted: what says that it is too long is not read."""
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
