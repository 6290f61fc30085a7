"""Tests of the middlewares through which every call runs (`CHAIN`).

They cover the translation of a stream and the reading of its usage, the measured time of an attempt, and the number of
sent requests.
"""

import asyncio
from types import SimpleNamespace

import pytest

from gateway.call.chain import Metering, Stopwatch
from gateway.call.middleware import meter, translate
from gateway.call.responses import Batch
from gateway.contract.errors import BadFrame, Truncated
from gateway.contract.flag import Event
from gateway.contract.losses import Way
from gateway.upstream.process_pool import DropRelay, ProcessPool
from tests.helpers import hooks
from tests.helpers.gateway import HAIKU, bedrock, gate
from tests.helpers.stages import through

GOOD, BAD = Event("good", b"1"), Event("bad", b"2")
CUT = Truncated()
POOL = ProcessPool()


def read(event):
    if event is BAD:
        raise BadFrame("this event cannot be read")
    return [event]


class Translation:
    """A translation that passes events on, fails at the event `bad`, and adds an event at the end of the stream."""

    def feed(self, event):
        return read(event)

    def close(self):
        return [GOOD]


async def translated(*batches):
    stage = translate.StreamTranslation(Translation(), hooks.of_translator(), POOL, DropRelay(print))
    return [batch async for batch in through(stage, batches)]


async def metered(way, *batches):
    flag = SimpleNamespace(hooks=hooks.of_flag(output_bytes=lambda event: len(read(event))))
    metering = Metering(SimpleNamespace(feed=read), flag.hooks["meter.facts"])
    attempt = SimpleNamespace(candidate=SimpleNamespace(way=way, flag=flag), delivered=None, metering=metering)
    stage = meter.StreamMeter(attempt, POOL)
    return [batch async for batch in through(stage, batches)], attempt.delivered


async def test_a_translated_stream_that_is_complete_has_the_translations_end():
    assert await translated(Batch([GOOD]), Batch([GOOD, GOOD])) == [Batch([GOOD]), Batch([GOOD, GOOD]), Batch([GOOD])]


async def test_an_upstream_fault_follows_the_events_before_it():
    """Check that if a provider's stream breaks off, the client gets the events before the break, and then the error."""
    assert await translated(Batch([GOOD], CUT)) == [Batch([GOOD], CUT)]
    assert await translated(Batch((), CUT)) == [Batch([], CUT)]


async def test_events_before_an_untranslatable_one_share_its_batch():
    """Check that if an event cannot be translated, its batch has only the events before it, and the error."""
    (batch,) = await translated(Batch([GOOD, BAD, GOOD]), Batch([GOOD]))
    assert batch.events == [GOOD]
    assert isinstance(batch.fault, BadFrame)


async def test_an_unmeterable_event_ends_only_a_conversion():
    """Check that an event whose usage cannot be read ends a translated stream, but not a stream that is passed on
    unchanged.
    """
    (batch,), delivered = await metered(Way.TRANSLATED, Batch([GOOD, BAD, GOOD]), Batch([GOOD]))
    assert (batch.events, type(batch.fault), delivered) == ([GOOD], BadFrame, 1)
    batches, delivered = await metered(Way.NATIVE, Batch([GOOD, BAD, GOOD]), Batch([GOOD], CUT))
    assert (batches, delivered) == ([Batch([GOOD, BAD, GOOD]), Batch([GOOD], CUT)], 3)


async def test_a_stopwatch_counts_the_time_of_a_wait_that_fails():
    async def failing():
        await asyncio.sleep(0.02)
        raise CUT

    stopwatch = Stopwatch()
    with pytest.raises(Truncated):
        await stopwatch.wait(failing())
    assert stopwatch.waited >= 0.02


@pytest.mark.parametrize(
    ("provider", "body", "attempts"),
    [
        ({}, {}, 1),
        ({}, {"model": "unknown"}, 0),
        ({"on_loss": "refuse"}, {"seed": 1}, 0),
        ({"baseurl": "http://127.0.0.1:9"}, {}, 0),
    ],
    ids=["answered", "refused", "refused for a loss", "not reached"],
)
async def test_attempts_are_the_requests_that_were_sent(tmp_path, bedrock_sim, provider, body, attempts):
    chat = {"model": HAIKU, "messages": [{"role": "user", "content": "hello"}], **body}
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url, **provider)}) as gw:
        await gw.post("/v1/chat/completions", chat)
        (call,) = await gw.calls()
    assert call["attempts"] == attempts
