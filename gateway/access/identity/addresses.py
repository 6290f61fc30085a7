"""The address of a socket's end, in the one form in which addresses are compared and asked for.

Whose it is, and who may speak for others, is decided by those who ask.
"""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def bare(text: str) -> Address:
    """Without a zone; an IPv4 caller of an IPv6 socket is an IPv4 one. Raises `ValueError` for what is no address."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
