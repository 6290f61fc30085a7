"""The identity of a caller, in one form for all modes of listeners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from gateway.config.model import Capability
from gateway.contract.errors import PERMISSION, Problem, Refused

LOCAL_LOGIN: Final = "(loopback)"
TAGGED: Final = "tagged-devices"
"""The login that tailscaled reports for every tagged node (Tailscale's package `tailcfg`). It identifies no caller."""
LONGEST_LOGIN: Final = 1024
"""Maximum length of a login in characters. The login of a tagged node can be long, because it consists of all its
tags."""


@dataclass(frozen=True, slots=True)
class Identity:
    """An identified caller."""

    login: str
    """The login name of a user; never "". For a tagged node, this is all its tags, sorted and joined by ",". In mode
    `loopback`, this is `(loopback)`."""
    groups: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    node: str = ""
    """The stable id of the caller's node in the tailnet; "" if the listener's mode does not give the id."""
    capabilities: tuple[Capability, ...] = ()
    """Capabilities that the tailnet policy grants to this caller, in addition to those of the configuration."""
    _hash: int = field(init=False, repr=False, compare=False)
    """The hash of the identity. It is computed only once, because every call looks up the access of an identity."""

    def __post_init__(self) -> None:
        value = hash((self.login, self.groups, self.tags, self.node, self.capabilities))
        object.__setattr__(self, "_hash", value)

    def __hash__(self) -> int:
        return self._hash


LOOPBACK: Final = Identity(LOCAL_LOGIN)


@dataclass(frozen=True, slots=True)
class Caller:
    """The facts of a request from which a listener's mode identifies the caller."""

    connection: object
    """An object that identifies the connection. It is the same for all requests of a connection."""
    peer: Any
    """The address of the client's end of the connection, as `socket.getpeername` returns it."""
    local: Any
    """The address of the gateway's end of the connection, as `socket.getsockname` returns it."""
    headers: Sequence[tuple[str, str]]
    """The headers of the request, unchanged, with repeated headers."""


class Identify(Protocol):
    """The interface of a listener's mode, which identifies the callers of the listener."""

    async def __call__(self, caller: Caller) -> Identity:
        """Return the caller's identity.

        Raises `Refused`: with the code `PERMISSION` if the caller is unknown, and with `UNAVAILABLE` if callers cannot
        be identified at the moment.
        """


def unknown(message: str) -> Refused:
    """Return the refusal of an unknown caller."""
    return Refused(Problem(PERMISSION, f"access denied: {message}"))


def user(
    login: str, *, groups: Sequence[str] = (), node: str = "", capabilities: Sequence[Capability] = ()
) -> Identity:
    """Return the identity of a user. Groups whose names have another meaning in the `src` of a grant are left out.

    Raises `Refused` if the login is empty, too long or not printable. A login that has another meaning in the `src` of
    a grant is refused too: a tag, a group, everybody, tagged nodes or the local machine.
    """
    if not login:
        raise unknown("the tailnet names no user for this caller")
    if _reserved(login) or login.startswith("group:") or not login.isprintable() or len(login) > LONGEST_LOGIN:
        raise unknown("the tailnet names a user that no grant could mean")
    members = tuple(group for group in groups if group and not _reserved(group))
    return Identity(login, members, (), node, tuple(capabilities))


def _reserved(name: str) -> bool:
    """Return whether `name` means everybody, the local machine or tagged nodes in the `src` of a grant."""
    return name in {"*", LOCAL_LOGIN, TAGGED} or name.startswith("tag:")


def tagged(tags: Sequence[str], *, node: str = "", capabilities: Sequence[Capability] = ()) -> Identity:
    """Return the identity of a node with tags. The login consists of the tags, and the user of the node is ignored.

    Raises `Refused` if a tag does not begin with `tag:`, or if the login is too long or not printable.
    """
    ordered = tuple(sorted(set(tags)))
    login = ",".join(ordered)
    if not all(tag.startswith("tag:") for tag in ordered) or not login.isprintable() or len(login) > LONGEST_LOGIN:
        raise unknown("the tailnet names tags that no grant could mean")
    return Identity(login, (), ordered, node, tuple(capabilities))
