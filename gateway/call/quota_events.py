"""Reports to the log and to observers that a bucket of a quota is nearly used up.

`gateway.money.quotas` decides when a bucket is reported. The same bucket is reported again only after a refill.
"""

from __future__ import annotations

from time import time
from typing import Final

from gateway.contract.record import dollars
from gateway.money.quotas.buckets import Level
from gateway.telemetry.log import Logger
from gateway.telemetry.observers import Observers

NEARLY_USED: Final = "quota.nearly_used"


def report_nearly_used(level: Level, log: Logger, observers: Observers) -> None:
    """Log that most of a quota's bucket is used up, and tell the observers."""
    event = {
        "bucket": level.bucket,
        "definition": level.rule.name,
        "capacity_usd": dollars(level.rule.capacity),
        "balance_usd": dollars(level.balance),
        "used": level.spent,
        "on_exceed": "notify" if level.rule.notify else "reject",
        "full_at": level.full_at,
    }
    log.warning("quota.nearly_used", **event)
    observers.put({"event": NEARLY_USED, "at": time(), **event})
