"""Fixtures for tests of the client for providers: host names that are resolved without a name server."""

import asyncio
import socket

import pytest


@pytest.fixture
def names(monkeypatch):
    """Replace the look-up of host names. `names[host]` is a list of addresses, or an exception to raise.

    The list `names.asked` has the hosts that were looked up.
    """

    class Names(dict):
        def __init__(self):
            super().__init__()
            self.asked = []

    known = Names()
    real = asyncio.base_events.BaseEventLoop.getaddrinfo

    async def look_up(loop, host, port, **options):
        if host not in known:
            return await real(loop, host, port, **options)
        known.asked.append(host)
        await asyncio.sleep(0.01)
        if isinstance(known[host], Exception):
            raise known[host]
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in known[host]
        ]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", look_up)
    return known
