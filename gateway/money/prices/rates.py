"""Exact prices and sums of one model: by day, service tier and length of the prompt.

- Units are integers from the moment a price is read; no float ever holds money.
- A sum is rounded half up once, at its end.
- A kind that was used and has no known price makes the cost unknown (None), never 0.

Prices are looked up in `table.py`; rows are parsed in `rows.py`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from time import time
from types import MappingProxyType
from typing import Final, NamedTuple

from gateway.contract.flag import Usage

PLACES: Final = 15
"""Decimals of a unit: 1e-15 USD for a token or a search holds nine decimals of USD for 1M of them."""
PER_MILLION: Final = 6
"""Power of ten of the number of tokens that published prices are for."""

STANDARD: Final = frozenset({"", "standard", "default", "auto", "on_demand"})
"""Providers' names of the tier that serves requests without a tier.

Any other name is a tier of its own, and unknown where the price list has none of that name: Anthropic's "priority",
OpenAI's "scale" and Bedrock's "reserved" are paid for by contract, Bedrock's latency-optimised inference ("optimized")
costs more than the price list says, and so does Anthropic's inference inside the "us". The standard price would be
wrong for each; an operator's file can name the right one.
"""
PARTS: Final[Mapping[str, tuple[str, bool]]] = MappingProxyType(
    {
        "image_input": ("input", True),
        "image_output": ("output", True),
        "audio_input": ("input", False),
        "audio_output": ("output", False),
    }
)
"""Tokens that a reply counts both apart and inside another kind, with that kind.

The boolean says whether they cost as that kind where they have no price of their own: images do, sound never does."""

NOTHING: Final[Mapping[str, int]] = MappingProxyType({})


class Units(NamedTuple):
    """Prices of one token (or one search) by kind; None where unknown. `reasoning` is None where it costs as output."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    image_input: int | None = None
    image_output: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None
    web_search: int | None = None

    def times(self, factor: int) -> Units:
        return Units(*(None if unit is None else unit * factor for unit in self))


KINDS: Final = Units._fields
UNKNOWN: Final = Units()

Steps = tuple[tuple[int, Units], ...]
"""Prices by length of the prompt, ascending: a call whose prompt has more tokens than the number costs these."""


@dataclass(frozen=True, slots=True)
class Rates:
    """The prices of one model that hold on a day, by service tier; "" is the standard one."""

    tiers: Mapping[str, Steps]

    def steps(self, tier: str) -> Steps | None:
        return self.tiers.get("" if tier in STANDARD else tier)

    def times(self, factor: int) -> Rates:
        return Rates(
            {tier: tuple((a, units.times(factor)) for a, units in steps) for tier, steps in self.tiers.items()}
        )


@dataclass(frozen=True, slots=True)
class Priced:
    """The prices of one model. Made once for each provider's model; a sum takes about a microsecond."""

    name: str
    """Name of the rows: `bedrock/us.anthropic.claude-opus-4-6-v1`."""
    periods: Sequence[tuple[float, Rates]]
    """Prices by the Unix time from which they hold, ascending; the first ones hold from the beginning."""
    adjustment: Decimal = Decimal(1)
    """Factor of the configuration on the list price; the rates include it."""
    places: int = PLACES
    """Units of the rates are 10**-places USD."""

    def cost(
        self, usage: Usage, *, tier: str = "", extra: Mapping[str, int] = NOTHING, at: float | None = None
    ) -> int | None:
        """Return nanodollars, exact and rounded half up once; None if a kind was used whose price is unknown.

        `extra` are counts beside the tokens of `usage`: `web_search`, and the parts of input and output that `PARTS`
        names. Other names in `extra` cost nothing. `at` is the Unix time of the call, now by default.
        """
        steps = self.rates(at).steps(tier)
        if steps is None:
            return None
        units = steps[0][1]
        if len(steps) > 1:
            prompt = usage.input + usage.cache_read + usage.cache_write_5m + usage.cache_write_1h
            for above, more in steps[1:]:
                if prompt > above:
                    units = more
        total = _tokens(usage, units)
        if total is not None and extra:
            total = _add_extra(total, usage, extra, units)
        if total is None:
            return None
        scale: int = 10 ** (self.places - 9)
        return (2 * total + scale) // (2 * scale)

    def highest_cost(self, usage: Usage) -> int | None:
        """Return nanodollars today, in the most expensive service tier; None if no tier has the prices."""
        costs = (self.cost(usage, tier=tier) for tier in self.rates().tiers)
        return max((cost for cost in costs if cost is not None), default=None)

    def row(self, at: float) -> str:
        """Return the name of the row for a Unix time, with its first day: `bedrock/openai.gpt-5.6-sol@2026-08-21`.

        A record holds this name, so that its sum can be checked.
        """
        since = _start(self._period(at))
        return f"{self.name}@{datetime.fromtimestamp(since, UTC).date()}" if since else self.name

    def rates(self, at: float | None = None) -> Rates:
        """Return the prices at a Unix time, now by default."""
        return self._period(at)[1]

    def _period(self, at: float | None) -> tuple[float, Rates]:
        periods = self.periods
        if len(periods) == 1:
            return periods[0]
        return periods[bisect_right(periods, time() if at is None else at, lo=1, key=_start) - 1]

    def unit(self, kind: str) -> int | None:
        """Return today's standard price of one token of a kind (`KINDS`) in 1e-15 USD; None if unknown."""
        unit: int | None = getattr(self.rates().tiers[""][0][1], kind)
        scale: int = 10 ** (self.places - PLACES)
        return None if unit is None else unit // scale

    def usd(self, unit: int, per: int = 0) -> str:
        """Return a unit of the rates as a decimal number of USD, for 10**per tokens."""
        with localcontext(prec=60):
            return f"{Decimal(unit).scaleb(per - self.places).normalize():f}"


def _start(period: tuple[float, Rates]) -> float:
    return period[0]


def _tokens(usage: Usage, units: Units) -> int | None:
    total = 0
    for count, unit in (
        (usage.input, units.input),
        (usage.output, units.output),
        (usage.cache_read, units.cache_read),
        (usage.cache_write_5m, units.cache_write_5m),
        (usage.cache_write_1h, units.cache_write_1h),
    ):
        if count:
            if unit is None:
                return None
            total += count * unit
    if usage.reasoning and units.reasoning is not None and units.output is not None:
        total += min(usage.reasoning, usage.output) * (units.reasoning - units.output)
    return total


def _add_extra(total: int, usage: Usage, extra: Mapping[str, int], units: Units) -> int | None:
    """Return the sum with searches, and with the parts of input and output that have a price of their own."""
    if searches := extra.get("web_search", 0):
        if units.web_search is None:
            return None
        total += searches * units.web_search
    for part, (whole, costs_as_whole) in PARTS.items():
        count = min(extra.get(part, 0), getattr(usage, whole))
        own, plain = getattr(units, part), getattr(units, whole)
        if count and own is not None:
            total += count * (own - plain)
        elif count and not costs_as_whole:
            return None
    return total
