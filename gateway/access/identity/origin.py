"""The addresses of both ends of a client's connection, as one process of a gateway passes them on to another process.

The other process then identifies the caller exactly as if the client had connected to that process.
"""

from __future__ import annotations

import msgspec

Address = tuple[str | int, ...] | str | None
"""An address as `socket.getpeername` returns it: a tuple, or the path of a unix socket."""


class Origin(msgspec.Struct, frozen=True):
    """The addresses of both ends of a client's connection."""

    id: str
    """A random text that no other connection has."""
    peer: Address
    """The address of the client's end of the connection. For a forwarded connection, this is the proxy's address."""
    local: Address
    """The address of the gateway's end. It tells to which listener the client has connected."""
    has_source: bool = False
    """Whether the connection began with a PROXY header."""
    source: tuple[str, int] | None = None
    """The client's address and port in the PROXY header. None if there is no header, or no address in the header."""
    secure: bool = False
    """Whether the connection uses TLS."""
