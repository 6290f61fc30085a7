"""Descriptions of why a provider could not be reached, with host, port and reason. They are for the caller, the log and
the record of the call.

This module opens no connection and raises no exception.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import Final, NamedTuple

from gateway.upstream.http1.proxies import ProxyRefused

_ERRNOS: Final = {
    errno.ECONNREFUSED: ("connection_refused", "nothing listens there (connection refused)"),
    errno.EHOSTUNREACH: ("no_route", "no route to the host"),
    errno.ENETUNREACH: ("no_route", "no route to the network"),
    errno.ETIMEDOUT: ("connect_timeout", "no answer in time"),
    errno.ECONNRESET: ("connection_reset", "the connection was reset"),
}
_NAMELESS: Final = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


class Unreachable(NamedTuple):
    """The reason why a connection could not be made."""

    name: str
    """Short identifier for the record: `no_such_host`, `connection_refused`, `tls`, `connect_timeout` ..."""
    words: str
    """The reason as text for people. It names the host and usually the port."""


def unreachable(error: Exception, host: str, port: int) -> Unreachable:
    """Return the reason for an exception that `http1/dial.py` raised while it opened a connection."""
    place = f"{host}:{port}"
    match error:
        case socket.gaierror():
            return _unresolved(error, host)
        case UnicodeError():
            return Unreachable("no_such_host", f"no such host {host}")
        case ssl.SSLCertVerificationError():
            reason = error.verify_message or "it does not fit"
            return Unreachable("tls", f"the TLS certificate of {place} is not accepted: {reason}")
        case ssl.SSLError():
            cause = error.reason or "the handshake failed"
            return Unreachable("tls", f"no TLS with {place}: {cause.lower().replace('_', ' ')}")
        case ProxyRefused():
            return Unreachable("proxy", f"{place}: {error}")
        case OSError(errno=int() as number):
            name, words = _ERRNOS.get(number) or ("connect_failed", os.strerror(number))
            return Unreachable(name, f"{place}: {words}")
        case TimeoutError():
            return Unreachable("connect_timeout", f"{place}: no connection in time")
    # several addresses may have failed for different reasons, which only the text names
    return Unreachable("connect_failed", f"{place}: {error}")


def _unresolved(error: OSError, host: str) -> Unreachable:
    if error.errno in _NAMELESS:
        return Unreachable("no_such_host", f"no such host {host}")
    return Unreachable("dns", f"the name {host} cannot be looked up: {error.strerror or 'no answer'}")
