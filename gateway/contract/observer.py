"""The protocol of observers, which receive the record of every call.

Plugins import the protocol from `flag.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Observer(Protocol):
    """A receiver of call records.

    The gateway calls `seen` once for each call, in the observer's own thread. The records wait in a queue. If the
    observer is so slow that the queue is full, further records are lost.

    >>> api = 1
    >>> def seen(record):
    ...     print(record["identity"], record["model"], record["cost_usd"])
    >>> seen(record)
    ada@example.com acme-1 0.5
    """

    @property
    def api(self) -> int:
        """The major version of the contract for which the observer is written.

        >>> api = 1
        """

    def seen(self, record: Mapping[str, Any]) -> None:
        """Receive the record of one call. The observer may change the record, because it gets a copy of its own.

        If this function raises an exception, the gateway logs the exception.

        >>> def seen(record):
        ...     if record["status"] < 500:
        ...         print(record["identity"], record["status"])
        >>> seen(record)
        ada@example.com 200
        """

    def seen_event(self, event: Mapping[str, Any]) -> None:
        """Receive an event of the gateway, with its name in the key `event` and its Unix time in seconds in `at`.

        There is one event, `quota.nearly_used`: calls have used 80 % of a quota bucket. Its other keys are `bucket`,
        `definition`, `capacity_usd`, `balance_usd`, `used`, `on_exceed` and `full_at`.

        >>> def seen_event(event):
        ...     print(event["event"], event["bucket"])
        >>> seen_event({"event": "quota.nearly_used", "at": 1767225600.0, "bucket": "daily:ada"})
        quota.nearly_used daily:ada
        """
