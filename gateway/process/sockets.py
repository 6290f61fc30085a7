"""Opens the listening sockets of the configuration, and removes the files of unix sockets.

- A socket that another process opened and passed to this process is used instead of a new one.
- A unix socket's file is removed only if no other process has replaced it.
- `access/identity/endpoints.py` makes the names of endpoints. `serve.py` decides what is served on a socket.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.access.identity.endpoints import address, endpoint
from gateway.config.server import Listener

_PROBE_SECONDS = 1.0
_SOCKET_MODE = 0o660
"""The mode of a unix socket's file: access for this process's user and group. tailscaled has access as root."""


class CannotListen(Exception):
    """The error for a listening socket that cannot be opened. The message has the address and the reason."""


@dataclass(frozen=True, slots=True)
class Bound:
    """An open listening socket, with its listener, its URL and its endpoint (`access/identity/endpoints.py`)."""

    listener: Listener
    socket: socket.socket
    endpoint: str
    url: str
    file: tuple[int, int] | None = None
    """The device and inode numbers of a unix socket's file. The value is None for a TCP socket."""

    def owning(self) -> Bound:
        """Return a copy that owns the socket's file: its `remove_file` removes the file, even if another process
        created it.
        """
        return replace(self, file=file_id(self.listener.unix)) if self.listener.unix else self

    def remove_file(self) -> None:
        """Remove the file of an open unix socket. Do nothing if another file has replaced it."""
        path = self.listener.unix
        with suppress(FileNotFoundError):
            if self.file is not None and file_id(path) == self.file:
                Path(path).unlink()


@dataclass(frozen=True, slots=True)
class Passed:
    """A listening socket that another process opened and passed to this process."""

    name: str
    """The address of the listener in the configuration of the gateway that passed the socket, or the name that systemd
    gave to the socket.
    """
    socket: socket.socket


def bind(listener: Listener, passed: list[Passed]) -> Bound:
    """Return the listener's socket.

    If `passed` has a socket with the listener's name or address, the socket is taken from there. Otherwise a new one is
    opened. Raises `CannotListen` if that fails.
    """
    try:
        for index, one in enumerate(passed):
            if listener.listen == one.name or endpoint(one.socket.getsockname()) == _endpoint(listener):
                del passed[index]
                return _bound(listener, one.socket)
        return _unix(listener) if listener.unix else _inet(listener)
    except OSError as error:
        raise CannotListen(f"cannot listen on {listener.listen}: {error.strerror or error}") from None
    except UnicodeError:
        raise CannotListen(f"cannot listen on {listener.listen}: the host is no name that can be looked up") from None


def family(listener: Listener) -> socket.AddressFamily:
    """Return the address family of a listener's socket."""
    if listener.unix:
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in listener.host else socket.AF_INET


def require_free(listener: Listener) -> None:
    """Raise `OSError` if no TCP socket can be opened at the listener's address.

    The listener must not use a unix socket.
    """
    with socket.socket(family(listener)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((listener.host, listener.port))
        probe.listen(1)


def _inet(listener: Listener) -> Bound:
    bound = socket.create_server((listener.host, listener.port), family=family(listener))
    bound.setblocking(False)
    return _bound(listener, bound)


def _unix(listener: Listener) -> Bound:
    path = listener.unix
    _make_room(path)
    return _bound(listener, open_unix(path, _SOCKET_MODE), file_id(path))


def open_unix(path: str, mode: int) -> socket.socket:
    """Return a new unix socket that listens at a path. `mode` is the mode of its file."""
    with ExitStack() as unless_kept:
        opened = unless_kept.enter_context(socket.socket(socket.AF_UNIX))
        opened.bind(path)
        # set before `listen`, so that nobody connects earlier: a process that can write to the socket can claim to be
        # any caller; chmod does not depend on the umask
        Path(path).chmod(mode)
        opened.listen()
        opened.setblocking(False)
        unless_kept.pop_all()
    return opened


def _bound(listener: Listener, opened: socket.socket, file: tuple[int, int] | None = None) -> Bound:
    name = opened.getsockname()
    scheme = "http" if listener.tls is None else "https"
    url = f"unix:{listener.unix}" if listener.unix else f"{scheme}://{address(listener.host, name[1])}"
    return Bound(listener, opened, endpoint(name), url, file)


def _endpoint(listener: Listener) -> str:
    """Return the name that the listener's socket will have, such as `127.0.0.1:8080` or `unix:/path`.

    Raises `OSError` if the listener's host cannot be looked up.
    """
    if listener.unix:
        return endpoint(listener.unix)
    addresses = socket.getaddrinfo(listener.host, listener.port, family(listener), socket.SOCK_STREAM)
    return endpoint(addresses[0][4])


def refuse_rest(passed: list[Passed]) -> None:
    """Raise `CannotListen` if any passed socket belongs to no listener. Its connections would wait for ever."""
    for one in passed:
        where = endpoint(one.socket.getsockname())
        raise CannotListen(f'a socket on {where} ("{one.name}") was passed, and no listener has this address; add one')


def _make_room(path: str) -> None:
    """Remove the socket file that a killed gateway may have left at `path`.

    The file is removed only if connections to it are refused. Raises `CannotListen` if anything else is at `path`.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise CannotListen(f"cannot listen on unix:{path}: a file that is no socket stands there; it is left alone")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        except OSError:
            # another error (full queue, timeout, another type of socket, no permission): a process may use the socket
            pass
    raise CannotListen(f"cannot listen on unix:{path}: address in use by another process")


def file_id(path: str | Path) -> tuple[int, int]:
    """Return the device and inode numbers of a file."""
    status = os.lstat(path)
    return status.st_dev, status.st_ino
