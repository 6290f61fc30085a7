"""Limits the requests to tailscaled, so that callers from outside the tailnet do not delay other callers.

- tailscaled replies at once for an address of the tailnet. For any other address, tailscaled holds a global lock for up
  to 0.4 seconds (tailscale/tailscale, net/proxymap). Therefore only a few requests for other addresses are sent at the
  same time.
- Callers with the same tailnet address share one request. The reply "nobody has this address" is reused for some
  seconds.
- A reply for 127.0.0.1 is never shared, because different callers may have this address: if tailscaled has no network
  device, all connections come from 127.0.0.1.

`whois.py` reads the replies.
"""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from gateway.access.identity.addresses import bare
from gateway.access.identity.localapi import LocalApi, LocalApiFailed, NotRunning, WhoIs

UNCERTAIN_AT_ONCE: Final = 2
"""Maximum number of simultaneous requests for addresses outside the tailnet.

Each of them may hold tailscaled's lock for 0.18 to 0.4 s. Requests for tailnet addresses wait for the same lock.
"""
WAIT_SECONDS: Final = 10.0
"""Maximum seconds for which a request to tailscaled waits before it is sent."""
NOBODY_SECONDS: Final = 5.0
"""Seconds for which the reply "nobody has this address" is reused. A new node may be refused for this time."""
MAX_WAITING: Final = 64
"""Maximum number of unanswered requests for addresses outside the tailnet. At this number, a new request for such an
address is refused.

One request takes 0.18 to 0.4 s. If more requests waited, the newest one could wait longer than `WAIT_SECONDS`. Requests
for tailnet addresses are not limited.
"""
STATUS_SECONDS: Final = 0.5
"""Maximum seconds to wait for tailscaled's status. Health checks may have a timeout of one second."""
MAX_NOBODIES: Final = 4096
"""Maximum number of cached tailnet addresses that nobody has."""

_TAILNET: Final = (
    ipaddress.ip_network("100.64.0.0/10"),
    ipaddress.ip_network("fd7a:115c:a1e0::/48"),
)
"""The networks with the addresses of all tailnets (tailscale.com/kb/1015)."""


@dataclass(slots=True)
class _Question:
    """A request to tailscaled that has no reply yet."""

    task: asyncio.Task[WhoIs | None]
    callers: int = 0
    """The number of calls of `whois` that wait for the reply."""


class Lookups:
    """A client of one tailscaled. It shares replies between callers, and limits the number of simultaneous requests."""

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self._api = LocalApi(socket)
        self._turns = asyncio.Semaphore(UNCERTAIN_AT_ONCE)
        self._pending: dict[tuple[str, str], _Question] = {}
        self._nobodies: dict[tuple[str, str], float] = {}
        self._instance: tuple[int, ...] | None = None
        """The result of the function `_instance` when `_userspace` was read. A restart of tailscaled makes a new file,
        for which the result differs.
        """
        self._userspace = True

    async def whois(self, host: str, port: int, service: str = "") -> WhoIs | None:
        """Return the identity behind an address on the tailnet, or None if nobody has the address.

        The identity has the grants for the Tailscale service `service`, or for this node if `service` is "". Raises
        `LocalApiFailed` for a missing or invalid reply, and if too many requests wait.
        """
        certain = in_tailnet(host)
        key = (host if certain else f"{host} {port}", service)
        if self._nobodies.get(key, 0.0) > monotonic():
            return None
        if (question := self._pending.get(key)) is None:
            if not certain and len(self._pending) >= MAX_WAITING:
                raise LocalApiFailed("too many callers from outside the tailnet wait for its answer")
            task = asyncio.create_task(self._ask(host, port, service, certain=certain))
            question = self._pending[key] = _Question(task)
            task.add_done_callback(lambda done: self._answered(key, done, certain=certain))
        question.callers += 1
        try:
            return await asyncio.shield(question.task)
        finally:
            question.callers -= 1
            if not question.callers and not question.task.done():
                # nobody waits for the answer any more, so give the turn to another question
                self._pending.pop(key, None)
                question.task.cancel()

    async def is_userspace(self) -> bool:
        """Return whether tailscaled runs without a network device. Then connections of nodes come from 127.0.0.1.

        Return False if no tailscaled is running. Raises `LocalApiFailed` for a missing or invalid reply.
        """
        instance = _instance(self.socket)
        if instance is None:
            return False
        if instance != self._instance:
            try:
                self._userspace = not (await self._api.status()).TUN
            except NotRunning:
                return False
            self._instance = instance
        return self._userspace

    async def fault(self, *, is_needed: bool) -> str:
        """Return why tailscaled cannot identify callers at the moment. Return "" if tailscaled can, or is not needed.

        `is_needed` is true for a listener whose callers are always identified by tailscaled. Any other listener needs
        tailscaled only if tailscaled has no network device.
        """
        try:
            async with asyncio.timeout(STATUS_SECONDS):
                if is_needed or await self.is_userspace():
                    await self._api.status()
        except TimeoutError:
            return f"it did not answer within {STATUS_SECONDS:g} seconds"
        except LocalApiFailed as error:
            return str(error)
        return ""

    async def machine(self) -> WhoIs | None:
        """Return the identity of this machine on the tailnet, or None if this machine has no tailnet address.

        Raises `LocalApiFailed` for a missing or invalid reply.
        """
        addresses = (await self._api.status()).TailscaleIPs
        return await self.whois(addresses[0], 0) if addresses else None

    async def close(self) -> None:
        tasks = [question.task for question in self._pending.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._api.close()

    async def _ask(self, host: str, port: int, service: str, *, certain: bool) -> WhoIs | None:
        if certain:
            return await self._api.whois(host, port, service)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise LocalApiFailed("too many callers from outside the tailnet wait for its answer") from None
        try:
            return await self._api.whois(host, port, service)
        finally:
            self._turns.release()

    def _answered(self, key: tuple[str, str], done: asyncio.Task[WhoIs | None], *, certain: bool) -> None:
        if (question := self._pending.get(key)) is not None and question.task is done:
            del self._pending[key]
        if done.cancelled() or done.exception() is not None or done.result() is not None or not certain:
            return
        if len(self._nobodies) >= MAX_NOBODIES:
            self._nobodies.clear()
        self._nobodies[key] = monotonic() + NOBODY_SECONDS


def _instance(socket: str) -> tuple[int, ...] | None:
    """Return a value that differs for each new file at the socket's path, or None if there is no file.

    Raises `LocalApiFailed` if the path cannot be read.
    """
    try:
        status = Path(socket).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LocalApiFailed(f"its socket cannot be examined: {error.strerror}") from None
    return status.st_dev, status.st_ino, status.st_ctime_ns


def in_tailnet(host: str) -> bool:
    """Return whether an IP address is in the networks of tailnets.

    Such an address may also be outside of a tailnet, because network carriers use 100.64.0.0/10 too.
    """
    address = bare(host)
    return any(address in network for network in _TAILNET if network.version == address.version)
