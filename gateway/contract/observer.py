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
    """

    @property
    def api(self) -> int: ...

    def seen(self, record: Mapping[str, Any]) -> None: ...

    def seen_event(self, event: Mapping[str, Any]) -> None:
        """Receive an event that is no call, such as `quota.nearly_used`. An observer may lack this function."""
