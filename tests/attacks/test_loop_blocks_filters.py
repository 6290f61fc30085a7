"""Tests that a filter does not block the event loop for long while it changes large requests and replies.

The filter of these tests changes every text and decodes the reply at its end. Times are CPU times of the loop's thread,
in units of `cpu_time`. With IRISGATE_ALL_LOOPS=1, bodies have 23 MB, and every pair of a client dialect and a provider
dialect is tried.
"""

import asyncio
from urllib.parse import quote

import pytest

from tests.attacks.test_loop_blocks import MODEL, ROUTES, body_of, dialect_of, many, packed_text, turn
from tests.attacks.test_loop_blocks_replies import ALL, MOST_UNITS, PAIRS, STREAMED, Provider
from tests.helpers.blocking_http import post
from tests.helpers.gateway import bedrock, gate
from tests.helpers.hostile_replies import BLOCKS, streams, text, whole
from tests.helpers.hostile_replies import many as many_items
from tests.helpers.loop_monitor import longest_block
from tests.helpers.providers import provider_in_a_thread

SIZE, STREAM = (23_000_000, 8_000_000) if ALL else (1_100_000, 300_000)
"""Sizes of the test data in bytes: `SIZE` of requests and unstreamed replies, `STREAM` of streamed replies."""
FILTER = """
import json

from gateway.contract.filter import hold

api = 1


def open(call, settings):
    return Changes()


class Changes:
    def request(self, asked):
        return asked.with_texts([text.text.replace("x", "yy", 1) for text in asked.texts])

    def text(self, kind, piece, last):
        return hold(piece.replace("x", "yy", 1), 3, last)

    def replied(self, reply):
        json.loads(reply.body or "[]")
        [event.data for event in reply.events if event.payload != b"[DONE]"]
"""


@pytest.fixture(scope="module")
def provider():
    provider = Provider()
    with provider_in_a_thread(provider.answer) as provider.url:
        yield provider


async def longest(gw, path, body):
    """Measure the longest time for which a call blocks the event loop. It is CPU time, in units of `cpu_time`.

    The call is made up to twelve times. The smallest result is returned, because other processes can only increase a
    result.
    """

    async def send():
        status, reply = await asyncio.to_thread(post, gw.url, path.format(quote(MODEL, safe="")), body)
        assert status == 200, reply

    return await longest_block(send, 12, MOST_UNITS)


def requests(client):
    """Yield large requests: many messages, and one long text."""
    dialect = dialect_of(client)
    message = b'{"role":"user","content":' + packed_text(dialect, "x" * 300) + b"}"
    yield "many messages", body_of(client, MODEL, many(message), {})
    yield "one text", body_of(client, MODEL, turn(packed_text(dialect, "x " * (SIZE // 2))), {})


def replies(way):
    """Yield large replies that are not streams: many blocks, many tool calls, and one long text."""
    block, call = BLOCKS[way]
    yield "blocks", whole(way, content=many_items(block, SIZE))
    yield "calls", whole(way, calls=many_items(call, SIZE))
    yield "one text", whole(way, said=text(b"x ", SIZE))


def filtered(state, providers):
    """Return a gateway with the filter `FILTER`."""
    plugins = state / "plugins"
    plugins.mkdir()
    (plugins / "changes.py").write_text(FILTER)
    return gate(state, providers, plugins=plugins, more={"plugins": {"changes": {}}})


async def test_filters_do_not_hold_the_loop_with_gemini(tmp_path, provider):
    own = {"baseurl": provider.url, "apikey": "k", "models": ["m"], "compatibility": {"gemini_generate_content": True}}
    usage = b'"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":1}'
    parts = many_items({"text": "x" * 60}, SIZE)
    small = b'{"contents":[{"role":"user","parts":[{"text":"x"}]}]}'
    reply = b'{"candidates":[{"content":{"role":"model","parts":%b},"finishReason":"STOP"}],%b}'
    provider.kind, provider.body = "application/json", reply % (b'[{"text":"x"}]', usage)
    async with filtered(tmp_path, {"p": own}) as gw:
        path = "/v1beta/models/m:generateContent"
        holds = [await longest(gw, path, small.replace(b'[{"text":"x"}]', parts))]
        holds.append(await longest(gw, path, b'{"contents":%b}' % many_items({"parts": [{"text": "x" * 60}]}, SIZE)))
        provider.body = reply % (parts, usage)
        holds.append(await longest(gw, path, small))
    assert max(holds) < MOST_UNITS, holds


async def test_filters_do_not_hold_the_loop_with_unknown_bodies(tmp_path, provider):
    """Check that filters do not block the event loop for long if a body of InvokeModel has a form that no plugin knows.

    Filters get every string in such a body as a text.
    """
    strings = many_items("x" * 60, SIZE)
    provider.kind, provider.body = "application/json", b'{"generation":"x"}'
    async with filtered(tmp_path, {"p": bedrock(provider.url, models=("meta.llama3-8b-v1:0",))}) as gw:
        path = "/model/meta.llama3-8b-v1:0/invoke"
        holds = [await longest(gw, path, b'{"prompt":%b}' % strings)]
        provider.body = b'{"generation":%b}' % strings
        holds.append(await longest(gw, path, b'{"prompt":"x"}'))
    assert max(holds) < MOST_UNITS, holds


@pytest.mark.parametrize(("client", "way"), PAIRS)
async def test_filters_do_not_hold_the_loop(tmp_path, provider, client, way):
    slow = {}
    async with filtered(tmp_path, {"p": bedrock(provider.url, flags=(way,), models=(MODEL,))}) as gw:
        provider.kind, provider.body = "application/json", whole(way)
        for name, body in requests(client):
            slow["request", name] = await longest(gw, ROUTES[client], body)
        asked = body_of(client, MODEL, turn(packed_text(client, "x")), {})
        for name, provider.body in replies(way):
            slow["reply", name] = await longest(gw, ROUTES[client], asked)
        provider.kind = "application/vnd.amazon.eventstream" if "bedrock" in way else "text/event-stream"
        more = {} if client in STREAMED else {"stream": b"true"}
        asked = body_of(client, MODEL, turn(packed_text(client, "x")), more)
        for name, provider.body in streams(way, STREAM):
            if name in {"one text", "tiny events"}:
                slow["stream", name] = await longest(gw, STREAMED.get(client, ROUTES[client]), asked)
    assert {name: units for name, units in slow.items() if units >= MOST_UNITS} == {}
