"""A client of tailscaled's LocalAPI, for the status of tailscaled and the identity behind an address (`whois`).

- A request needs the header Host `local-tailscaled.sock`, and must have neither Origin nor Referer.
- `whois` replies with 200 and `{Node, UserProfile, CapMap}`, or with 404 if nobody has the address.
- Every user of the machine may send requests.

The source is tailscale/tailscale, ipn/localapi and client/tailscale/apitype. Other code uses `lookups.py`. `whois.py`
reads the reply.
"""

from __future__ import annotations

from typing import Final, TypeVar

import aiohttp
import msgspec

from gateway.access.identity.endpoints import address

ANSWER_SECONDS: Final = 2.0
"""Maximum seconds for a complete reply. tailscaled needs much less, and clients' calls wait for the reply."""
MAX_ANSWER: Final = 4 * 1024 * 1024
"""Maximum number of bytes of a reply of tailscaled. A reply can be long, because it contains grants of the tailnet
policy.
"""
_WHOIS: Final = "http://local-tailscaled.sock/localapi/v0/whois"
_ABSENT: Final = (ConnectionRefusedError, FileNotFoundError)
_STATUS: Final = "http://local-tailscaled.sock/localapi/v0/status"


class LocalApiFailed(Exception):
    """The error for a missing or invalid reply of tailscaled. The message does not quote the reply."""


class NotRunning(LocalApiFailed):
    """The error if no tailscaled listens on the socket."""


class Node(msgspec.Struct, frozen=True):
    StableID: str = ""
    Tags: tuple[str, ...] | None = None


class UserProfile(msgspec.Struct, frozen=True):
    LoginName: str = ""
    Groups: tuple[str, ...] | None = None


class WhoIs(msgspec.Struct, frozen=True):
    """The fields that the gateway reads from the reply to `whois`, with tailscaled's names."""

    Node: Node
    UserProfile: UserProfile
    CapMap: dict[str, msgspec.Raw] | None = None
    """The capabilities that the tailnet policy grants the caller. The key is the capability's name, and the value is a
    list of objects as undecoded JSON.
    """


class Status(msgspec.Struct, frozen=True):
    """The fields that the gateway reads from tailscaled's status, with tailscaled's names."""

    TUN: bool = False
    """True if tailscaled has a network device."""
    TailscaleIPs: tuple[str, ...] | None = None
    """The addresses of this machine on the tailnet. The value is None before the machine has joined one."""


class LocalApi:
    """A client of one tailscaled. It reuses connections, and reconnects after a restart of tailscaled."""

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self._session: aiohttp.ClientSession | None = None

    async def whois(self, host: str, port: int, service: str = "") -> WhoIs | None:
        """Return the identity behind an address on the tailnet, or None if nobody has the address.

        The identity includes the capabilities that the tailnet policy grants for the Tailscale service `service`. If
        `service` is "", it includes those for this node. Raises `LocalApiFailed` for a missing or invalid reply.
        """
        query = {"addr": address(host, port), "proto": "tcp"} | ({"svc_name": service} if service else {})
        status, body = await self._get(_WHOIS, query)
        return None if status == 404 else _decoded(status, body, WhoIs, "whois")

    async def status(self) -> Status:
        """Return tailscaled's status. Raises `LocalApiFailed` for a missing or invalid reply."""
        return _decoded(*await self._get(_STATUS, {"peers": "false"}), Status, "status")

    async def _get(self, url: str, query: dict[str, str]) -> tuple[int, bytes]:
        try:
            try:
                return await self._get_once(url, query)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # tailscaled was restarted, so the kept connections are dead. aiohttp retries once by itself, but it may
                # pick another dead connection. Repeating the request is safe, since it changes nothing in tailscaled
                return await self._get_once(url, query)
        except TimeoutError:
            raise LocalApiFailed(f"it did not answer within {ANSWER_SECONDS:g} seconds") from None
        except aiohttp.ClientConnectorError as error:
            failed = NotRunning if isinstance(error.os_error, _ABSENT) else LocalApiFailed
            raise failed(f"it cannot be reached: {type(error).__name__}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise LocalApiFailed(f"it cannot be reached: {type(error).__name__}") from None

    async def _get_once(self, url: str, query: dict[str, str]) -> tuple[int, bytes]:
        if self._session is None:
            connector = aiohttp.UnixConnector(self.socket, limit=0)
            timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
            )
        async with self._session.get(url, params=query, allow_redirects=False) as reply:
            body = bytearray()
            async for part in reply.content.iter_any():
                body += part
                if len(body) > MAX_ANSWER:
                    raise LocalApiFailed(f"its answer is longer than {MAX_ANSWER} bytes")
            return reply.status, bytes(body)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


Answer = TypeVar("Answer")


def _decoded(status: int, body: bytes, form: type[Answer], name: str) -> Answer:
    if status != 200:
        raise LocalApiFailed(f"it answered {name} with {status}")
    try:
        return msgspec.json.decode(body, type=form)
    except (msgspec.DecodeError, RecursionError):
        raise LocalApiFailed(f"its answer to {name} cannot be read") from None
