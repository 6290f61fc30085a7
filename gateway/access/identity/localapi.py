"""A client of tailscaled's LocalAPI on its unix socket: who has an address of the tailnet.

Wire facts (tailscale/tailscale, ipn/localapi and client/tailscale/apitype): the request needs the Host
`local-tailscaled.sock` and must have neither Origin nor Referer; `whois` answers 404 for an address that nobody has and
200 with `{Node, UserProfile, CapMap}`. Asking is open to every local user. What an answer means for us is not decided
here.
"""

from __future__ import annotations

from typing import Final

import aiohttp
import msgspec

ANSWER_SECONDS: Final = 2.0
"""For the whole of an answer: tailscaled has it in memory. A call waits for it, so a hung one is told of soon."""
MAX_ANSWER: Final = 4 * 1024 * 1024
"""Bytes of an answer: a node's capabilities are a policy file's at most."""
_WHOIS: Final = "http://local-tailscaled.sock/localapi/v0/whois"


class LocalApiFailed(Exception):
    """tailscaled gave no answer that could be used; the message says why and quotes nothing of it."""


class Node(msgspec.Struct, frozen=True):
    StableID: str = ""
    Tags: tuple[str, ...] | None = None


class UserProfile(msgspec.Struct, frozen=True):
    LoginName: str = ""
    Groups: tuple[str, ...] | None = None


class WhoIs(msgspec.Struct, frozen=True):
    """The members that are read of tailscaled's answer, under its names."""

    Node: Node
    UserProfile: UserProfile
    CapMap: dict[str, msgspec.Raw] | None = None
    """By capability, the JSON of its values."""


class LocalApi:
    """One tailscaled. Connections are kept; a restarted tailscaled is found again by the next question."""

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self._session: aiohttp.ClientSession | None = None

    async def whois(self, address: str, service: str = "") -> WhoIs | None:
        """Who has `address` (`IP:port`) on the tailnet, None for nobody; with the grants for `service` if there is one.

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
                return await self._once(query)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # kept connections of a tailscaled that was restarted meanwhile: aiohttp itself asks anew once, but that
                # may be on another of them; the question changes nothing there
                return await self._once(query)
        except TimeoutError:
            raise LocalApiFailed(f"it did not answer within {ANSWER_SECONDS:g} seconds") from None
        except (aiohttp.ClientError, OSError) as error:
            raise LocalApiFailed(f"it cannot be reached: {type(error).__name__}") from None

    async def _once(self, query: dict[str, str]) -> tuple[int, bytes]:
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
