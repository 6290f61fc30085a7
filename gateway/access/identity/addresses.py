"""The normal form of IP addresses, for comparisons and for requests to tailscaled."""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def bare(text: str) -> Address:
    """Return the address in `text`, without a zone such as `%eth0`. An IPv4-mapped address becomes an IPv4 address.

    Raises `ValueError` if `text` is not an IP address.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
