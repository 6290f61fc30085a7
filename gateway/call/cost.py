"""The cost of an attempt or of a whole call, as a value. It is computed in `cost_of_call.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple


class Cost(NamedTuple):
    """The cost of one attempt, or of one call."""

    nanodollars: int | None
    """The cost. It is None if it is unknown."""
    basis: str
    """The row of the price table that was used, as `SELLER/MODEL` or `SELLER/MODEL@DAY`. It is "" if none was used."""
    estimated: bool = False
    """Whether a token count or a price used for the cost is an estimate."""
    cache_saved: int | None = None
    """Nanodollars that caching saved, compared with the price of fresh input. The value is None if unknown."""


NOTHING: Final = Cost(0, "", cache_saved=0)


def total(costs: Sequence[Cost]) -> Cost:
    """Return the sum of `costs`. If one of them is unknown, the sum is unknown."""
    known = [cost.nanodollars for cost in costs if cost.nanodollars is not None]
    saved = [cost.cache_saved for cost in costs if cost.cache_saved is not None]
    return Cost(
        sum(known) if len(known) == len(costs) else None,
        ", ".join(dict.fromkeys(cost.basis for cost in costs if cost.basis)),
        any(cost.estimated for cost in costs),
        sum(saved) if len(saved) == len(costs) else None,
    )
