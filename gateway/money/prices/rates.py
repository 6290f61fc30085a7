"""The exact prices of one model, and the cost of its calls.

- A price depends on the day, the service tier and the length of the prompt.
- Prices are parsed to integers. Floats are never used for money.
- A cost is rounded half up once, after all amounts are added.
- If a call used a kind of token without a known price, the cost of the call is unknown (None), never 0.

`table.py` finds the prices of a model. `rows.py` parses the rows of a price file.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from operator import attrgetter
from time import time
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from gateway.contract.flag import Usage

PLACES: Final = 15
"""Number of decimals of the price in USD of one token or one search. Prices are integers in units of 1e-15 USD.

So a published price in USD for 1M tokens may have up to nine decimals.
"""
NANO: Final = 9
"""Decimal places of one nanodollar as an amount in USD: 9. Costs are rounded to this number of decimals."""
PER_MILLION: Final = 6
"""Exponent of 1,000,000 = 10**6, for `Priced.usd`: published prices are for 1,000,000 tokens."""

STANDARD: Final = frozenset({"", "standard", "default", "auto", "on_demand"})
"""Names that providers give to the standard service tier, which also serves requests that name no tier.

Every other name is a tier of its own. If a model has no prices for such a tier, its price there is unknown, because the
standard price would be wrong. For example, Anthropic's "priority", OpenAI's "scale" and Bedrock's "reserved" are paid
for by contract. Bedrock's latency-optimised inference ("optimized") costs more. An operator can add prices in a price
file.
"""
PARTS: Final[Mapping[str, tuple[str, bool]]] = MappingProxyType(
    {
        "image_input": ("input", True),
        "image_output": ("output", True),
        "audio_input": ("input", False),
        "audio_output": ("output", False),
    }
)
"""Kinds of tokens that are also counted in another kind. For example, tokens of `image_input` are counted in `input`.

The first value is that other kind. The second value applies to a model without a separate price for the tokens: True if
they cost as much as the other kind, and False if the cost of a call with such tokens is unknown.
"""

FEES: Final = ("web_search", "file_search")
"""Tools that have a fee for each use, by their names in `Part.extra`."""

NOTHING: Final[Mapping[str, int]] = MappingProxyType({})


class Units(NamedTuple):
    """Prices of one token, or of one search, by kind. An unknown price is None.

    If `reasoning` is None, a reasoning token has the price of an output token.
    """

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
"""Prices by length of the prompt: ascending pairs (number of tokens, prices for prompts with more tokens).

The last pair whose number is below the prompt's length applies."""


class Rates(msgspec.Struct, frozen=True):
    """The prices of one model on one day, by service tier. The standard tier has the key ""."""

    tiers: Mapping[str, Steps]

    def steps(self, tier: str, geo: str = "") -> Steps | None:
        """Return the prices of a tier by length of the prompt, or None if the tier has no known prices.

        With `geo`, return the tier's prices in this geography.
        """
        name = "" if tier in STANDARD else tier
        return self.tiers.get(f"{name}-{geo}" if name and geo else name or geo)

    def times(self, factor: int) -> Rates:
        return Rates(
            {tier: tuple((a, units.times(factor)) for a, units in steps) for tier, steps in self.tiers.items()}
        )


class Modifiers(msgspec.Struct, frozen=True):
    """Factors and fees that apply to all models of one book (the prices of one seller).

    They are read from `modifiers.json`.
    """

    geos: Mapping[str, Decimal]
    """Factors for the prices of tokens, by the geography that the provider reports for a call."""
    fees: Mapping[str, int]
    """Fee for one use of a tool in units of 1e-15 USD, by the tool's name in `Part.extra`."""

    def times(self, factor: int) -> Modifiers:
        return Modifiers(self.geos, {name: fee * factor for name, fee in self.fees.items()})


NO_MODIFIERS: Final = Modifiers({}, {})


class Amount(NamedTuple):
    """An exact amount of money in units of 10**-`places` USD."""

    units: int
    places: int


def nanodollars(amounts: Iterable[Amount]) -> int:
    """Return the sum of the amounts in nanodollars. Only the sum is rounded, half up."""
    known = list(amounts)
    if len(known) == 1:
        return _rounded(*known[0])
    places = max((amount.places for amount in known), default=PLACES)
    return _rounded(sum(units * 10 ** (places - own) for units, own in known), places)


def _rounded(units: int, places: int) -> int:
    """Convert an amount from units of 10**-places USD to nanodollars, rounded half up."""
    scale: int = 10 ** (places - NANO)
    return (2 * units + scale) // (2 * scale)


class Priced(msgspec.Struct, frozen=True):
    """The prices of one model over time.

    One object is made for each model of a provider, so that a cost is computed in a few microseconds.
    """

    name: str
    """Name of the rows in the price file: `bedrock/us.anthropic.claude-opus-4-6-v1`."""
    periods: Sequence[tuple[float, Rates]]
    """Ascending pairs (Unix time from which the prices are valid, prices). Before the first time, the first prices
    apply."""
    adjustment: Decimal = Decimal(1)
    """Factor by which the configuration multiplies the published price. The prices in `periods` already include this
    factor."""
    places: int = PLACES
    """Decimal places of the integer prices: their unit is 10**-places USD."""
    modifiers: Modifiers = NO_MODIFIERS

    def cost(
        self,
        usage: Usage,
        *,
        tier: str = "",
        geo: str = "",
        extra: Mapping[str, int] = NOTHING,
        at: float | None = None,
    ) -> int | None:
        """Return the cost in nanodollars, rounded half up, or None if a price is unknown.

        `amount` computes the cost, and explains the arguments.
        """
        amount = self.amount(usage, tier=tier, geo=geo, extra=extra, at=at)
        return None if amount is None else _rounded(*amount)

    def amount(
        self,
        usage: Usage,
        *,
        tier: str = "",
        geo: str = "",
        extra: Mapping[str, int] = NOTHING,
        at: float | None = None,
    ) -> Amount | None:
        """Return the exact cost of one billed part of a call, or None if a price is unknown.

        - `extra` has further counts by name: uses of tools such as `web_search`, and tokens of the kinds in `PARTS`,
          such as `image_input`. A tool that is not in `FEES` costs nothing.
        - `geo` is the geography that the provider reports. If the model has no prices for `geo`, the standard prices
          times the factor for `geo` are used. Without such a factor, the cost is unknown.
        - `at` is the Unix time of the call, by default now.
        """
        rates, factor = self._period(at)[1], None
        steps = rates.steps(tier, geo)
        if steps is None and geo:
            steps, factor = rates.steps(tier), self.modifiers.geos.get(geo)
            if factor is None:
                return None
        if steps is None:
            return None
        units = units_for(usage, steps)
        tokens = _tokens(usage, units)
        if tokens is not None and extra:
            tokens = _with_media(tokens, usage, extra, units)
        fees = _fees(extra, units, self.modifiers.fees) if extra else 0
        if tokens is None or fees is None:
            return None
        if factor is None:
            return Amount(tokens + fees, self.places)
        places = -int(factor.as_tuple().exponent)
        return Amount(tokens * int(factor.scaleb(places)) + fees * 10**places, self.places + places)

    def highest_cost(self, usage: Usage) -> int | None:
        """Return the cost in nanodollars at today's prices in the most expensive service tier and geography.

        Return None if no tier has all the prices that `usage` needs.
        """
        costs = (
            self.cost(usage, tier=tier, geo=geo) for tier in self.rates().tiers for geo in ("", *self.modifiers.geos)
        )
        return max((cost for cost in costs if cost is not None), default=None)

    def row(self, at: float) -> str:
        """Return the name of the row that is valid at a Unix time, such as `bedrock/openai.gpt-5.6-sol@2026-08-21`.

        The date is the first day of the row. A row that has always been valid has no date. The record of a call
        contains the row's name, so that the cost can be checked.
        """
        since = _start(self._period(at))
        return f"{self.name}@{datetime.fromtimestamp(since, UTC).date()}" if since else self.name

    @property
    def has_both(self) -> bool:
        """Whether input and output both have a standard price today."""
        steps = self._period(None)[1].steps("")
        return steps is not None and steps[0][1].input is not None and steps[0][1].output is not None

    def rates(self, at: float | None = None) -> Rates:
        """Return the prices that are valid at a Unix time, now by default."""
        return self._period(at)[1]

    def _period(self, at: float | None) -> tuple[float, Rates]:
        periods = self.periods
        if len(periods) == 1:
            return periods[0]
        return periods[bisect_right(periods, time() if at is None else at, lo=1, key=_start) - 1]

    def unit(self, kind: str) -> int | None:
        """Return today's standard price of one token of a kind (`KINDS`) in 1e-15 USD, or None if unknown."""
        unit: int | None = getattr(self._period(None)[1].tiers[""][0][1], kind)
        scale: int = 10 ** (self.places - PLACES)
        return None if unit is None else unit // scale

    def usd(self, unit: int, per: int = 0) -> str:
        """Return the price of `10**per` tokens in USD, as decimal text.

        `unit` is the price of one token in units of `10**-self.places` USD.
        """
        with localcontext(prec=60):
            return f"{Decimal(unit).scaleb(per - self.places).normalize():f}"


def _start(period: tuple[float, Rates]) -> float:
    return period[0]


_values: Final = attrgetter("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
"""A function that returns five fields of a `Usage` (token counts) or of a `Units` (prices), in the same order: one for
each kind of token that is always billed separately.
"""


def _tokens(usage: Usage, units: Units) -> int | None:
    total = 0
    for count, unit in zip(_values(usage), _values(units), strict=True):
        if count:
            if unit is None:
                return None
            total += count * unit
    if usage.reasoning and units.reasoning is not None and units.output is not None:
        total += min(usage.reasoning, usage.output) * (units.reasoning - units.output)
    return total


def units_for(usage: Usage, steps: Steps) -> Units:
    """Return the prices that apply to a prompt as long as the one in `usage`. `steps` has the prices by length of the
    prompt.
    """
    units = steps[0][1]
    if len(steps) > 1:
        prompt = usage.input + usage.cache_read + usage.cache_write_5m + usage.cache_write_1h
        for above, more in steps[1:]:
            if prompt > above:
                units = more
    return units


def _with_media(total: int, usage: Usage, extra: Mapping[str, int], units: Units) -> int | None:
    """Return the cost `total` of a call, corrected for tokens with a price of their own, such as those of images
    (`PARTS`).

    In `total`, such tokens have the price of the kind in which they are counted. For example, the tokens of an image in
    the prompt have the price of input. Return None if the call used audio and the model has no price of audio.
    """
    for part, (whole, costs_as_whole) in PARTS.items():
        count = min(extra.get(part, 0), getattr(usage, whole))
        own, plain = getattr(units, part), getattr(units, whole)
        if count and own is not None:
            total += count * (own - plain)
        elif count and not costs_as_whole:
            return None
    return total


def _fees(extra: Mapping[str, int], units: Units, fees: Mapping[str, int]) -> int | None:
    """Return the fees for the uses of tools, or None if the fee of a used tool is unknown."""
    prices = {name: fees.get(name) for name in FEES} | {"web_search": units.web_search}
    total = 0
    for name, price in prices.items():
        if count := extra.get(name, 0):
            if price is None:
                return None
            total += count * price
    return total
