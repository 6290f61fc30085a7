"""The mode `static`: all callers of a listener have the identity in the configuration, whatever they send.

This is useful if only one service can reach the listener.
"""

from __future__ import annotations

from gateway.access.identity.caller import Caller, Identity


class Static:
    """The mode `static`, with the identity of every caller."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    async def __call__(self, caller: Caller) -> Identity:
        _ = caller
        return self._identity
