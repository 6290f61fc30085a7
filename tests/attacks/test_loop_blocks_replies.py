"""No reply of a provider holds the event loop, whole or streamed, natively or converted.

- Every client dialect is tried with every way from a provider. Each reply repeats one value or list.
- The time is CPU time of the loop's thread, so that other work on the machine hardly changes it. Without worker
  processes, some replies of every pair hold the loop for 100 to 900 milliseconds.
- Each shape of a reply is small for some pairs and large for the others. With IRISGATE_ALL_LOOPS=1, it is both for all.
"""

import asyncio
import os
from urllib.parse import quote

import pytest
from aiohttp import web

from tests.attacks.test_loop_blocks import MODEL, ROUTES, body_of, packed_text, post, serving, turn
from tests.helpers.hostile_replies import DIALECTS, streams, wholes
from tests.helpers.loop_monitor import LoopMonitor
from tests.helpers.providers import provider_in_a_thread

MOST_SECONDS = 0.05
ALL = "IRISGATE_ALL_LOOPS" in os.environ
SMALL = 60_000
"""Number of bytes of a reply that goes to a worker process only if it has many values."""
CONVERTED, NATIVE = (4_000_000, 4_000_000) if ALL else (300_000, 1_000_000)
"""Numbers of bytes of replies that always go to a worker process.

A native reply is only read, which takes less time than a conversion, so its usual number is higher.
"""
STREAMED = {
    "bedrock_converse": "/model/{}/converse-stream",
    "bedrock_model_invoke": "/model/{}/invoke-with-response-stream",
}
PAIRS = [
    (client, way)
    for row, client in enumerate(DIALECTS)
    for column, way in enumerate(DIALECTS)
    if client == way == "openai_responses" or (way != "openai_responses" and (ALL or (row + column) % 5 == 0))
]
"""Five pairs of client and way, in which each way occurs; with IRISGATE_ALL_LOOPS=1, all pairs.

Requests are not translated to Responses."""


class Provider:
    """A provider that sends one body to every request."""

    def __init__(self):
        self.body, self.kind = b"{}", "application/json"

    async def answer(self, request):
        await request.read()
        return web.Response(body=self.body, content_type=self.kind)


@pytest.fixture(scope="module")
def provider():
    provider = Provider()
    with provider_in_a_thread(provider.answer) as provider.url:
        yield provider


async def longest(gw, client, *, stream):
    """Return the longest uninterrupted CPU time, in seconds, that the loop's thread spends on a reply.

    The result is the smallest of up to five runs. No further run is made when the result is short enough.
    """
    path = STREAMED.get(client, ROUTES[client]) if stream else ROUTES[client]
    more = {"stream": b"true"} if stream and client not in STREAMED else {}
    body = body_of(client, MODEL, turn(packed_text(client, "x")), more)
    holds = []
    for _ in range(5):
        async with LoopMonitor() as monitor:
            await asyncio.to_thread(post, gw.url, path.format(quote(MODEL, safe="")), body)
        holds.append(monitor.longest)
        if min(holds) < MOST_SECONDS:
            break
    return min(holds)


def replies(shapes, client, way):
    """Yield (name, size, body) of each reply to try with a pair.

    Small and large shapes alternate. With IRISGATE_ALL_LOOPS=1, each shape has both sizes.
    """
    sizes = SMALL, NATIVE if client == way else CONVERTED
    for first, size in enumerate(sizes, PAIRS.index((client, way))):
        for place, (name, body) in enumerate(shapes(way, size), first):
            if ALL or place % len(sizes) == 0:
                yield name, size, body


@pytest.mark.parametrize(("client", "way"), PAIRS)
async def test_no_reply_holds_the_loop(tmp_path, provider, client, way):
    slow = {}
    async with serving(tmp_path, provider.url, way) as gw:
        provider.kind = "application/json"
        for name, size, provider.body in replies(wholes, client, way):
            if (hold := await longest(gw, client, stream=False)) >= MOST_SECONDS:
                slow["whole", name, size] = hold
        provider.kind = "application/vnd.amazon.eventstream" if "bedrock" in way else "text/event-stream"
        for name, size, provider.body in replies(streams, client, way):
            if (hold := await longest(gw, client, stream=True)) >= MOST_SECONDS:
                slow["stream", name, size] = hold
    assert slow == {}
