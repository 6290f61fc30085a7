"""Checks of the machine: file descriptors, the listeners' addresses and tailscaled. The option `--online` adds the
providers.

A connection to each provider is opened and closed again, without a request or a key.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from gateway.access.identity.lookups import Lookups
from gateway.access.identity.proxy_protocol import trusted
from gateway.config.model import Config, Provider
from gateway.config.server import Listener
from gateway.contract.errors import NotReached
from gateway.process.doctor.result import Result, error, ok, warning
from gateway.process.sockets import family, require_free
from gateway.upstream.client import Upstream

FEW_DESCRIPTORS: Final = 4096
"""Number of file descriptors. If the process's hard limit (RLIMIT_NOFILE) is below this number, the check warns.

By default, the connections of clients may use half of the limit. With fewer descriptors, a busy gateway refuses
connections.
"""
CONNECT_SECONDS: Final = 5.0
"""Maximum number of seconds to connect to a provider. The TLS handshake has the same limit."""
ANSWER_SECONDS: Final = 1.0
"""Maximum number of seconds to wait for an answer from a listener's address."""
MAX_PATH_BYTES: Final = 107
"""Maximum number of bytes of the path of a unix socket (`sun_path` in unix(7), without the zero at its end)."""
_NO_CALLER: Final = b"PROXY UNKNOWN\r\n"
"""A PROXY header that names no caller."""
_NETWORK: Final = "look at baseurl, the network and its firewall"
_REACHING: Final = {
    "no_such_host": "look at baseurl and the machine's name servers",
    "dns": "look at baseurl and the machine's name servers",
    "tls": "look at baseurl, the clock, and the certificate authorities of the machine or of ca_file",
    "proxy": "look at the variables HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY of the environment",
}
"""Advice for each reason why a provider cannot be reached (`gateway/upstream/faults.py`)."""
_PROBE: Final = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def descriptors() -> Result:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if limit != resource.RLIM_INFINITY and limit < FEW_DESCRIPTORS:
        return warning(
            "descriptors",
            f"a process may have {limit} open files and connections",
            "raise the hard limit (LimitNOFILE= of systemd, ulimit -Hn)",
        )
    return ok("descriptors", f"a process may have {limit} open files and connections")


def listeners(config: Config, *, running: bool) -> Iterator[Result]:
    """Yield a result for each listener. `running` is True if a gateway uses the state folder at the moment."""
    all_listeners = [*config.server.listeners, *filter(None, [config.metrics.listener])]
    for listener in all_listeners:
        yield _listener(listener, running=running)


def _listener(listener: Listener, *, running: bool) -> Result:
    check = f"listener {listener.listen}"
    try:
        fault = _fault(listener)
    except socket.gaierror as failure:
        return error(
            check, f"the name {listener.host} cannot be looked up: {failure.strerror}", _REMEDIES[errno.EADDRNOTAVAIL]
        )
    if fault is None:
        return ok(check, "free")
    if fault in {errno.EADDRINUSE, errno.EEXIST}:
        if running and _answers(listener):
            return ok(check, "held by the running gateway")
        if fault == errno.EEXIST:
            return error(check, "a file that is no socket stands there", "remove it, or choose another path")
        return error(check, "another process listens there", "end that process, or choose another address")
    return error(check, os.strerror(fault), _REMEDIES.get(fault, "choose another address"))


_REMEDIES: Final = {
    errno.EACCES: "allow it (CAP_NET_BIND_SERVICE, or the folder's permissions), or choose a port from 1024 on",
    errno.EADDRNOTAVAIL: "write an address of this machine; tailscaled may not be up yet",
    errno.ENOENT: "make the folder of the socket",
}


def _fault(listener: Listener) -> int | None:
    """Return the `errno` with which listening on the address would fail, or None if listening is possible.

    Raises `socket.gaierror` for a host name that cannot be resolved.
    """
    try:
        if listener.unix:
            return _unix_fault(listener.unix)
        require_free(listener)
    except socket.gaierror:
        raise
    except OSError as failure:
        return failure.errno or errno.EINVAL
    return None


def _unix_fault(path: str) -> int | None:
    """Return the `errno` with which listening on the path would fail, or None if listening is possible.

    A socket file that a killed gateway has left behind is no fault, because the next gateway removes it. Raises
    `OSError` if the folder may not be searched.
    """
    file = Path(path)
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        return errno.ENAMETOOLONG
    if file.is_socket():
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(ANSWER_SECONDS)
            return None if probe.connect_ex(path) == errno.ECONNREFUSED else errno.EADDRINUSE
    if file.exists():
        return errno.EEXIST
    if not file.parent.is_dir():
        return errno.ENOENT
    return None if os.access(file.parent, os.W_OK) else errno.EACCES


def _answers(listener: Listener) -> bool:
    """Return whether a gateway answers at the listener's address.

    A `proxy-protocol` listener may answer only to certain proxies. If this machine is not among them, the result is
    True as soon as the listener accepts the connection.
    """
    try:
        with socket.socket(family(listener)) as probe:
            probe.settimeout(ANSWER_SECONDS)
            probe.connect(listener.unix or (listener.host, listener.port))
            if listener.identity == "proxy-protocol":
                if not trusted(probe.getsockname(), listener.proxies):
                    return True
                probe.sendall(_NO_CALLER)
            probe.sendall(_PROBE)
            reply = b""
            while part := probe.recv(4096):
                reply += part
    except OSError:
        return False
    return b"server: irisgate" in reply.lower()


def tailscaled(config: Config) -> Iterator[Result]:
    """Yield a result for each tailscaled that a listener needs."""
    sockets = {
        listener.tailscaled for listener in config.server.listeners if listener.identity in {"whois", "proxy-protocol"}
    }
    for path in sorted(sockets):
        check = f"tailscaled {path}"
        if fault := asyncio.run(_tailscaled_fault(path)):
            remedy = "start tailscaled, and let the gateway's user open its socket"
            yield error(check, f"callers cannot be identified: {fault}", remedy)
        else:
            yield ok(check, "answers")


async def _tailscaled_fault(path: str) -> str:
    lookups = Lookups(path)
    try:
        return await lookups.fault(is_needed=True)
    finally:
        await lookups.close()


def providers(config: Config) -> Sequence[Result]:
    """Return a result for each provider: whether its host is found, can be reached, and has a valid certificate.

    The gateway's own client connects, so that proxies and `ca_file` are used as in calls.
    """
    return asyncio.run(_reach([p for p in config.providers.values() if p.baseurl and not p.disabled]))


async def _reach(providers: Sequence[Provider]) -> Sequence[Result]:
    upstream = Upstream()
    try:
        return await asyncio.gather(*(_provider(upstream, provider) for provider in providers))
    finally:
        await upstream.close()


async def _provider(upstream: Upstream, provider: Provider) -> Result:
    check = f"provider {provider.id}"
    try:
        await upstream.reach(provider, CONNECT_SECONDS)
    except NotReached as failure:
        return error(check, failure.problem.message, _REACHING.get(failure.problem.reason, _NETWORK))
    return ok(check, "its host can be reached")
