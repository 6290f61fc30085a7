"""The users and machines of a simulated tailnet, as tailscaled describes them in its replies.

Sources: `tailcfg` and `client/tailscale/apitype` in tailscale/tailscale.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

CAPABILITY: Final = "140"
"""Version of the protocol between tailscaled and its control server. The replies contain it, and clients ignore it."""
Caps = Mapping[str, Sequence[Any]]
"""Capabilities of the tailnet policy, each with its values. A value is any JSON, usually an object."""


def _number(text: str) -> int:
    """Return an id computed from a text. The same text gives the same id in every run. An id has up to 48 bits."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6])


@dataclass(frozen=True, slots=True)
class User:
    """A user of the tailnet."""

    login: str
    groups: tuple[str, ...] = ()
    """The user's groups. Most real replies have no groups, because the tailnet policy must allow the gateway's machine
    to see them.
    """
    display_name: str = ""
    id: int = 0
    """The user's id. If it is 0, it is computed from the login."""

    def profile(self) -> dict[str, Any]:
        """Return a `tailcfg.UserProfile`."""
        made: dict[str, Any] = {
            "ID": self.id or _number(self.login),
            "LoginName": self.login,
            "DisplayName": self.display_name or self.login.partition("@")[0].title(),
            "ProfilePicURL": f"https://pictures.example.com/{self.id or _number(self.login)}",
        }
        return {**made, "Groups": list(self.groups)} if self.groups else made


TAGGED_DEVICES: Final = User("tagged-devices", display_name="Tagged Devices")
"""The user in replies about tagged nodes. All tagged nodes share this user, so it identifies nobody."""


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the tailnet. Raises `ValueError` for a machine that has neither a user nor tags."""

    name: str
    """The full DNS name, without a trailing dot."""
    addresses: tuple[str, ...]
    user: User | None = None
    """The owner of the node, or the creator of a tagged node. If it is None, replies have the user `TAGGED_DEVICES`."""
    tags: tuple[str, ...] = ()
    stable_id: str = ""
    """The node's stable id. If it is "", it is computed from the name."""
    caps: Caps = field(default_factory=dict, hash=False)
    """Capabilities that the policy grants to this node for the gateway's machine."""
    service_caps: Mapping[str, Caps] = field(default_factory=dict, hash=False)
    """Capabilities that the policy grants to this node for each Tailscale Service on the gateway's machine.

    A key is the name of the service, such as `svc:ai`. `caps` does not contain these capabilities.
    """

    def __post_init__(self) -> None:
        if self.user is None and not self.tags:
            raise ValueError(f"{self.name}: a node has a user or tags")
        object.__setattr__(self, "stable_id", self.stable_id or f"n{_number(self.name)}CNTRL")

    @property
    def key(self) -> str:
        return f"nodekey:{hashlib.sha256(self.stable_id.encode()).hexdigest()}"

    @property
    def host(self) -> str:
        return self.name.partition(".")[0]

    @property
    def owner(self) -> User:
        return self.user or TAGGED_DEVICES

    def whois(self, caps: Caps) -> bytes:
        """Return an `apitype.WhoIsResponse` as JSON. Without capabilities `CapMap` is null, as Go writes a nil map."""
        prefixes = [str(ipaddress.ip_network(address)) for address in self.addresses]
        node: dict[str, Any] = {
            "ID": _number(self.stable_id),
            "StableID": self.stable_id,
            "Name": f"{self.name}.",
            "User": self.owner.profile()["ID"],
            "Key": self.key,
            "KeyExpiry": "2027-01-01T00:00:00Z",
            "Machine": f"mkey:{self.key.partition(':')[2]}",
            "DiscoKey": f"discokey:{self.key.partition(':')[2]}",
            "Addresses": prefixes,
            "AllowedIPs": prefixes,
            "Endpoints": ["192.0.2.7:41641"],
            "HomeDERP": 1,
            "Hostinfo": {"OS": "linux", "Hostname": self.host, "Services": []},
            "Created": "2026-01-01T00:00:00Z",
            "Cap": int(CAPABILITY),
            **({"Tags": list(self.tags)} if self.tags else {}),
            "Online": True,
            "MachineAuthorized": True,
            "ComputedName": self.host,
            "ComputedNameWithHost": self.host,
        }
        return indented({"Node": node, "UserProfile": self.owner.profile(), "CapMap": dict(caps) or None})

    def status(self) -> dict[str, Any]:
        """Return an `ipnstate.PeerStatus`."""
        return {
            "ID": self.stable_id,
            "PublicKey": self.key,
            "HostName": self.host,
            "DNSName": f"{self.name}.",
            "OS": "linux",
            "UserID": self.owner.profile()["ID"],
            "TailscaleIPs": list(self.addresses),
            **({"Tags": list(self.tags)} if self.tags else {}),
            "Online": True,
        }


ME: Final = Node("gateway.example.ts.net", ("100.64.0.1", "fd7a:115c:a1e0::1"), User("operator@example.com"))


def indented(value: Any) -> bytes:
    """Return a value as JSON with indentation, as tailscaled writes it."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2)
