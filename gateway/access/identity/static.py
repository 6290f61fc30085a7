"""The two modes in which the listener alone decides the identity.

`loopback`: a caller that reaches 127.0.0.1 or ::1 of this machine is `(loopback)`. `static`: the configuration names
the caller, as for a listener that only one service can reach. Nothing that the client sends is used in either.
"""

from __future__ import annotations

from gateway.access.identity.caller import Caller, Identity


class Static:
    """Every caller has the same identity."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    async def __call__(self, caller: Caller) -> Identity:
        _ = caller
        return self._identity
