"""Identity by tailscaled: tailscaled gives the identity behind the address of a connection.

- An identity is used for one connection only. If tailscaled has no network device, all callers come from 127.0.0.1 and
  differ only by port, and a port is soon reused by another caller.
- An identity expires after `LIFE_SECONDS`, so that a caller who is removed from the tailnet loses access.
- If tailscaled does not reply, the request is refused. An expired identity is never used.
- An address in 100.64.0.0/10 does not prove that the caller is in the tailnet, because network carriers use these
  addresses too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic
from typing import Any, Final
from weakref import WeakKeyDictionary

import orjson

from gateway.access.identity.addresses import bare
from gateway.access.identity.caller import Caller, Identity, tagged, unknown, user
from gateway.access.identity.localapi import LocalApiFailed, WhoIs
from gateway.access.identity.lookups import NOBODY_SECONDS, Lookups, in_tailnet
from gateway.config.model import Capability
from gateway.config.sections.grant_capabilities import CAPABILITIES, policy_capabilities
from gateway.contract.errors import UNAVAILABLE, Problem, Refused
from gateway.telemetry.log import Logger

LIFE_SECONDS: Final = 60.0
"""Seconds for which an identity is used. A caller who is removed from the tailnet keeps access for this time."""
POLICIES: Final = 256
"""Maximum number of cached sets of grants from the tailnet policy. Many callers have the same set."""
VALIDATION_CHUNK_BYTES: Final = 16 * 1024
"""Maximum size in bytes of grants that are validated on the event loop. Larger ones are validated in a thread."""
RETRY_SECONDS: Final = 2
"""Seconds in `Retry-After` if tailscaled does not reply. A restart of tailscaled takes about 2 s."""

Peer = Callable[[Caller], Any]
"""A function that returns the address by which tailscaled identifies a caller: the address of the connection's other
end, or the address in the PROXY header.
"""


@dataclass(frozen=True, slots=True)
class _Known:
    """The identity behind the address of one connection, and the time until which it is valid.

    The reply that nobody has the address is stored as None, and not as the exception for the refusal. The traceback of
    an exception would keep the connection in memory.
    """

    identity: Identity | None
    """The identity. It is None if nobody on the tailnet has the address."""
    until: float


class Whois:
    """The identity mode `whois`: tailscaled identifies the caller by an address. `peer` returns this address.

    The mode `proxy-protocol` (`Proxied`) uses this class with a `peer` that returns the address in the PROXY header.
    """

    def __init__(self, lookups: Lookups, log: Logger, *, service: str, peer: Peer) -> None:
        self._lookups = lookups
        self._log = log
        self._service = service
        self._peer = peer
        self._known: WeakKeyDictionary[object, _Known] = WeakKeyDictionary()
        self._failing = False
        self._policies = lru_cache(POLICIES)(self._read_policy)

    async def __call__(self, caller: Caller) -> Identity:
        known = self._known.get(caller.connection)
        if known is None or monotonic() >= known.until:
            self._known.pop(caller.connection, None)
            known = await self._identify(caller)
            self._known[caller.connection] = known
        if known.identity is None:
            raise unknown("the address of this caller is nobody's on the tailnet")
        return known.identity

    async def machine(self) -> Identity | None:
        """Return this machine's own identity as a caller.

        Return None if this machine is not in the tailnet, or if its tailscaled has no network device. Raises
        `LocalApiFailed` if tailscaled does not reply, and `Refused` if the login or a tag is not valid (`caller.py`).
        """
        if await self._lookups.is_userspace():
            return None
        answer = await self._lookups.machine()
        return None if answer is None else await self._read(answer)

    async def _identify(self, caller: Caller) -> _Known:
        """Ask tailscaled for the identity behind the caller's address, and return it.

        Raises `Refused` if tailscaled does not reply.
        """
        host, port = host_and_port(self._peer(caller))
        until = monotonic() + LIFE_SECONDS
        answer = await self._ask(host, port)
        if answer is None:
            return _Known(None, monotonic() + NOBODY_SECONDS)
        return _Known(await self._read(answer), until)

    async def _ask(self, host: str, port: int) -> WhoIs | None:
        try:
            answer = await self._lookups.whois(host, port, self._service)
        except LocalApiFailed as error:
            if not self._failing:
                self._log.error("identity.unavailable", tailscaled=self._lookups.socket, reason=str(error))
            self._failing = True
            message = "who is calling cannot be found out at the moment, since tailscaled does not answer; try again"
            raise Refused(Problem(UNAVAILABLE, message, retry_after=RETRY_SECONDS, retryable=True)) from None
        if self._failing:
            self._log.info("identity.available", tailscaled=self._lookups.socket)
        self._failing = False
        return answer

    async def _read(self, answer: WhoIs) -> Identity:
        capabilities = await self._capabilities(answer)
        node = answer.Node
        if node.Tags:
            return tagged(node.Tags, node=node.StableID, capabilities=capabilities)
        profile = answer.UserProfile
        return user(profile.LoginName, groups=profile.Groups or (), node=node.StableID, capabilities=capabilities)

    async def _capabilities(self, answer: WhoIs) -> tuple[Capability, ...]:
        """Return the capabilities that the tailnet policy grants to the caller in `answer`. Callers with the same
        grants get the same objects.
        """
        given = answer.CapMap or {}
        policy = tuple((name, bytes(given[name])) for name in CAPABILITIES if name in given)
        if sum(len(values) for _, values in policy) > VALIDATION_CHUNK_BYTES:
            return await asyncio.to_thread(self._policies, policy)
        return self._policies(policy)

    def _read_policy(self, policy: tuple[tuple[str, bytes], ...]) -> tuple[Capability, ...]:
        app, faults = {}, []
        for name, values in policy:
            try:
                app[name] = orjson.loads(values)
            except orjson.JSONDecodeError:
                faults.append(f"tailnet policy, {name}: cannot be read: a number in it is too large")
        capabilities, wrong = policy_capabilities(app)
        for fault in (*faults, *wrong):
            self._log.warning("identity.policy_grant_ignored", finding=fault)
        return capabilities


def connecting(caller: Caller) -> Any:
    """Return the address of the client's end of the connection.

    Raises `Refused` if the gateway's end of the connection is neither a tailnet address nor a loopback address. Then
    the connection did not come through tailscaled, so the client's address may be forged.
    """
    if not isinstance(caller.local, tuple) or not arrived_by_tailnet(caller.local[0]):
        raise unknown("the connection did not come by the tailnet; call the gateway by its tailnet name or address")
    return caller.peer


def arrived_by_tailnet(local: str) -> bool:
    """Return whether a connection to the gateway's address `local` may have come from the tailnet.

    Connections from the tailnet arrive at a tailnet address or, if tailscaled has no network device, at a loopback
    address.
    """
    return bare(local).is_loopback or in_tailnet(local)


def host_and_port(name: Any) -> tuple[str, int]:
    """Return the IP address, without a zone, and the port in the name of a socket (`getsockname`, `getpeername`).

    Raises `Refused` if the name has no IP address.
    """
    if not isinstance(name, tuple):
        raise unknown("the connection has no address to ask for")
    return str(bare(name[0])), name[1]
