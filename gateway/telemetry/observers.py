"""Delivers the records of calls, and events of the gateway, to the observers.

- Each observer has its own thread and bounded queue, so that it delays neither calls nor other observers.
- Each observer gets its own copies. After an exception, even `SystemExit`, it still gets the next record.
- If an observer's queue is full, further records and events are lost for this observer. Their number is logged.
- An event is a mapping with its name in the key `event`, and its Unix time in seconds in `at`. An observer without the
  function `seen_event` gets no events.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from queue import Full, Queue
from time import monotonic
from typing import Any, Final

from gateway.contract.errors import PluginFailed
from gateway.contract.hooks import Hook
from gateway.contract.record import Record
from gateway.telemetry.log import Logger

MAX_WAITING: Final = 10_000
"""Maximum number of records and events in an observer's queue, about 10 MB."""
CLOSE_SECONDS: Final = 5.0
"""Maximum number of seconds for which `Observers.close` waits for the delivery of queued records and events."""

Item = Record | Mapping[str, Any]
Report = Callable[[PluginFailed, str], None]
"""A callback that reports a plugin's failure. It gets the failure and the id of the call.

The id is "" if the failure belongs to no call, but to an event of the gateway.
"""


class Observers:
    def __init__(self, observers: Mapping[str, Mapping[str, Hook]], log: Logger, report: Report) -> None:
        self._deliveries = [_Delivery(name, hooks, log, report) for name, hooks in observers.items()]

    def put(self, item: Item) -> None:
        """Append a record or an event to each observer's queue. This never blocks."""
        for delivery in self._deliveries:
            delivery.put(item)

    def close(self) -> None:
        """Deliver everything that is in the queues, and end the threads. Give up after `CLOSE_SECONDS`."""
        give_up = monotonic() + CLOSE_SECONDS
        for delivery in self._deliveries:
            delivery.end()
        for delivery in self._deliveries:
            delivery.join(max(0.0, give_up - monotonic()))


class _Delivery:
    """Delivers records and events to one observer, with a queue and a thread of its own."""

    def __init__(self, name: str, hooks: Mapping[str, Hook], log: Logger, report: Report) -> None:
        self._name = name
        self._hooks = hooks
        self._log = log
        self._report = report
        self._queue: Queue[Item | None] = Queue(MAX_WAITING)
        self._lost = 0
        self._ending = False
        self._thread = threading.Thread(target=self._run, name=f"observer-{name}", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        try:
            self._queue.put_nowait(item)
        except Full:
            self._lost += 1

    def end(self) -> None:
        """Make the thread end after the delivery of all items in the queue. This never blocks."""
        self._ending = True
        with suppress(Full):
            self._queue.put_nowait(None)

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            lost, self._lost = self._lost, 0
            if lost:
                self._log.error("observers.too_slow", observer=self._name, lost=lost)
            try:
                self._deliver(item)
            except PluginFailed as failure:
                self._report(failure, item.id if isinstance(item, Record) else "")
            if self._ending and self._queue.empty():
                return

    def _deliver(self, item: Item) -> None:
        """Give a copy of the item to the observer. Raises `PluginFailed` if the observer fails."""
        if isinstance(item, Record):
            self._hooks["seen"].call(item.as_dict())
        elif (hook := self._hooks.get("seen_event")) is not None:
            hook.call(deepcopy(item))
