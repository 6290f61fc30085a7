"""GET /ui/live: server-sent events that tell open pages to load their numbers again.

An event says only that something has changed. The page then requests its numbers with the rights of its reader.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final

from aiohttp import web

from gateway.call.context import GATEWAY, Gateway
from gateway.web.admin.sessions import scope

LOOK_SECONDS: Final = 1.0
"""Seconds between two checks for new records."""
OPEN_CALLS_SECONDS: Final = 3.0
"""Seconds after which a page loads its numbers again while calls are in flight, even if there are no new records."""
PING_SECONDS: Final = 15.0
"""Seconds without a server-sent event after which a comment line is sent, to find out whether the browser is still
connected."""
RETRY_MILLISECONDS: Final = 3_000
"""Milliseconds after which a browser that has lost the connection connects again."""


async def live(request: web.Request) -> web.StreamResponse:
    scope(request)
    gateway = request.app[GATEWAY]
    response = web.StreamResponse(headers={"content-type": "text/event-stream", "cache-control": "no-store"})
    await response.prepare(request)
    await response.write(b"retry: %d\n\n" % RETRY_MILLISECONDS)
    before, sent = gateway.follower.applied, monotonic()
    while not gateway.is_leaving:
        await asyncio.sleep(LOOK_SECONDS)
        now = gateway.follower.applied
        if now != before or _is_due(gateway, sent):
            await response.write(b"event: change\ndata:\n\n")
            before, sent = now, monotonic()
        elif monotonic() - sent > PING_SECONDS:
            await response.write(b":\n\n")
            sent = monotonic()
    return response


def _is_due(gateway: Gateway, sent: float) -> bool:
    """Return whether a page must load its numbers again, because calls are in flight and it has got no event for
    `OPEN_CALLS_SECONDS`.

    `sent` is the time of the page's last event or comment line, in seconds of the monotonic clock.
    """
    return gateway.is_serving_calls and monotonic() - sent > OPEN_CALLS_SECONDS
