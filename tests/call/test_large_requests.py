"""Tests of filters with large requests and texts: in which thread a method runs, and how its result is used."""

import asyncio
import json
import threading
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest

from gateway.call import filters
from gateway.call.filtered_requests import Requests
from gateway.call.turns import Turns
from gateway.contract.errors import PluginFailed, Refused
from gateway.contract.filter import Reply, blocked
from gateway.contract.members import Members
from gateway.contract.messages import ClientRequest
from tests.call.test_filtered_replies import opened
from tests.helpers.gateway import POOL, built_in
from tests.helpers.waiting import eventually

LARGE = 5_000
"""Number of chat messages in a large request."""


def request_of(count, content="say x"):
    call = {"id": "c", "type": "function", "function": {"name": "n", "arguments": '{"a": "x"}'}}
    messages = [{"role": "user", "content": content}] * (count - 1) + [{"role": "assistant", "tool_calls": [call]}]
    body = json.dumps({"model": "m", "messages": messages, "n": 1.0}).encode()
    return ClientRequest("openai_chat", "openai_chat", "generate", "POST", "/", "", {}, Members(body), "m", False)


class Filters:
    """The filters of one call: one filter for each function in `methods`, which is the filter's method `request`."""

    def __init__(self, *methods, passes=False):
        self.call = opened(*(SimpleNamespace(request=method) for method in methods), passes=passes)

    async def __call__(self, request):
        places = built_in().flags["openai_chat"].hooks["places"]
        return await Requests(self.call, places, POOL, Turns()).filtered(request)


def contents(request):
    return [message.get("content") for message in json.loads(request.top.body)["messages"]]


def changes(asked):
    return asked.with_texts([text.text.replace("x", "y") for text in asked.texts])


async def changes_later(asked):
    return changes(asked)


@pytest.mark.parametrize("method", [changes, changes_later])
@pytest.mark.parametrize("count", [3, LARGE])
async def test_texts_of_a_request_of_any_size_are_changed(method, count):
    given = request_of(count)
    request = await Filters(method)(given)
    assert json.loads(request.top.body) == json.loads(given.top.body.replace(b"x", b"y"))
    assert request.top["n"] == b"1.0"


async def test_each_filter_sees_the_changes_of_those_before_it():
    seen = []

    def second(asked):
        seen.append((asked.texts[0].text, asked.request.top["n"], len(asked.texts)))
        twice = changes(asked.with_texts([text.text + "x" for text in asked.texts[:-1]] + ['{"b": 1}']))
        assert twice.texts[0].text == "say yy"
        return twice

    request = await Filters(changes, second)(request_of(LARGE))
    assert seen == [("say y", b"1.0", LARGE)]
    assert contents(request)[:2] == ["say yy", "say yy"]
    assert json.loads(request.top.body)["messages"][-1]["tool_calls"][0]["function"]["arguments"] == '{"b": 1}'


@pytest.mark.parametrize("count", [3, LARGE])
async def test_what_a_filter_returns_counts_for_any_size(count):
    assert await Filters(lambda _asked: None)(given := request_of(count)) is given
    assert await Filters(lambda asked: asked)(given) is given
    assert (await Filters(lambda asked: asked.with_body({"model": "o"}))(given)).top.body == b'{"model":"o"}'
    assert (await Filters(lambda asked: changes(asked).with_body({"n": 2}))(given)).top.body == b'{"n":2}'
    reply = Reply(body=b"{}")
    assert await Filters(lambda _asked: reply)(given) is reply


async def test_only_a_large_request_takes_a_thread():
    threads = []

    def method(_asked):
        threads.append(threading.current_thread())

    async def waits(_asked):
        threads.append(threading.current_thread())

    before = asyncio.all_tasks()
    await Filters(method, waits)(request_of(3))
    assert (threads, asyncio.all_tasks()) == ([threading.current_thread()] * 2, before)
    threads.clear()
    await Filters(method, waits)(request_of(LARGE))
    assert [thread is threading.current_thread() for thread in threads] == [False, True]
    assert threads[0].daemon
    assert threads[0].name == "filter-tested"


async def waits_forever(_asked):
    await asyncio.Event().wait()


@pytest.mark.parametrize("method", [waits_forever, partial(waits_forever)], ids=["async", "not async"])
@pytest.mark.parametrize("count", [3, LARGE])
async def test_a_filter_that_waits_has_one_limit_for_any_size(method, count, monkeypatch):
    monkeypatch.setattr(filters, "SECONDS", 0.01)
    async with asyncio.timeout(5):
        with pytest.raises(PluginFailed) as failed:
            await Filters(method)(request_of(count))
    assert failed.value.cause == "TimeoutError"


def stops(_asked):
    raise StopIteration


def leaves(_asked):
    raise SystemExit(1)


def cancels(_asked):
    raise asyncio.CancelledError


def writes_no_json(asked):
    return asked.with_texts([*(text.text for text in asked.texts[1:])])


@pytest.mark.parametrize("method", [stops, leaves, cancels, writes_no_json, lambda _asked: 3])
@pytest.mark.parametrize("count", [3, LARGE])
async def test_a_failure_in_a_thread_is_the_filters(method, count):
    with pytest.raises(PluginFailed) as failed:
        await Filters(method)(request_of(count))
    assert failed.value.plugin == "tested"
    assert "test_large_requests.py" in failed.value.place
    given = request_of(count)
    assert await Filters(method, passes=True)(given) is given


@pytest.mark.parametrize("count", [3, LARGE])
async def test_a_filter_blocks_a_request_of_any_size(count):
    def guard(asked):
        if any("x" in text.text for text in asked.texts):
            raise blocked("forbidden", "no")

    with pytest.raises(Refused, match="no"):
        await Filters(guard)(request_of(count))


@pytest.mark.parametrize("count", [3, LARGE])
async def test_a_body_that_no_filter_can_read_is_refused(count):
    """Check that a body with a number that is too large for a float is refused if there is a filter.

    Without a filter, the body is passed on unchanged.
    """
    given = request_of(count)
    top = Members(given.top.spliced({"n": b"1e999"}))
    with pytest.raises(Refused, match="no filter can read the body"):
        await Filters(changes)(replace(given, top=top))


async def test_done_waits_for_the_thread_of_a_call_whose_client_has_left():
    runs, order = threading.Event(), []

    def slow(_asked):
        runs.wait(10)
        order.append("request")

    filters = Filters(slow)
    filters.call.opened[0].methods["done"] = lambda _record: order.append("done")
    call = asyncio.create_task(filters(request_of(LARGE)))
    await eventually(lambda: filters.call.opened[0].working is not None)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    filters.call.done(SimpleNamespace(as_dict=dict))
    runs.set()
    await filters.call.after.close()
    assert order == ["request", "done"]
