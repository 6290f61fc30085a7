"""Delivers the record of every call, and events of the gateway, to all observers, in a separate thread.

- Observers do not delay calls.
- If an observer raises an exception, even `SystemExit`, the exception is logged, and the observer still gets the next
  record. Each observer gets a copy of its own.
- The queue is bounded. Records and events that do not fit are lost, and their number is logged.
- An event is a mapping with the members `event`, its name, and `at`, its Unix time in seconds. Observers without the
  function `seen_event` get no events.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from functools import partial
from queue import Full, Queue
from time import monotonic
from typing import Any, Final, Protocol, runtime_checkable

from gateway.contract.flag import Observer
from gateway.contract.record import Record
from gateway.telemetry.log import Logger

MAX_WAITING: Final = 10_000
"""Maximum number of records and events in the queue, about 10 MB."""
CLOSE_SECONDS: Final = 5.0
"""Maximum number of seconds that the process waits at its end for the thread to deliver the queue."""


@runtime_checkable
class EventObserver(Protocol):
    """An observer that also receives events of the gateway."""

    def seen_event(self, event: Mapping[str, Any]) -> None: ...


class Observers:
    def __init__(self, observers: Mapping[str, Observer], log: Logger) -> None:
        self._observers = observers
        self._log = log
        self._queue: Queue[Record | Mapping[str, Any] | None] = Queue(MAX_WAITING)
        self._lost = 0
        self._thread = threading.Thread(target=self._run, name="observers", daemon=True)
        if observers:
            self._thread.start()

    def put(self, item: Record | Mapping[str, Any]) -> None:
        """Queue a record or an event. This never blocks: if the queue is full, the record or event is lost."""
        if not self._observers:
            return
        try:
            self._queue.put_nowait(item)
        except Full:
            self._lost += 1

    def close(self) -> None:
        """Deliver the rest of the queue and end the thread, or give up after `CLOSE_SECONDS`."""
        if not self._observers:
            return
        give_up = monotonic() + CLOSE_SECONDS
        with suppress(Full):
            self._queue.put(None, timeout=CLOSE_SECONDS)
        self._thread.join(max(0.0, give_up - monotonic()))

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            lost, self._lost = self._lost, 0
            if lost:
                self._log.error("observers.too_slow", lost=lost)
            if isinstance(item, Record):
                for name, observer in self._observers.items():
                    self._notify(name, partial(observer.seen, item.as_dict()), request_id=item.id)
            else:
                for name, observer in self._observers.items():
                    if isinstance(observer, EventObserver):
                        self._notify(name, partial(observer.seen_event, deepcopy(item)), event_name=item["event"])

    def _notify(self, name: str, call: Callable[[], None], **details: Any) -> None:
        try:
            call()
        except BaseException:  # noqa: BLE001 (somebody else's code, in a thread that must go on)
            self._log.exception("observer.failed", observer=name, **details)
