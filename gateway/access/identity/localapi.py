"""A client of tailscaled's LocalAPI on its unix socket, for the question who has an address of the tailnet.

Wire facts (tailscale/tailscale, ipn/localapi and client/tailscale/apitype): the request needs the Host
`local-tailscaled.sock` and must have neither Origin nor Referer; `whois` answers 404 for an address that nobody has and
200 with `{Node, UserProfile, CapMap}`. Every local user may ask. The answer is interpreted in `whois.py`.
"""

from __future__ import annotations

from typing import Final

import aiohttp
import msgspec

ANSWER_SECONDS: Final = 2.0
"""Seconds for a whole answer: tailscaled has it in memory, and a call waits for it."""
MAX_ANSWER: Final = 4 * 1024 * 1024
"""Most bytes of an answer: a node's capabilities are at most those of a policy file."""
_WHOIS: Final = "http://local-tailscaled.sock/localapi/v0/whois"


class LocalApiFailed(Exception):
    """tailscaled gave no usable answer; the message says why and quotes nothing of the answer."""


class Node(msgspec.Struct, frozen=True):
    StableID: str = ""
    Tags: tuple[str, ...] | None = None


class UserProfile(msgspec.Struct, frozen=True):
    LoginName: str = ""
    Groups: tuple[str, ...] | None = None


class WhoIs(msgspec.Struct, frozen=True):
    """The members of tailscaled's answer that are used, under its names."""

    Node: Node
    UserProfile: UserProfile
    CapMap: dict[str, msgspec.Raw] | None = None
    """JSON of the values, by capability."""


class LocalApi:
    """A client of one tailscaled. Connections are kept; after a restart of tailscaled the next question reconnects."""

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self._session: aiohttp.ClientSession | None = None

    async def whois(self, address: str, service: str = "") -> WhoIs | None:
        """Return who has `address` (`IP:port`) on the tailnet, with the grants for `service`; None for nobody.

        Raises `LocalApiFailed`.
        """
        query = {"addr": address, "proto": "tcp"} | ({"svc_name": service} if service else {})
        status, body = await self._get(query)
        if status == 404:
            return None
        if status != 200:
            raise LocalApiFailed(f"it answered whois with {status}")
        try:
            return msgspec.json.decode(body, type=WhoIs)
        except (msgspec.DecodeError, RecursionError):
            raise LocalApiFailed("its answer to whois cannot be read") from None

    async def _get(self, query: dict[str, str]) -> tuple[int, bytes]:
        try:
            try:
                return await self._get_once(query)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # kept connections of a tailscaled that was restarted meanwhile: aiohttp itself asks anew once, but that
                # may be on another of them; the question changes nothing there
                return await self._get_once(query)
        except TimeoutError:
            raise LocalApiFailed(f"it did not answer within {ANSWER_SECONDS:g} seconds") from None
        except (aiohttp.ClientError, OSError) as error:
            raise LocalApiFailed(f"it cannot be reached: {type(error).__name__}") from None

    async def _get_once(self, query: dict[str, str]) -> tuple[int, bytes]:
        if self._session is None:
            connector = aiohttp.UnixConnector(self.socket, limit=0)
            timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
            )
        async with self._session.get(_WHOIS, params=query, allow_redirects=False) as reply:
            body = bytearray()
            async for part in reply.content.iter_any():
                body += part
                if len(body) > MAX_ANSWER:
                    raise LocalApiFailed(f"its answer is longer than {MAX_ANSWER} bytes")
            return reply.status, bytes(body)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
