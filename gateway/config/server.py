"""The values of the section `server`: listeners and their TLS, limits, and the rules for fetched files.

They are a part of `Config` (`model.py`). `sections/server.py` reads them from the document.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Final, Literal

Mode = Literal["loopback", "static", "whois", "serve-headers", "proxy-protocol"]

TAILSCALED: Final = "/var/run/tailscale/tailscaled.sock"
"""The default path of tailscaled's socket on Linux."""


@dataclass(frozen=True, slots=True)
class ListenerTls:
    """The certificate of a listener, and the client certificates that the listener accepts."""

    certificate: str
    """Path of the file with the listener's certificate, as written in the configuration."""
    key: str
    client_ca: str
    """Path of the file with the authorities that sign clients' certificates. It is "" if clients need no certificate.
    """
    context: SSLContext = field(compare=False, repr=False)
    """The TLS settings, made from the files when the configuration was loaded."""


@dataclass(frozen=True, slots=True)
class Listener:
    """An address or socket on which the gateway listens, and how the gateway identifies callers there."""

    listen: str = "127.0.0.1:8080"
    """The address as written: `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`."""
    host: str = "127.0.0.1"
    """The host without brackets. The value is "" if the listener is a unix socket."""
    port: int = 8080
    unix: str = ""
    """The path of the unix socket. It is "" if the listener has a host and a port instead."""
    identity: Mode = "loopback"
    login: str = ""
    """The login of all callers in the mode `static`. It is "" in other modes. `groups` and `tags` are for this mode
    too.
    """
    groups: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    tailscaled: str = TAILSCALED
    """The path of the tailscaled socket through which the modes `whois` and `proxy-protocol` identify callers."""
    service: str = ""
    """`svc:NAME` if clients reach the gateway as a Tailscale Service. A caller then has the grants whose destination is
    the service, and not those whose destination is the node.
    """
    proxies: frozenset[str] = frozenset()
    """Addresses of proxies that may connect in the mode `proxy-protocol`. If the set is empty, only processes of this
    machine may connect."""
    tls: ListenerTls | None = None
    """The TLS settings of the listener. The value is None for plain HTTP."""


@dataclass(frozen=True, slots=True)
class Limits:
    body_bytes: int = 32 * 1024 * 1024
    header_bytes: int = 16 * 1024
    """Maximum length of a header line and of the request line, in bytes. ARNs in paths and the header `anthropic-beta`
    can make long lines.
    """
    body_bytes_per_second: int = 8192
    """Minimum average rate of a request's body, in bytes per second. N bytes may take 30 s plus N divided by this rate.
    Even slow mobile networks are faster."""
    buffer_bytes: int = 192 * 1024 * 1024
    """Maximum number of bytes of the bodies and buffered replies of all calls in flight.

    Translating a body takes up to four times its size in memory. With the default, the process stays below about 1 GB.
    """
    calls: int = 5000
    """Maximum number of concurrent calls."""
    calls_per_identity: int = 500
    """Maximum number of concurrent calls of one caller, by login."""
    connections: int | None = None
    """Maximum number of clients' connections. For None, it is about half of the process's file descriptors."""
    connections_per_peer: int = 256
    """Maximum number of connections from one IP address of another machine."""
    streams_per_connection: int = 100
    """Maximum number of concurrent streams of an HTTP/2 connection. RFC 9113, 6.5.2, recommends at least 100."""
    resets_per_minute: int = 200
    """Maximum number of streams that a client of HTTP/2 may reset in a minute (CVE-2023-44487, rapid reset).

    A reset stream no longer counts as concurrent, but its request has already cost work."""
    control_frames_per_minute: int = 1000
    """Maximum number of control frames, such as PING, that an HTTP/2 client may send in a minute.

    Control frames are frames without a request or a body. For each frame with content that the client sends or
    receives, the client may send four more control frames (`web/http2/frames.py`).
    """
    head_seconds: float = 15
    """Maximum number of seconds from the first to the last byte of a request's head."""
    idle_seconds: float = 75
    """Seconds after which a connection without a request is closed. Load balancers reuse idle connections for 60 s."""


@dataclass(frozen=True, slots=True)
class Fetching:
    """Settings for fetching the files that clients name by URL.

    The gateway connects to public addresses, on the ports 80 and 443 only, and to the hosts in `private_hosts`.
    """

    enabled: bool = True
    max_bytes: int = 10 * 1024 * 1024
    """Maximum size of one file in bytes. All files of a call together have at most `Limits.body_bytes`."""
    timeout_seconds: float = 20
    """Maximum number of seconds for fetching one file, including redirects."""
    allow_hosts: tuple[str, ...] = ()
    """The public hosts from which files may be fetched, in lower case. The value is () for all hosts. `*.NAME` stands
    for every host below NAME.
    """
    private_hosts: tuple[str, ...] = ()
    """Hosts with private addresses from which files may be fetched: `HOST` for ports 80 and 443, or `HOST:PORT`."""


@dataclass(frozen=True, slots=True)
class Server:
    listeners: tuple[Listener, ...] = (Listener(),)
    hosts: tuple[str, ...] = ()
    """Host names under which clients may call the gateway, in lower case, without ports."""
    limits: Limits = Limits()
    fetch: Fetching = Fetching()
    drain_seconds: float = 30
    """Maximum number of seconds for which calls in flight may continue when the gateway stops."""
