"""The names of listening sockets, by which the listener of a connection is found.

The name is made from the address of the gateway's end of a connection. The name has the host as well as the port,
because two listeners may use the same port. Sockets are opened in `process/sockets.py`, never here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_WILDCARDS: Final[Mapping[int, str]] = {2: "0.0.0.0", 4: "::"}  # noqa: S104 (compared with, not listened on)
"""The wildcard address, by the length of the tuple that Python gives as a socket's address: 2 for IPv4, 4 for IPv6."""


def endpoint(name: Any) -> str:
    """Return the name of a socket as text, from `getsockname`: `127.0.0.1:8080`, `[::1]:8080` or `unix:/path`."""
    if not isinstance(name, tuple):
        return f"unix:{name}"
    return address(name[0], name[1])


def endpoints(name: Any) -> tuple[str, ...]:
    """Return the names that the listener of a connection may have: first for the exact address, then for the wildcard.

    `name` is the address of the gateway's end of the connection. An IPv4-mapped address (`::ffff:127.0.0.1`) is not
    converted to IPv4. Such a connection came through an IPv6 listener, and must not be assigned to an IPv4 listener of
    the same address.
    """
    if not isinstance(name, tuple):
        return (endpoint(name),)
    return endpoint(name), address(_WILDCARDS[len(name)], name[1])


def address(host: str, port: int) -> str:
    """Return host and port in the form of a URL, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
