"""The identity of a caller: login, tags, groups and more.

A listener identifies callers in one of several modes, such as `whois`. All modes return the same class `Identity`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

from gateway.config.model import Capability
from gateway.contract.errors import PERMISSION, Problem, Refused

LOCAL_LOGIN: Final = "(loopback)"
TAGGED: Final = "tagged-devices"
"""The login that tailscaled reports for every tagged node (Tailscale's package `tailcfg`). It identifies no caller."""
LONGEST_LOGIN: Final = 1024
"""Maximum number of characters of a login. The login of a tagged node consists of all its tags."""


@dataclass(frozen=True, slots=True)
class Identity:
    """An identified caller."""

    login: str
    """The login name of a user. It is `(loopback)` in mode `loopback`. It is never "".

    The login of a tagged node is all its tags, sorted and joined by ",".
    """
    groups: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    node: str = ""
    """The stable id of the caller's node in the tailnet. It is "" if unknown."""
    capabilities: tuple[Capability, ...] = ()
    """The capabilities that the tailnet policy grants to this caller."""
    _hash: int = field(init=False, repr=False, compare=False)
    """The cached hash of the identity. Every call uses it."""

    def __post_init__(self) -> None:
        value = hash((self.login, self.groups, self.tags, self.node, self.capabilities))
        object.__setattr__(self, "_hash", value)

    def __hash__(self) -> int:
        return self._hash


LOOPBACK: Final = Identity(LOCAL_LOGIN)


class Caller(msgspec.Struct, frozen=True):
    """The properties of a request and its connection that identify the caller."""

    connection: object
    """An object that is the same for all requests of one connection, and different for other connections."""
    peer: Any
    """The address of the client's end of the connection, as `socket.getpeername` returns it."""
    local: Any
    """The address of the gateway's end of the connection, as `socket.getsockname` returns it."""
    headers: Sequence[tuple[str, str]]
    """The headers of the request, unchanged. A name may be repeated."""


class Identify(Protocol):
    """The interface of a listener's mode. The listener calls its mode to identify a caller."""

    def __call__(self, caller: Caller) -> Awaitable[Identity]:
        """Return the caller's identity.

        Raises `Refused` with the code `PERMISSION` for an unknown caller, and with `UNAVAILABLE` if no caller can be
        identified at the moment.
        """


def unknown(message: str) -> Refused:
    """Return the error for a caller who cannot be identified. `message` is the reason."""
    return Refused(Problem(PERMISSION, f"access denied: {message}"))


def user(
    login: str, *, groups: Sequence[str] = (), node: str = "", capabilities: Sequence[Capability] = ()
) -> Identity:
    """Return the identity of a user.

    The names `*`, `tag:x` and `(loopback)` have a special meaning in the `src` of a grant. Groups with such a name are
    left out. Raises `Refused` if the login is such a name, begins with `group:`, or is empty, too long or not
    printable.
    """
    if not login:
        raise unknown("the tailnet names no user for this caller")
    if _reserved(login) or login.startswith("group:") or not login.isprintable() or len(login) > LONGEST_LOGIN:
        raise unknown("the tailnet names a user that no grant could mean")
    members = tuple(group for group in groups if group and not _reserved(group))
    return Identity(login, members, (), node, tuple(capabilities))


def _reserved(name: str) -> bool:
    """Return whether `name` has a special meaning in the `src` of a grant.

    Such names mean all callers, the local machine or tagged nodes.
    """
    return name in {"*", LOCAL_LOGIN, TAGGED} or name.startswith("tag:")


def tagged(tags: Sequence[str], *, node: str = "", capabilities: Sequence[Capability] = ()) -> Identity:
    """Return the identity of a node with tags. Its login consists of the sorted tags, joined by ",".

    Raises `Refused` if a tag does not begin with `tag:`, or if the login is too long or not printable.
    """
    ordered = tuple(sorted(set(tags)))
    login = ",".join(ordered)
    if not all(tag.startswith("tag:") for tag in ordered) or not login.isprintable() or len(login) > LONGEST_LOGIN:
        raise unknown("the tailnet names tags that no grant could mean")
    return Identity(login, (), ordered, node, tuple(capabilities))
