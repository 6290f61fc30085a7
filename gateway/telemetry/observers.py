"""Delivers the record of every call to all observers, in a separate thread.

- Observers do not delay calls.
- If an observer raises an exception, the exception is logged, and the observer still gets the next record.
- The queue of records is bounded. Records that do not fit are lost, and their number is logged.
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
"""Maximum number of records in the queue, about 10 MB."""
CLOSE_SECONDS: Final = 5.0
"""Maximum number of seconds that the process waits at its end for the thread to deliver the queue."""


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
        """Queue a record. This never blocks: if the queue is full, the record is lost."""
        if not self._observers:
            return
        try:
            self._queue.put_nowait(record)
        except Full:
            self._lost += 1

    def close(self) -> None:
        """Deliver the rest of the queue and end the thread, or give up after `CLOSE_SECONDS`.

        If the queue is full, first wait, without a time limit, until there is room in the queue.
        """
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
