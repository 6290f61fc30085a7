"""The syntax of addresses in `listen` and `--listen`, and the test whether only this machine can reach an address.

If only this machine can reach a listener, its identity mode is `loopback` by default. Other listeners need an explicit
mode. Nothing here opens a socket or resolves a name.
"""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Final, NamedTuple

from gateway.config.server import Listener

FORMS: Final = '"127.0.0.1:8080", "[::1]:8080" or "unix:/run/irisgate/http.sock"'

_ADDRESS: Final = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[A-Za-z0-9_.-]+)):(?P<port>[0-9]{1,5})")


class Address(NamedTuple):
    """A host and a port, or the path of a unix socket."""

    host: str = ""
    port: int = 0
    unix: str = ""

    @property
    def loopback(self) -> bool:
        """True if only this machine can connect to the address.

        It is False for a unix socket, because a proxy may forward requests from other machines to the socket.
        """
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_listen(text: str) -> Address:
    """Return the parsed address. Raises `ValueError` if the text is no address. The message shows the expected form."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path or not path.isprintable():
            raise ValueError('"unix:" is followed by the path of a socket, such as "unix:/run/irisgate/http.sock"')
        return Address(unix=path)
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise ValueError(f"{json.dumps(text[:80])} is no address to listen on; write {FORMS}")
    if match["six"] is None:
        return Address(match["host"], int(match["port"]))
    try:
        return Address(str(ipaddress.IPv6Address(match["six"])), int(match["port"]))
    except ValueError:
        raise ValueError(f"{json.dumps(text[:80])} holds no IPv6 address between its brackets; write {FORMS}") from None


def loopback_listener(listen: str) -> Listener:
    """Return the listener for an address that is given without a mode, as in `--listen`.

    Raises `ValueError` if other machines can reach the address, because the listener then needs a mode.
    """
    address = parse_listen(listen)
    if not address.loopback:
        raise ValueError(needs_mode(listen))
    return Listener(listen, *address)


def needs_mode(listen: str) -> str:
    """Return the error message for a listener that other machines can reach, and that has no key `identity`."""
    advice = (
        '"identity": "serve-headers" behind tailscale serve'
        if listen.startswith("unix:")
        else '"identity": "whois" on a tailnet, "static" and a "login" elsewhere'
    )
    return (
        f"{json.dumps(listen)} can be reached by others, so who they are must be said: "
        f"set {advice}, or listen on 127.0.0.1"
    )
