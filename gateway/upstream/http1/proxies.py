"""The proxy for an origin, as the environment names it: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`.

- The same variable in lower case takes precedence, as in curl.
- Only proxies with an `http://` URL are supported. A proxy must open a tunnel (CONNECT) to a provider with TLS.
- This machine's own addresses are never reached through a proxy, as in Go's `net/http`.
- An entry of `NO_PROXY` is a host name, an IP address, a range such as `10.0.0.0/8`, or `*` for all hosts. A host name
  includes its subdomains, and may begin with a dot or `*.`. A host name or an address may have a port.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import urllib.request
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from gateway.upstream.http1.targets import Origin

_ENTRY: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*)(?::(?P<port>[0-9]+))?")
_BETWEEN: Final = re.compile(r"[\s,]+")


class ProxyRefused(OSError):
    """The error for a proxy that does not connect to the provider. The text is the reason."""


class Proxy(NamedTuple):
    """A proxy for HTTP requests."""

    origin: Origin
    authorization: str
    """The value of `Proxy-Authorization`. It is "" if the proxy needs no credentials."""


class Proxies:
    """The proxies in the environment variables, which are read when this object is created."""

    def __init__(self) -> None:
        self._environment: Mapping[str, str] = urllib.request.getproxies_environment()
        self._by_origin: dict[Origin, Proxy | None] = {}

    def proxy_for(self, origin: Origin) -> Proxy | None:
        """Return the proxy for an origin, or None if there is no proxy. Raises `ProxyRefused` if the URL of the proxy
        is no http:// URL.
        """
        if origin not in self._by_origin:
            self._by_origin[origin] = self._named(origin)
        return self._by_origin[origin]

    def _named(self, origin: Origin) -> Proxy | None:
        named = self._environment.get(origin.scheme) or self._environment.get("all")
        if not named or is_local(origin.host) or is_direct(origin, self._environment.get("no", "")):
            return None
        try:
            parts = urlsplit(named if "://" in named else f"http://{named}")
            host, port = parts.hostname, parts.port or 80
        except ValueError:
            host, port = None, 0
        if not host or parts.scheme != "http":
            raise ProxyRefused(f"the proxy in the environment for {origin.scheme} is no http:// URL")
        authorization = ""
        if parts.username is not None:
            credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = "Basic " + base64.b64encode(credentials.encode()).decode()
        return Proxy(Origin("http", host, port), authorization)


def is_local(host: str) -> bool:
    """Return whether a host is this machine, so that no proxy could reach it."""
    address = _address(host)
    return address.is_loopback if address else host == "localhost" or host.endswith(".localhost")


def is_direct(origin: Origin, entries: str) -> bool:
    """Return whether requests to the origin use no proxy. `entries` is the value of `NO_PROXY`."""
    host = origin.host.rstrip(".").lower()
    return any(_fits(entry, host, origin.port) for entry in _BETWEEN.split(entries.lower()) if entry)


def _fits(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    # an IPv6 address without brackets has no port
    parts = _ENTRY.fullmatch(entry)
    name, of_port = (parts["host"].strip("[]"), parts["port"]) if parts else (entry, None)
    if of_port is not None and int(of_port) != port:
        return False
    if (address := _address(host)) is None:
        name = name.removeprefix("*").strip(".")
        return bool(name) and (host == name or host.endswith(f".{name}"))
    try:
        return address in ipaddress.ip_network(name, strict=False)
    except ValueError:
        return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
