"""Sums over calls, as the API shows them."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.contract.flag import Usage
from gateway.contract.record import dollars


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over some calls."""

    calls: int
    failed: int
    """Number of calls whose outcome was not `ok`."""
    usage: Usage
    known_cost: int
    """Total cost in nanodollars of the calls whose cost is known."""
    cost_unknown_calls: int
    estimated_calls: int
    cache_saved: int
    """Nanodollars that caching saved, compared with the price of uncached input. It is negative if writing to caches
    cost more than was saved by reading from them."""

    @property
    def cost(self) -> int | None:
        """The total known cost in nanodollars. It is None if it is 0 and some calls have an unknown cost."""
        return None if self.cost_unknown_calls and not self.known_cost else self.known_cost

    def totals(self) -> dict[str, Any]:
        """Return the sums in the form of the API."""
        return {
            "calls": self.calls,
            "failed": self.failed,
            "tokens": self.usage.as_dict(),
            "cost_usd": dollars(self.cost),
            "cost_unknown_calls": self.cost_unknown_calls,
            "estimated_calls": self.estimated_calls,
            "cache_saved_usd": dollars(self.cache_saved),
        }
