"""Observers get records in one thread beside the event loop, and no observer can disturb another."""

import json
import threading
from types import SimpleNamespace

from gateway.telemetry import observers as observers_module
from gateway.telemetry.observers import Observers
from tests.helpers.records import logger, record
from tests.helpers.waiting import eventually


async def test_an_observer_that_exits_ends_neither_the_thread_nor_others():
    seen = []

    def leave(_record):
        raise SystemExit

    log, out = logger()
    observers = Observers({"leaving": SimpleNamespace(seen=leave), "noting": SimpleNamespace(seen=seen.append)}, log)
    for _ in range(2):
        observers.put(record())
    await eventually(lambda: len(seen) == 2)
    observers.close()
    await eventually(lambda: out.getvalue().count(b"observer.failed") == 2)
    assert json.loads(out.getvalue().splitlines()[0])["observer"] == "leaving"


async def test_each_observer_has_a_record_of_its_own():
    seen = []

    def change(given):
        given["tokens"].clear()
        given["identity"] = "somebody else"

    log, _ = logger()
    observers = Observers({"a": SimpleNamespace(seen=change), "b": SimpleNamespace(seen=seen.append)}, log)
    observers.put(record())
    observers.close()
    assert seen == [record().as_dict()]


async def test_a_full_queue_does_not_hold_up_the_end_of_the_process(monkeypatch):
    monkeypatch.setattr(observers_module, "MAX_WAITING", 1)
    monkeypatch.setattr(observers_module, "CLOSE_SECONDS", 0.1)
    stuck, go = threading.Event(), threading.Event()

    def wait(_record):
        stuck.set()
        go.wait(30)

    log, _ = logger()
    observers = Observers({"stuck": SimpleNamespace(seen=wait)}, log)
    observers.put(record())
    await eventually(stuck.is_set)
    observers.put(record())
    observers.close()
    assert observers._thread.is_alive()
    go.set()
