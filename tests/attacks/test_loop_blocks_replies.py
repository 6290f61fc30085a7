"""No reply of a provider holds the event loop, whole or streamed, natively or converted.

- Every client dialect is tried with every way from a provider. Each reply repeats one value or list.
- The time is CPU time of the loop's thread, so that other work on the machine hardly changes it. Code that loops
  over such a reply on the event loop takes 100 to 1,000 milliseconds.
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
SIZES = (200_000, 30_000_000) if ALL else (200_000, 1_500_000)
"""Numbers of bytes of a reply: one below the size from which replies go to worker processes, and one above it.

With IRISGATE_ALL_LOOPS=1, the larger one is near the limit of replies."""
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
    """Return the longest CPU time in seconds that the loop's thread works at once for a reply.

    The result is the smallest of up to five runs. The runs end when the result is short enough.
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


@pytest.mark.parametrize(("client", "way"), PAIRS)
async def test_no_reply_holds_the_loop(tmp_path, provider, client, way):
    slow = {}
    async with serving(tmp_path, provider.url, way) as gw:
        for size in SIZES:
            provider.kind = "application/json"
            for name, provider.body in wholes(way, size):
                if (hold := await longest(gw, client, stream=False)) >= MOST_SECONDS:
                    slow["whole", name, size] = hold
            provider.kind = "application/vnd.amazon.eventstream" if "bedrock" in way else "text/event-stream"
            for name, provider.body in streams(way, size):
                if (hold := await longest(gw, client, stream=True)) >= MOST_SECONDS:
                    slow["stream", name, size] = hold
    assert slow == {}
