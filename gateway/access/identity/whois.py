"""Identity by tailscaled's word: who has the address that a connection comes from.

The answer is kept for the connection that it was asked for, and for `LIFE_SECONDS` at most. So callers that share an
address are never taken for one another (with userspace networking all come from 127.0.0.1 and differ by port alone, and
a port is soon another caller's), and who is taken out of the tailnet is out soon. Without an answer nobody is let in,
and nobody stays who they were. That an address lies in 100.64.0.0/10 says nothing: carriers use that range too.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic
from typing import Any, Final
from weakref import WeakKeyDictionary

import orjson

from gateway.access.identity.addresses import bare
from gateway.access.identity.caller import Caller, Identity, tagged, unknown, user
from gateway.access.identity.localapi import LocalApi, LocalApiFailed, WhoIs
from gateway.config.model import Capability
from gateway.config.sections.grant_capabilities import CAPABILITIES, policy_capabilities
from gateway.contract.errors import UNAVAILABLE, Problem, Refused
from gateway.telemetry.log import Logger

LIFE_SECONDS: Final = 60.0
"""For which an answer holds: so long does somebody who was taken out of the tailnet stay on an open connection."""
POLICIES: Final = 256
"""Sets of grants of the tailnet policy that are remembered: most callers share one with others."""
VALIDATION_CHUNK_BYTES: Final = 16 * 1024
"""Bytes of such a set that are checked in between; a larger one takes milliseconds, in which others wait."""
RETRY_SECONDS: Final = 2
"""What a client is told to wait while tailscaled is away; it restarts in about that time."""

_OURS: Final = (
    ipaddress.ip_network("100.64.0.0/10"),
    ipaddress.ip_network("fd7a:115c:a1e0::/48"),
)
"""Where a tailnet's nodes and services have their addresses (tailscale.com/kb/1015)."""

Peer = Callable[[Caller], Any]
"""Name of the end that a connection comes from: the connection's own word, or a trusted proxy's."""


@dataclass(frozen=True, slots=True)
class _Known:
    identity: Identity
    until: float


class Whois:
    """`identity: "whois"`, and `"proxy-protocol"` with another `peer`."""

    def __init__(self, api: LocalApi, log: Logger, *, service: str, peer: Peer) -> None:
        self._api = api
        self._log = log
        self._service = service
        self._peer = peer
        self._known: WeakKeyDictionary[object, _Known] = WeakKeyDictionary()
        self._away = False
        self._granted = lru_cache(POLICIES)(self._read_policy)

    async def __call__(self, caller: Caller) -> Identity:
        known = self._known.get(caller.connection)
        if known is not None and monotonic() < known.until:
            return known.identity
        self._known.pop(caller.connection, None)
        address = joined(self._peer(caller))
        until = monotonic() + LIFE_SECONDS
        identity = await self._read(await self._ask(address))
        self._known[caller.connection] = _Known(identity, until)
        return identity

    async def _ask(self, address: str) -> WhoIs | None:
        try:
            answer = await self._api.whois(address, self._service)
        except LocalApiFailed as error:
            if not self._away:
                self._log.error("identity.unavailable", tailscaled=self._api.socket, reason=str(error))
            self._away = True
            message = "who is calling cannot be found out at the moment, since tailscaled does not answer; try again"
            raise Refused(Problem(UNAVAILABLE, message, retry_after=RETRY_SECONDS, retryable=True)) from None
        if self._away:
            self._log.info("identity.available", tailscaled=self._api.socket)
        self._away = False
        return answer

    async def _read(self, answer: WhoIs | None) -> Identity:
        if answer is None:
            raise unknown("the address of this caller is nobody's on the tailnet")
        capabilities = await self._capabilities(answer)
        node = answer.Node
        if node.Tags:
            return tagged(node.Tags, node=node.StableID, capabilities=capabilities)
        profile = answer.UserProfile
        return user(profile.LoginName, groups=profile.Groups or (), node=node.StableID, capabilities=capabilities)

    async def _capabilities(self, answer: WhoIs) -> tuple[Capability, ...]:
        """Callers with the same grants get the same objects, by which decisions are remembered."""
        given = answer.CapMap or {}
        policy = tuple((name, bytes(given[name])) for name in CAPABILITIES if name in given)
        if sum(len(values) for _, values in policy) > VALIDATION_CHUNK_BYTES:
            return await asyncio.to_thread(self._granted, policy)
        return self._granted(policy)

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
    """The connection's other end.

    Raises `Refused` when it came to an address that is neither the tailnet's nor this machine's own: there, a sender
    could give itself any address of the tailnet (peers.md 5.3, number 21).
    """
    if not isinstance(caller.local, tuple) or not arrived_by_tailnet(caller.local[0]):
        raise unknown("the connection did not come by the tailnet; call the gateway by its tailnet name or address")
    return caller.peer


def arrived_by_tailnet(local: str) -> bool:
    """Whether our end of a connection is one that tailscaled hands callers to; in userspace it does so by loopback."""
    address = bare(local)
    return address.is_loopback or any(address in network for network in _OURS if network.version == address.version)


def joined(name: Any) -> str:
    """The name of a socket's end as whois takes it: `100.64.0.7:4711` or `[fd7a:115c:a1e0::7]:4711`.

    Raises `Refused` for an end that has no address.
    """
    if not isinstance(name, tuple):
        raise unknown("the connection has no address to ask for")
    address = bare(name[0])
    return f"{address}:{name[1]}" if address.version == 4 else f"[{address}]:{name[1]}"
