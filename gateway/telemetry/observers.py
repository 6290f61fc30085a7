"""Observers are told of every call exactly once, in a thread of their own: what they do delays nobody.

One that raises is logged and told of the next call all the same; a queue that an observer cannot keep up with is
bounded, and what does not fit is counted in the log.
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
"""Records that wait for observers; some 10 MB."""
CLOSE_SECONDS: Final = 5.0
"""How long the end of the process waits for observers."""


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
        """Never blocks."""
        if not self._observers:
            return
        try:
            self._queue.put_nowait(record)
        except Full:
            self._lost += 1

    def close(self) -> None:
        """Tell what is left to tell."""
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
                self._tell(name, observer, seen)

    def _tell(self, name: str, observer: Observer, seen: Mapping[str, Any]) -> None:
        try:
            observer.seen(seen)
        except Exception:  # noqa: BLE001 (somebody else's code, in a thread that must go on)
            self._log.exception("observer.failed", observer=name, request_id=seen["id"])
