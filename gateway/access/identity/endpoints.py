"""The names of listening sockets, by which the listener of a connection is found.

A name is made from the address of the gateway's end of a connection. It has both host and port, because two listeners
may use the same port on different hosts. `process/sockets.py` opens the sockets.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

_WILDCARDS: Final[Mapping[int, str]] = {2: "0.0.0.0", 4: "::"}  # noqa: S104 (compared with, not listened on)
"""The wildcard address of each address family. The key is the length of the tuple that Python gives as a socket's
address."""


def endpoint(name: Any) -> str:
    """Return the name of a socket, such as `127.0.0.1:8080`, `[::1]:8080` or `unix:/path`.

    The argument is the address that `getsockname` returned for the socket.
    """
    if not isinstance(name, tuple):
        return f"unix:{name}"
    return address(name[0], name[1])


@lru_cache(maxsize=256)
def endpoints(name: Any) -> tuple[str, ...]:
    """Return the names that the listener of a connection may have.

    `name` is the address of the gateway's end of the connection. The first name has exactly this address. The second
    has the wildcard address, for a listener that accepts connections to all addresses. A unix socket has no second
    name.

    An IPv4-mapped address (`::ffff:127.0.0.1`) is not converted to IPv4. A connection with such an address came through
    an IPv6 listener, and must not be assigned to an IPv4 listener of the same address.
    """
    if not isinstance(name, tuple):
        return (endpoint(name),)
    return endpoint(name), address(_WILDCARDS[len(name)], name[1])


def address(host: str, port: int) -> str:
    """Return host and port in the form of a URL, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
