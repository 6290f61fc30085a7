"""Rules for the URLs, hosts and addresses from which files may be downloaded for a client.

A client that sends a URL makes this machine connect to the URL's host, from inside the tailnet and the cloud's network.

- Only addresses on the public internet are allowed, whatever the host name is.
- Internal hosts and ports are allowed only if the configuration lists them.

The tables of addresses are from IANA's special-purpose registries (IPv4, IPv6, 2026). This module does not resolve host
names and opens no connection.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from yarl import URL

from gateway.config.server import Fetching

MAX_URL: Final = 8192
"""Maximum length of a URL in characters. Signed URLs of cloud storage services have about two thousand."""
_SHOWN: Final = 200
"""Maximum number of characters of a URL that are shown in an error message or in the log."""
NO_URL: Final = (ValueError, TypeError, IndexError)
"""Exceptions that yarl raises for text that is not a URL. yarl 1.25 raises IndexError for text such as "http://@["."""
_PORTS: Final = {"http": 80, "https": 443}

_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""Pattern for the last label of a host name that resolvers interpret as an IPv4 address: 2130706433, 127.1, 0x7f.1."""
_UNSEEMLY: Final = re.compile("[\x00-\x20\x7f-\xa0\\\\\u2028\u2029\ud800-\udfff]")
"""Pattern for characters that URL parsers interpret differently: spaces, control characters, backslashes,
surrogates."""

_NOT_PUBLIC: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        # Azure's virtual machines reach platform services at this address, although it is in the public range
        "168.63.129.16/32",
        # special ranges inside of 2000::/3: Teredo and other protocols, documentation, 6to4
        "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
    )
)  # fmt: skip
_INTERNET_6: Final = ipaddress.IPv6Network("2000::/3")
"""The range of all IPv6 addresses that are assigned on the internet.

It contains no mapped or translated IPv4 addresses (::/96, ::ffff:0:0/96, 64:ff9b::/96), and no private, link-local or
tailnet addresses (fc00::/7, fe80::/10)."""

_NEVER: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8", "169.254.0.0/16", "168.63.129.16/32", "192.0.0.0/24", "100.100.100.200/32", "224.0.0.0/4",
        "240.0.0.0/4", "::/128", "fd00:ec2::/32", "fe80::/10", "ff00::/8",
    )
)  # fmt: skip
"""Networks of cloud metadata services, and of addresses that belong to no host.

These networks are refused even for internal hosts that the configuration lists."""


class NotFetched(Exception):
    """The error for a file that is not downloaded.

    Its message has the reason, and usually a remedy. The message omits the query of the URL, which may be a signature.
    """


def check_url(text: str, rules: Fetching) -> URL:
    """Return the URL to request, with its host in normal form and without a fragment.

    Raises `NotFetched` for a URL that is malformed or not allowed.
    """
    if len(text) > MAX_URL or _UNSEEMLY.search(text):
        raise NotFetched(f"is no URL; send an http or https one of at most {MAX_URL} characters, percent-encoded")
    try:
        url = URL(text)
        port = url.port
    except NO_URL:
        raise NotFetched("is no URL that can be read; send an absolute http or https one") from None
    if url.scheme not in _PORTS or not url.raw_host:
        raise NotFetched("is no absolute URL of http or https")
    if url.raw_user is not None or url.raw_password is not None:
        raise NotFetched("holds a user or a password; send a URL that needs none")
    host = _host(url.raw_host)
    if not _is_allowed(host, port, rules):
        raise NotFetched(f'names {host}, which is not among "server.fetch.allow_hosts" of this gateway')
    if port != _PORTS[url.scheme] and f"{host}:{port}" not in rules.private_hosts:
        raise NotFetched(f"names port {port}; only 80 for http and 443 for https are connected to")
    return url.with_host(host).with_fragment(None)


def _host(raw: str) -> str:
    """Return the host in normal form: in lower case, without a dot at the end.

    Raises `NotFetched` for a malformed host, and for an address in an unusual form.
    """
    host = raw.lower().removesuffix(".")
    if ":" in host:
        try:
            address = ipaddress.IPv6Address(host)
        except ValueError:
            address = None
        if address is None or address.scope_id is not None:
            raise NotFetched("names no host that can be read")
        return str(address)
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise NotFetched("names no host that can be read")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise NotFetched("names an address in an unusual form; write it as four numbers") from None
    return host


def _is_allowed(host: str, port: int | None, rules: Fetching) -> bool:
    if not rules.allow_hosts or is_listed(host, port, rules):
        return True
    return any(_matches(host, pattern) for pattern in rules.allow_hosts)


def _matches(host: str, pattern: str) -> bool:
    """Return whether a host matches a pattern. `*.example.com` matches all subdomains, but not example.com itself."""
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def is_listed(host: str, port: int | None, rules: Fetching) -> bool:
    """Return whether the configuration lists the host, alone or with this port, as an allowed internal host."""
    return host in rules.private_hosts or f"{host}:{port}" in rules.private_hosts


def is_public(address: str) -> bool:
    """Return whether an IPv4 or IPv6 address is on the public internet."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:  # such as a zone (fe80::1%eth0), which some versions of Python do not read
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and (parsed.scope_id is not None or parsed not in _INTERNET_6):
        return False
    return not _is_in(parsed, _NOT_PUBLIC)


def is_host(address: str) -> bool:
    """Return whether an internal host that the configuration lists may have this address.

    The address may be any IP address, except those in `_NEVER`.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    inner = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return not _is_in(inner or parsed, _NEVER)


def _is_in(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
    networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network],
) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def host_of(text: str) -> str:
    """Return the host of a URL, with its port if it has one, for the log, or "" if there is none."""
    return shown(text).partition("://")[2].partition("/")[0]


def shown(text: str) -> str:
    """Return a URL for errors and logs: without user, query and fragment, and cut to `_SHOWN` characters."""
    bare = re.split(r"[?#]", text, maxsplit=1)[0]
    scheme, separator, rest = bare.partition("://")
    authority, slash, path = rest.partition("/")
    words = f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"
    return _UNSEEMLY.sub("?", words)[:_SHOWN]
