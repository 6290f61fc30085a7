"""Delivery of every call's record to the observers, exactly once and in a thread of their own.

- An observer delays no call.
- An observer that raises is logged, and gets the next record all the same.
- The queue is bounded; records that do not fit are counted in the log.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from queue import Full, Queue
from typing import Any, Final

from gateway.contract.flag import Observer
from gateway.contract.record import Record
from gateway.telemetry.log import Logger

MAX_WAITING: Final = 10_000
"""Most records that wait for observers: some 10 MB."""
CLOSE_SECONDS: Final = 5.0
"""Seconds that the end of the process waits for observers."""


class Observers:
    def __init__(self, observers: Mapping[str, Observer], log: Logger) -> None:
        self._observers = observers
        self._log = log
        self._queue: Queue[Record | None] = Queue(MAX_WAITING)
        self._lost = 0
        self._thread = threading.Thread(target=self._run, name="observers", daemon=True)
        if observers:
            self._thread.start()

    def put(self, record: Record) -> None:
        """Queue a record. Never blocks."""
        if not self._observers:
            return
        try:
            self._queue.put_nowait(record)
        except Full:
            self._lost += 1

    def close(self) -> None:
        """Deliver the rest of the queue, and end the thread."""
        if self._observers:
            self._queue.put(None)
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while (record := self._queue.get()) is not None:
            lost, self._lost = self._lost, 0
            if lost:
                self._log.error("observers.too_slow", lost=lost)
            seen = record.as_dict()
            for name, observer in self._observers.items():
                self._notify(name, observer, seen)

    def _notify(self, name: str, observer: Observer, seen: Mapping[str, Any]) -> None:
        try:
            observer.seen(seen)
        except Exception:  # noqa: BLE001 (somebody else's code, in a thread that must go on)
            self._log.exception("observer.failed", observer=name, request_id=seen["id"])
