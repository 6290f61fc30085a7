"""Tests that no reply of a provider blocks the event loop.

- In each reply, one value or list occurs many times. Replies are streamed and unstreamed, native and converted.
- Times are CPU times of the loop's thread, in units of `cpu_time`. Without worker processes, some replies would block
  the loop for 13 to 120 units.
- Each kind of reply is tried in a small and in a large size, but not in both sizes with the same pair of dialects. With
  IRISGATE_ALL_LOOPS=1, all pairs are tried with both sizes.
"""

import asyncio
import os
from urllib.parse import quote

import pytest
from aiohttp import web

from tests.attacks.test_loop_blocks import MODEL, ROUTES, body_of, packed_text, serving, turn
from tests.helpers.blocking_http import post
from tests.helpers.hostile_replies import DIALECTS, streams, wholes
from tests.helpers.loop_monitor import longest_block
from tests.helpers.providers import provider_in_a_thread

MOST_UNITS = 6.7
ALL = "IRISGATE_ALL_LOOPS" in os.environ
SMALL = 60_000
"""Size in bytes of small replies. They consist of so many values that the gateway reads even a reply of this size in a
worker process."""
CONVERTED, NATIVE = (4_000_000, 4_000_000) if ALL else (300_000, 1_000_000)
"""Sizes in bytes of large replies. The gateway always reads a reply of this size in a worker process.

`CONVERTED` is smaller, because a conversion takes more time than reading a native reply."""
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
"""Five pairs of client dialect and provider dialect, in which each provider dialect occurs.

With IRISGATE_ALL_LOOPS=1, all pairs are tried. No pair translates to Responses, because there is no such translation.
"""


class Provider:
    """A provider that answers every request with the same body."""

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
    """Measure the longest time for which a reply blocks the event loop. It is CPU time, in units of `cpu_time`.

    The call is made up to twenty times. The smallest result is returned, because other processes can only increase a
    result.
    """
    path = STREAMED.get(client, ROUTES[client]) if stream else ROUTES[client]
    more = {"stream": b"true"} if stream and client not in STREAMED else {}
    body = body_of(client, MODEL, turn(packed_text(client, "x")), more)

    async def send():
        await asyncio.to_thread(post, gw.url, path.format(quote(MODEL, safe="")), body)

    return await longest_block(send, 20, MOST_UNITS)


def replies(shapes, client, way):
    """Yield (name, size, body) of each reply to try with a pair of dialects.

    The first reply has the small size, the second the large size, and so on. The next pair begins with the other size.
    With IRISGATE_ALL_LOOPS=1, each reply is made in both sizes.
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
            if (hold := await longest(gw, client, stream=False)) >= MOST_UNITS:
                slow["whole", name, size] = hold
        provider.kind = "application/vnd.amazon.eventstream" if "bedrock" in way else "text/event-stream"
        for name, size, provider.body in replies(streams, client, way):
            if (hold := await longest(gw, client, stream=True)) >= MOST_UNITS:
                slow["stream", name, size] = hold
    assert slow == {}
