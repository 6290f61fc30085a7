"""The mode `static`: all callers of a listener have the identity in the configuration.

This mode is for a listener that only one service can reach.
"""

from __future__ import annotations

from gateway.access.identity.caller import Caller, Identity


class Static:
    """The mode `static`, in which every caller has the same identity."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    async def __call__(self, caller: Caller) -> Identity:
        _ = caller
        return self._identity
