"""A parser of the PROXY header, with which a proxy gives the caller's address at the beginning of a connection.

The parser reads versions 1 (a line of text) and 2 (binary), as specified in
haproxy.org/download/3.0/doc/proxy-protocol.txt. It does no I/O. `proxy_protocol.py` decides which proxies may send a
header.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from typing import Final, NamedTuple

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
LONGEST_LINE: Final = 107
"""Maximum number of bytes of a version 1 header with its line end, by the specification."""
LONGEST: Final = 16 + 4096
"""Maximum number of bytes of a version 2 header: 16 fixed bytes, then the addresses and optional fields. No known proxy
sends more."""

_LINE: Final = re.compile(rb"PROXY (TCP4|TCP6) (\S+) (\S+) ([0-9]{1,5}) ([0-9]{1,5})\r\n")
_UNKNOWN: Final = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")
_FAMILIES: Final = {0x11: ("!4s4sHH", 12), 0x21: ("!16s16sHH", 36)}
"""The `struct` format and the length in bytes of the addresses in a version 2 header, for TCP over IPv4 and TCP over
IPv6.

The key is the byte of the header that names address family and protocol. Addresses of other families are ignored.
"""


class BadProxyHeader(ValueError):
    """The error for a connection that does not begin with a valid PROXY header."""


class ProxyHeader(NamedTuple):
    """The contents of a PROXY header."""

    source: tuple[str, int] | None
    """The address and port of the caller. The value is None if the header has no address, as in a proxy's health
    checks.
    """
    length: int
    """The number of bytes of the header."""


def read(data: bytes) -> ProxyHeader | None:
    """Return the header at the beginning of `data`, or None if more bytes are needed.

    Raises `BadProxyHeader` if `data` cannot be the beginning of a valid header.
    """
    if data[: len(SIGNATURE)] == SIGNATURE[: len(data)]:
        return _binary(data)
    if data[:6] == b"PROXY "[: len(data)]:
        return _line(data)
    raise BadProxyHeader("the connection does not begin with a PROXY header")


def _line(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\n", 0, LONGEST_LINE) + 1
    if not end:
        if len(data) >= LONGEST_LINE:
            raise BadProxyHeader("the PROXY line does not end")
        return None
    line = data[:end]
    if _UNKNOWN.fullmatch(line):
        return ProxyHeader(None, end)
    match = _LINE.fullmatch(line)
    if match is None:
        raise BadProxyHeader("the PROXY line cannot be read")
    version = 4 if match[1] == b"TCP4" else 6
    try:
        address = ipaddress.ip_address(match[2].decode("ascii"))
    except ValueError:
        raise BadProxyHeader("the PROXY line names no address") from None
    port = int(match[4])
    if address.version != version or port > 65535:
        raise BadProxyHeader("the PROXY line names an address of another kind")
    return ProxyHeader((str(address), port), end)


def _binary(data: bytes) -> ProxyHeader | None:
    if len(data) < 16:
        return None
    command, family, length = struct.unpack_from("!BBH", data, len(SIGNATURE))
    whole = 16 + length
    if command not in {0x20, 0x21} or whole > LONGEST:
        raise BadProxyHeader("the PROXY header's version, command or length is none of version 2")
    if len(data) < whole:
        return None
    if command == 0x20 or family not in _FAMILIES:
        return ProxyHeader(None, whole)
    layout, needed = _FAMILIES[family]
    if length < needed:
        raise BadProxyHeader("the PROXY header is too short for its addresses")
    source, _, port, _ = struct.unpack_from(layout, data, 16)
    return ProxyHeader((str(ipaddress.ip_address(source)), port), whole)
