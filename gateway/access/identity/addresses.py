"""The normal form of IP addresses, for comparisons and for questions to tailscaled.

Nothing here decides who has an address, or whether an address is trusted.
"""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def bare(text: str) -> Address:
    """Return the address in `text`, without a zone such as `%eth0`.

    An IPv4-mapped IPv6 address is returned as an IPv4 address. Raises `ValueError` if `text` is not an IP address.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
