"""Tests of filters with large events, and with many events and blocks: which events are held back, and when they are
sent.
"""

from gateway.call.filtered_replies import MAX_WAITING, FilteredStream
from gateway.call.responses import Batch
from gateway.call.stream_decoding import BATCH_EVENTS
from gateway.call.turns import Turns
from gateway.contract.filter import Hold
from gateway.contract.messages import event
from gateway_plugins.dialects.openai_chat.places import places as chat_places
from tests.call.test_filtered_replies import CHUNK, Holds, chunk, hook, opened, texts
from tests.helpers.gateway import POOL
from tests.helpers.stages import through


async def batches_of(places, batches, *objects):
    """Return the batches of events that the client gets if the provider sends `batches` and the call has the filters
    `objects`.
    """
    stage = FilteredStream(opened(*objects), hook(places), POOL, Turns())
    return [batch async for batch in through(stage, batches)]


class HoldsAll:
    """A filter that holds back each text until the text ends."""

    def text(self, _kind, piece, last):
        return piece if last else Hold("", piece)


async def test_the_end_of_an_event_of_any_size_may_be_held():
    events = [chunk({"content": "x" * (MAX_WAITING + 1)}), chunk({"content": "abc"}), chunk({}, "stop")]
    left = await batches_of(chat_places, [Batch([each]) for each in events], Holds())
    assert [batch.fault for batch in left] == [None] * len(left)
    assert texts([each.data for batch in left for each in batch.events]) == "x" * (MAX_WAITING + 1) + "abc"


async def test_a_filter_that_holds_too_many_events_fails():
    others = event(CHUNK, {"choices": [{"index": 1, "delta": {"content": "x" * 1_000_000}}]})
    events = [chunk({"content": "held"}), *[others] * 6]
    left = await batches_of(chat_places, [Batch([each]) for each in events], HoldsAll())
    assert "holds text while" in left[-1].fault.cause
    assert [batch.events for batch in left] == [[]]  # nothing overtakes the held text


async def test_events_that_waited_leave_in_batches_of_the_usual_size():
    events = [chunk({"content": "x"}) for _ in range(300)] + [chunk({}, "stop")]
    left = await batches_of(chat_places, [Batch([each]) for each in events], HoldsAll())
    assert sum(len(batch.events) for batch in left) == len(events)
    assert max(len(batch.events) for batch in left) <= BATCH_EVENTS
    assert texts([each.data for batch in left for each in batch.events]) == "x" * 300


async def test_a_large_event_that_waited_is_still_marked_costly():
    large = chunk({"content": "x" * 300_000})
    left = await batches_of(chat_places, [Batch([large], None, True), Batch([chunk({}, "stop")])], Holds())
    assert [(len(batch.events), batch.costly) for batch in left] == [(1, True), (1, False)]


async def test_thousands_of_open_blocks_end_one_by_one():
    calls = [chunk({"tool_calls": [{"index": n, "function": {"arguments": "{}"}}]}) for n in range(3000)]
    left = await batches_of(chat_places, [Batch(calls), Batch([chunk({}, "tool_calls")])], Holds())
    assert sum(len(batch.events) for batch in left) == len(calls) + 1
    assert texts([each.data for batch in left for each in batch.events]) == "{}" * 3000
