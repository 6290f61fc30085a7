"""The two modes in which the listener itself says who is calling.

`loopback`: whoever can reach 127.0.0.1 or ::1 of this machine is `(loopback)`. `static`: the configuration names the
caller, as for a listener that only one service can reach. What the client sends plays no part in either.
"""

from __future__ import annotations

from gateway.config.model import Listener
from gateway.identity import LOOPBACK, Identity


def identify(listener: Listener) -> Identity:
    """The caller of such a listener."""
    if listener.identity == "loopback":
        return LOOPBACK
    return Identity(listener.login, listener.groups, listener.tags)
