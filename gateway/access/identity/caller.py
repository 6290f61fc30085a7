"""The identity of a caller: one value, whatever the listener's mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from gateway.config.model import Capability
from gateway.contract.errors import PERMISSION, Problem, Refused

LOCAL_LOGIN: Final = "(loopback)"
TAGGED: Final = "tagged-devices"
"""Login that tailscaled gives for every node with tags: it names nobody (tailcfg)."""
LONGEST_LOGIN: Final = 1024
"""Most characters of a login, because all tags of a node are joined in it."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller. `login` is never empty: a caller without one is refused before a call exists."""

    login: str
    """A user's login name; for a tagged node all its tags, sorted and joined by ","; `(loopback)` on this machine."""
    groups: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    node: str = ""
    """Stable id of the node that called, where the mode knows it."""
    capabilities: tuple[Capability, ...] = ()
    """Grants of the tailnet policy for this caller, beside the grants of the configuration."""
    _hash: int = field(init=False, repr=False, compare=False)
    """The hash, computed once, because every call looks up its access by identity."""

    def __post_init__(self) -> None:
        value = hash((self.login, self.groups, self.tags, self.node, self.capabilities))
        object.__setattr__(self, "_hash", value)

    def __hash__(self) -> int:
        return self._hash


LOOPBACK: Final = Identity(LOCAL_LOGIN)


@dataclass(frozen=True, slots=True)
class Caller:
    """The facts of a request from which a listener's mode identifies its caller."""

    connection: object
    """The same object for every request of a connection, and another one for other connections."""
    peer: Any
    """Name of the connection's other end, from `socket.getpeername`."""
    local: Any
    """Name of the gateway's end."""
    headers: Sequence[tuple[str, str]]
    """The request's headers as they came, repeated ones included."""


class Identify(Protocol):
    """The mode of a listener."""

    async def __call__(self, caller: Caller) -> Identity:
        """Return the caller's identity.

        Raises `Refused`: with permission for an unknown caller, with unavailable if identification fails now.
        """


def unknown(message: str) -> Refused:
    """Return the refusal of an unknown caller."""
    return Refused(Problem(PERMISSION, f"access denied: {message}"))


def user(
    login: str, *, groups: Sequence[str] = (), node: str = "", capabilities: Sequence[Capability] = ()
) -> Identity:
    """Return the identity of a person. Raises `Refused` for a login that reads as a tag, a group or this machine."""
    if not login:
        raise unknown("the tailnet names no user for this caller")
    if _reserved(login) or login.startswith("group:") or not login.isprintable() or len(login) > LONGEST_LOGIN:
        raise unknown("the tailnet names a user that no grant could mean")
    members = tuple(group for group in groups if group and not _reserved(group))
    return Identity(login, members, (), node, tuple(capabilities))


def _reserved(name: str) -> bool:
    """Return whether a source of this name in a grant means another caller, or everybody."""
    return name in {"*", LOCAL_LOGIN, TAGGED} or name.startswith("tag:")


def tagged(tags: Sequence[str], *, node: str = "", capabilities: Sequence[Capability] = ()) -> Identity:
    """Return the identity of a node with tags: all its tags, whoever owned the node. Raises `Refused`."""
    ordered = tuple(sorted(set(tags)))
    login = ",".join(ordered)
    if not all(tag.startswith("tag:") for tag in ordered) or not login.isprintable() or len(login) > LONGEST_LOGIN:
        raise unknown("the tailnet names tags that no grant could mean")
    return Identity(login, (), ordered, node, tuple(capabilities))
