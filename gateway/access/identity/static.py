"""The modes in which all callers of a listener have the same identity, whatever they send.

In mode `loopback` every caller is `(loopback)`, because only this machine can reach the listener's address (127.0.0.1
or ::1). In mode `static` the configuration names the caller. This is useful if only one service can reach the listener.
"""

from __future__ import annotations

from gateway.access.identity.caller import Caller, Identity


class Static:
    """A mode that gives every caller the same identity."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    async def __call__(self, caller: Caller) -> Identity:
        _ = caller
        return self._identity
