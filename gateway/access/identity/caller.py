"""Who is calling: one value, whatever the listener's mode found it out by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from gateway.config.model import Capability
from gateway.contract.errors import PERMISSION, Problem, Refused

LOCAL_LOGIN: Final = "(loopback)"
TAGGED: Final = "tagged-devices"
"""The login that tailscaled gives for all nodes that have tags: it names nobody (tailcfg)."""
LONGEST_LOGIN: Final = 1024
"""Characters of a login: tags of a node are joined in one."""


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
    """What the tailnet policy grants this caller here, beside the grants of the configuration."""
    _hash: int = field(init=False, repr=False, compare=False)
    """Made once: decisions are remembered by identity, and every call asks for some."""

    def __post_init__(self) -> None:
        value = hash((self.login, self.groups, self.tags, self.node, self.capabilities))
        object.__setattr__(self, "_hash", value)

    def __hash__(self) -> int:
        return self._hash


LOOPBACK: Final = Identity(LOCAL_LOGIN)


@dataclass(frozen=True, slots=True)
class Caller:
    """What a listener's mode may go by."""

    connection: object
    """The same object for every request of a connection, and for no other's."""
    peer: Any
    """Name of the connection's other end, as `socket.getpeername` gives it."""
    local: Any
    """Name of our own end."""
    headers: Sequence[tuple[str, str]]
    """Of the request, as they came: repeated ones stand repeatedly."""


class Identify(Protocol):
    """A listener's mode at work."""

    async def __call__(self, caller: Caller) -> Identity:
        """Raises `Refused`: permission for nobody that we know, unavailable when that cannot be found out now."""


def unknown(message: str) -> Refused:
    """The refusal of a caller that is nobody we know."""
    return Refused(Problem(PERMISSION, f"access denied: {message}"))


def user(
    login: str, *, groups: Sequence[str] = (), node: str = "", capabilities: Sequence[Capability] = ()
) -> Identity:
    """A person. Raises `Refused` for a login that would be read as something else: a tag, a group, this machine."""
    if not login:
        raise unknown("the tailnet names no user for this caller")
    if _reserved(login) or login.startswith("group:") or not login.isprintable() or len(login) > LONGEST_LOGIN:
        raise unknown("the tailnet names a user that no grant could mean")
    members = tuple(group for group in groups if group and not _reserved(group))
    return Identity(login, members, (), node, tuple(capabilities))


def _reserved(name: str) -> bool:
    """Whether a source of this name in a grant means somebody else, or everybody."""
    return name in {"*", LOCAL_LOGIN, TAGGED} or name.startswith("tag:")


def tagged(tags: Sequence[str], *, node: str = "", capabilities: Sequence[Capability] = ()) -> Identity:
    """A node that belongs to nobody: it is what all its tags say, and whose it was plays no part."""
    ordered = tuple(sorted(set(tags)))
    login = ",".join(ordered)
    if not all(tag.startswith("tag:") for tag in ordered) or not login.isprintable() or len(login) > LONGEST_LOGIN:
        raise unknown("the tailnet names tags that no grant could mean")
    return Identity(login, (), ordered, node, tuple(capabilities))
