"""Tests of observers. Each gets the records in a thread of its own, so that no observer can delay another."""

import threading

import pytest

from gateway.telemetry import observers as observers_module
from gateway.telemetry.observers import Observers
from tests.helpers import hooks
from tests.helpers.records import logger, record
from tests.helpers.waiting import eventually


class Reported(list):
    """A list of the reported failures of observers. Each item is a pair of the failure and the id of the call."""

    def __call__(self, failure, request_id):
        self.append((failure, request_id))


def leave(_record):
    raise SystemExit


def interrupt(_record):
    raise KeyboardInterrupt


def change(given):
    given["tokens"].clear()
    given["identity"] = "somebody else"
    raise ValueError


def later(_record):
    async def coroutine():
        pass

    return coroutine()


@pytest.mark.parametrize(
    ("function", "cause"),
    [
        (leave, "SystemExit"),
        (interrupt, "KeyboardInterrupt"),
        (change, "ValueError"),
        (later, "returned coroutine; None is expected"),
    ],
)
async def test_an_observer_that_fails_ends_neither_its_thread_nor_others(function, cause):
    seen, reported = [], Reported()
    log, _ = logger()
    both = {"failing": hooks.of_observer(seen=function), "noting": hooks.of_observer(seen=seen.append)}
    observers = Observers(both, log, reported)
    for _ in range(2):
        observers.put(record())
    observers.close()
    assert seen == [record().as_dict()] * 2
    assert [(failure.cause, failure.hook, request_id) for failure, request_id in reported] == [
        (cause, "seen", record().id)
    ] * 2
    assert all(failure.place.startswith(f"{__file__}:") for failure, _ in reported)


async def test_an_observer_that_blocks_delays_no_other():
    seen, go = [], threading.Event()
    log, _ = logger()
    both = {"stuck": hooks.of_observer(seen=lambda _: go.wait(30)), "noting": hooks.of_observer(seen=seen.append)}
    observers = Observers(both, log, Reported())
    observers.put(record())
    await eventually(lambda: seen)
    go.set()
    observers.close()


async def test_only_observers_of_events_get_events_and_each_its_own_copy():
    seen = []
    log, _ = logger()
    event = {"event": "quota.nearly_used", "quotas": ["daily"]}
    several = {
        "records": hooks.of_observer(seen=seen.append),
        "changing": hooks.of_observer(seen=seen.append, seen_event=lambda given: given["quotas"].clear()),
        "events": hooks.of_observer(seen=seen.append, seen_event=seen.append),
    }
    observers = Observers(several, log, Reported())
    observers.put(event)
    observers.close()
    assert seen == [{"event": "quota.nearly_used", "quotas": ["daily"]}]


@pytest.mark.parametrize("count", [1, 4])
async def test_full_queues_do_not_hold_up_the_end_of_the_process(monkeypatch, count):
    monkeypatch.setattr(observers_module, "MAX_WAITING", 1)
    monkeypatch.setattr(observers_module, "CLOSE_SECONDS", 0.1)
    stuck, go = threading.Barrier(count + 1), threading.Event()
    seen = []

    def wait(given):
        if not go.is_set():
            stuck.wait(30)
            go.wait(30)
        seen.append(given)

    log, out = logger()
    observers = Observers({str(number): hooks.of_observer(seen=wait) for number in range(count)}, log, Reported())
    observers.put(record())
    stuck.wait(30)
    for _ in range(3):
        observers.put(record())
    observers.close()
    assert not seen
    go.set()
    # the queues are still delivered, and the threads end
    await eventually(lambda: len(seen) == 2 * count)
    await eventually(lambda: not any(delivery._thread.is_alive() for delivery in observers._deliveries))
    await eventually(lambda: out.getvalue().count(b'"lost":2') == count)
