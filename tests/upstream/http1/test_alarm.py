"""Tests of a timer whose deadline is moved often, without a new timer of the event loop each time."""

import asyncio

import pytest

from gateway.upstream.http1.alarm import Alarm
from tests.helpers.waiting import eventually


class Clock(asyncio.SelectorEventLoop):
    """An event loop that counts the timers that are created."""

    timers = 0

    def call_at(self, when, callback, *args, **kwargs):
        self.timers += 1
        return super().call_at(when, callback, *args, **kwargs)


@pytest.fixture
def run():
    with asyncio.Runner(loop_factory=Clock) as runner:
        yield runner.run


def test_a_later_time_costs_no_timer(run):
    async def scene():
        loop = asyncio.get_running_loop()
        alarm, rung = Alarm(loop), []
        now, before = loop.time(), loop.timers
        for number in range(1000):
            alarm.set(now + 10 + number, lambda: rung.append("late"))
        made = loop.timers - before
        alarm.cancel()
        return made, rung

    assert run(scene()) == (1, [])


def test_the_function_that_was_set_last_is_called_once_at_its_time(run):
    async def scene():
        loop = asyncio.get_running_loop()
        alarm, rung = Alarm(loop), []
        alarm.set(loop.time() + 0.01, lambda: rung.append("first"))
        at = loop.time() + 0.03
        alarm.set(at, lambda: rung.append(loop.time()))
        await eventually(lambda: rung)
        await asyncio.sleep(0.03)
        return at, rung

    at, (rung,) = run(scene())
    assert rung >= at


def test_an_earlier_time_replaces_a_later_one(run):
    async def scene():
        loop = asyncio.get_running_loop()
        alarm, rung = Alarm(loop), []
        alarm.set(loop.time() + 1000, lambda: rung.append("late"))
        alarm.set(loop.time() + 0.01, lambda: rung.append("early"))
        await eventually(lambda: rung)
        return rung

    assert run(scene()) == ["early"]


def test_an_alarm_that_was_stopped_does_not_ring_and_can_be_set_again(run):
    async def scene():
        loop = asyncio.get_running_loop()
        alarm, rung = Alarm(loop), []
        alarm.set(loop.time() + 0.01, lambda: rung.append("stopped"))
        alarm.stop()
        await asyncio.sleep(0.03)
        alarm.set(loop.time() + 0.01, lambda: rung.append("set again"))
        await eventually(lambda: rung)
        alarm.set(loop.time() + 0.01, lambda: rung.append("cancelled"))
        alarm.cancel()
        await asyncio.sleep(0.03)
        return rung

    assert run(scene()) == ["set again"]
