"""Tests of a plugin whose function `places` fails. This function finds the texts in a message of an API format.

The error must name the plugin in every case: for requests, bodies of replies and streams.
"""

import orjson
import pytest

from gateway.call.filtered_replies import FilteredStream, filtered_body
from gateway.call.filtered_requests import Requests
from gateway.call.responses import Batch
from gateway.call.text_work import MANY_STRINGS
from gateway.call.turns import Turns
from gateway.contract.definitions import definition
from gateway.contract.errors import PluginFailed
from gateway.contract.hooks import Hook
from gateway.contract.members import Members
from gateway.contract.messages import ClientRequest, event
from gateway.contract.places import End, Place
from tests.call.test_filtered_replies import opened
from tests.helpers.gateway import POOL
from tests.helpers.stages import through


class Reader:
    """A filter that reads all texts."""

    def request(self, asked):
        assert asked.texts

    def text(self, _kind, piece, _last):
        return piece


def some_text(_event):
    return [Place(("text",))]


def a_path(_event):
    yield ("text",)


def no_place(_event):
    yield None


def a_bug(_event):
    raise KeyError("text")
    yield


FAULTS = {
    a_path: "returned tuple; Place, End or Copy is expected",
    no_place: "returned NoneType; Place, End or Copy is expected",
    a_bug: "KeyError: 'text'",
}
SMALL = orjson.dumps({"text": "hi"})
LARGE = orjson.dumps({"text": "hi", "more": ["x"] * (MANY_STRINGS + 1)})


def request(body):
    return ClientRequest("flagged", "d", "generate", "POST", "/", "", {}, Members(body), "m", False)


async def small_request(filters, places):
    await Requests(filters, places, POOL, Turns()).filtered(request(SMALL))


async def large_request(filters, places):
    await Requests(filters, places, POOL, Turns()).filtered(request(LARGE))


async def whole_reply(filters, places):
    await filtered_body(filters, places, SMALL, POOL, Turns())


async def stream(filters, places):
    batches = [Batch([event("chunk", {"text": "hi"})])]
    async for batch in through(FilteredStream(filters, places, POOL, Turns()), batches):
        if batch.fault is not None:
            raise batch.fault


@pytest.mark.parametrize("step", [small_request, large_request, whole_reply, stream])
@pytest.mark.parametrize("places", FAULTS)
async def test_the_flag_is_named_at_each_step(places, step):
    filters = opened(Reader(), passes=False)
    hook = Hook("flagged", "places", "tests", places)
    with pytest.raises(PluginFailed) as failed:
        await step(filters, hook)
    assert (failed.value.plugin, failed.value.hook) == ("flagged", "places")
    assert failed.value.cause == FAULTS[places]


@pytest.mark.parametrize("step", [large_request, whole_reply, stream])
async def test_the_line_of_places_with_a_wrong_result_is_named(step):
    with pytest.raises(PluginFailed) as failed:
        await step(opened(Reader(), passes=False), Hook("flagged", "places", "tests", no_place))
    assert failed.value.place == definition(no_place)


@pytest.mark.parametrize("step", [small_request, whole_reply, stream])
async def test_the_line_of_slow_places_is_reported(step):
    hook, reported = Hook("flagged", "places", "tests", some_text), []
    hook.slow_seconds = 0
    hook.report_slow = lambda slow, _seconds, place: reported.append((slow.plugin, place))
    await step(opened(Reader()), hook)
    assert ("flagged", definition(some_text)) in reported


@pytest.mark.parametrize("item", [Place(("text",), block=["a"]), End(["a"])])
async def test_a_block_whose_name_cannot_be_a_key_is_the_flags_fault(item):
    filters = opened(Reader(), passes=False)
    with pytest.raises(PluginFailed) as failed:
        await stream(filters, Hook("flagged", "places", "tests", lambda _event: [item]))
    assert (failed.value.plugin, failed.value.cause) == ("flagged", "TypeError: unhashable type: 'list'")
