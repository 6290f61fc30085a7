"""The names of listening sockets, by which a connection's listener is known.

The kernel names the end of a connection that is ours. Two listeners may share a port, so the name has the address too.
Sockets are opened in `process/sockets.py`; nothing here opens or reads one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_WILDCARDS: Final[Mapping[int, str]] = {2: "0.0.0.0", 4: "::"}  # noqa: S104 (compared with, not listened on)
"""Wildcard address by the number of parts of a socket's name: two with IPv4, four with IPv6."""


def endpoint(name: Any) -> str:
    """Return the name of a socket's own end as one text: `127.0.0.1:8080`, `[::1]:8080` or `unix:/path`."""
    if not isinstance(name, tuple):
        return f"unix:{name}"
    return address(name[0], name[1])


def endpoints(name: Any) -> tuple[str, ...]:
    """Return the names that a connection's listener may have, by the name of the connection's own end.

    An IPv4 address that an IPv6 socket gives (`::ffff:127.0.0.1`) stays an IPv6 one: the connection came through an
    IPv6 listener, and must not be taken for one of the IPv4 listener of the same address.
    """
    if not isinstance(name, tuple):
        return (endpoint(name),)
    return endpoint(name), address(_WILDCARDS[len(name)], name[1])


def address(host: str, port: int) -> str:
    """Return host and port as a URL has them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
