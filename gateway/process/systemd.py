"""The protocol of systemd: listening sockets from systemd, and notifications to systemd.

- With a socket unit, systemd opens the sockets, and keeps them open while the gateway is restarted (sd_listen_fds(3)).
- With `Type=notify`, systemd knows when the gateway is ready, reloading or stopping, and which process is the main
  process (sd_notify(3)).
- Other supervisors use the same environment variables. Without these variables, this module does nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress
from time import monotonic_ns
from typing import Final

from gateway.process.sockets import CannotListen, Passed

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
_FIRST_DESCRIPTOR: Final = 3
"""The number of the first passed descriptor (`SD_LISTEN_FDS_START`)."""
_VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def passed_sockets(environment: MutableMapping[str, str] = os.environ) -> list[Passed]:
    """Return the listening sockets that systemd passed to this process, and remove the variables that name them.

    Raises `CannotListen` if a descriptor is no listening stream socket.
    """
    process, count, names = (environment.pop(name, "") for name in _VARIABLES)
    if process != str(os.getpid()) or not count.isdecimal():
        return []
    named = dict(enumerate(names.split(":"), _FIRST_DESCRIPTOR))
    descriptors = range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(count))
    return [_passed(descriptor, named.get(descriptor, "")) for descriptor in descriptors]


def _passed(descriptor: int, name: str) -> Passed:
    try:
        opened = socket.socket(fileno=descriptor)
        os.set_inheritable(descriptor, False)
        opened.setblocking(False)
        listens = opened.type == socket.SOCK_STREAM and opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        listens = False
    if not listens:
        raise CannotListen(
            f'descriptor {descriptor} ("{name}") of LISTEN_FDS is no listening socket; use ListenStream= and Accept=no'
        )
    return Passed(name, opened)


def reloading() -> str:
    """Return the notification of a configuration reload, with the time stamp that `Type=notify-reload` requires."""
    return f"RELOADING=1\nMONOTONIC_USEC={monotonic_ns() // 1000}"


def main_process(process: int) -> str:
    """Return the notification that another process is now the main process of the service."""
    return f"MAINPID={process}"


def notify(state: str) -> None:
    """Send a notification to the supervisor, if `NOTIFY_SOCKET` names its socket. A failure is ignored."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path.startswith(("/", "@")):
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(state.encode(), path.replace("@", "\0", 1) if path.startswith("@") else path)
