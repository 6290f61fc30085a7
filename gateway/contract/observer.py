"""The protocol of observers, which receive the record of every call.

Plugins import it from `flag.py`, with the rest of the contract.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Observer(Protocol):
    """A receiver of call records.

    The gateway calls `seen` once for each call, in a separate thread, so that observers delay no call. If they are so
    slow that the queue of records is full, further records are lost.

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
        """Receive the record of one call. Each observer has its own copy.

        If the function raises an exception, the gateway logs it.

        >>> def seen(record):
        ...     if record["status"] < 500:
        ...         print(record["identity"], record["status"])
        >>> seen(record)
        ada@example.com 200
        """

    def seen_event(self, event: Mapping[str, Any]) -> None:
        """Receive an event that is no call. `event` has its name as `event`, and the Unix time as `at`.

        At present, the only event is `quota.nearly_used`. It is sent once when calls have used 80 % of a bucket. It has
        `bucket`, `definition`, `capacity_usd`, `balance_usd`, `used`, `on_exceed` and `full_at`.

        >>> def seen_event(event):
        ...     print(event["event"], event["bucket"])
        >>> seen_event({"event": "quota.nearly_used", "at": 1767225600.0, "bucket": "daily:ada"})
        quota.nearly_used daily:ada
        """
