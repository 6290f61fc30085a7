"""The one form in which addresses of sockets are compared and sent to tailscaled.

Nothing here decides who has an address, or whether it is trusted.
"""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def bare(text: str) -> Address:
    """Return an address without its zone; an IPv4 address mapped to IPv6 becomes IPv4. Raises `ValueError`."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
