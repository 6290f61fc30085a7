"""The names of listening sockets, such as `127.0.0.1:8080`.

The local address of a connection gives the name of the socket that accepted the connection. By this name, the gateway
finds the listener's configuration. `process/sockets.py` opens the sockets.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

_WILDCARDS: Final[Mapping[int, str]] = {2: "0.0.0.0", 4: "::"}  # noqa: S104 (compared with, not listened on)
"""The wildcard address, by the number of items in a socket's address: 2 for IPv4, and 4 for IPv6."""


def endpoint(name: Any) -> str:
    """Return the name of a socket, such as `127.0.0.1:8080`, `[::1]:8080` or `unix:/path`.

    `name` is the address that `getsockname` returns.
    """
    if not isinstance(name, tuple):
        return f"unix:{name}"
    return address(name[0], name[1])


@lru_cache(maxsize=256)
def endpoints(name: Any) -> tuple[str, ...]:
    """Return the names that the listener of a connection may have, such as `10.0.0.5:8080` and `0.0.0.0:8080`.

    The argument `name` is the address of the gateway's end of the connection. A listener on exactly this address has
    the first name. A listener on the wildcard address has the second name. A unix socket has only one name.

    An IPv4-mapped address (`::ffff:127.0.0.1`) stays an IPv6 address, because its connection came to an IPv6 listener.
    """
    if not isinstance(name, tuple):
        return (endpoint(name),)
    return endpoint(name), address(_WILDCARDS[len(name)], name[1])


def address(host: str, port: int) -> str:
    """Return host and port as in a URL, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
