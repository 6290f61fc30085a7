"""The arithmetic of a call's cost: the tokens of each kind, multiplied by their price.

A call may have several separately billed parts, such as the use of a fallback model. Each part has its own prices.
`call/cost_of_call.py` has computed the recorded cost, with the prices at the time of the call. The page shows the
arithmetic only if today's prices lead to the same cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, localcontext
from typing import Final, NamedTuple

from gateway.call.context import Gateway
from gateway.call.cost_of_call import price_of_part
from gateway.contract.facts import Part, Usage
from gateway.contract.record import Record
from gateway.money.prices.rates import PER_MILLION, Amount, Priced, Units, nanodollars, units_for
from gateway.web.dashboard import words

_KINDS: Final = (
    ("input", "Fresh input"),
    ("cache_read", "Read from cache"),
    ("cache_write_5m", "Written to cache for 5 minutes"),
    ("cache_write_1h", "Written to cache for 1 hour"),
    ("output", "Output"),
    ("reasoning", "Output for reasoning"),
)
OTHER: Final = "Tools, media and factors"
"""Label of the part of a cost that is not for tokens: fees for tools, prices of media, and the surcharge for a
geography.
"""
_DIGITS: Final = 60
"""Precision, in decimal digits, of the sums of amounts. An amount has at most 30 digits."""


class PriceLine(NamedTuple):
    """The number of tokens of one kind, their price, and the product."""

    kind: str
    tokens: int | None
    """The number of tokens. It is None if the amount is not for tokens."""
    price: str
    """Dollars for 1M tokens. The value is "" if the amount is not for tokens."""
    amount: str
    """The exact cost in dollars."""


class PartSum(NamedTuple):
    """The cost of one separately billed part of a call."""

    name: str
    """The kind of the part and the model that served it, such as "Message by NAME". The value is "" if the call has no
    other part.
    """
    row: str
    """Name of the price list's row by which the part is priced."""
    lines: tuple[PriceLine, ...]
    total: str
    """The exact sum in dollars."""


class Arithmetic(NamedTuple):
    """The computation of a call's cost from the price list."""

    parts: tuple[PartSum, ...]
    """The separately billed parts of the last attempt."""
    earlier: int
    """The cost of all attempts before the last one, in nanodollars."""
    adjustment: str
    """The price factor of the configuration. It is "" if there is none."""


def arithmetic(gateway: Gateway, record: Record) -> Arithmetic | None:
    """Return the arithmetic of a call's cost, or None if today's price list does not lead to the recorded cost."""
    provider = gateway.runtime.config.providers.get(record.provider)
    own = record.tried[-1].cost if record.tried else record.cost
    if provider is None or record.cost is None or own is None:
        return None
    sums: list[PartSum] = []
    amounts: list[Amount] = []
    adjustments: set[Decimal] = set()
    for part in _parts(record):
        priced, _ = price_of_part(gateway.runtime.prices, provider, record.model, part)
        if priced is None:
            if part.usage == Usage() and record.parts:
                continue
            return None
        amount = priced.amount(part.usage, tier=part.tier, geo=part.geo, extra=part.extra, at=record.at)
        if amount is None:
            return None
        name = f"{part.kind.capitalize()} by {part.model or record.model}" if len(record.parts) > 1 else ""
        lines = tuple(_lines(priced, part, amount, record.at))
        sums.append(PartSum(name, priced.row(record.at), lines, _text(_dollars(amount))))
        amounts.append(amount)
        adjustments.add(priced.adjustment)
    rows = {one.row for one in sums}
    recorded = set(filter(None, record.cost_basis.split(", ")))
    # attempts that failed may have been priced by other rows
    if nanodollars(amounts) != own or not (rows <= recorded if record.tried else rows == recorded):
        return None
    adjustments.discard(Decimal(1))
    return Arithmetic(tuple(sums), record.cost - own, ", ".join(f"{factor:f}" for factor in sorted(adjustments)))


def _parts(record: Record) -> tuple[Part, ...]:
    if record.parts:
        return record.parts
    model = record.served_model
    return (Part(usage=record.usage, model=model, tier=record.tier, geo=record.geo, extra=record.extra),)


def _lines(priced: Priced, part: Part, amount: Amount, at: float) -> Iterator[PriceLine]:
    rates = priced.rates(at)
    steps = rates.steps(part.tier, part.geo) or rates.steps(part.tier)
    rest = _dollars(amount)
    if steps is not None:
        units = units_for(part.usage, steps)
        for kind, label in _KINDS:
            if count := _count(part.usage, kind, units):
                unit = getattr(units, kind)
                with localcontext(prec=_DIGITS):
                    rest -= Decimal(count * unit).scaleb(-priced.places)
                yield PriceLine(label, count, words.cents(priced.usd(unit, PER_MILLION)), priced.usd(count * unit))
    if rest:
        yield PriceLine(OTHER, None, "", _text(rest))


def _count(usage: Usage, kind: str, units: Units) -> int:
    """Return the number of tokens of a kind. Output includes reasoning, unless reasoning has a price of its own."""
    reasoning = min(usage.reasoning, usage.output) if units.reasoning is not None else 0
    match kind:
        case "reasoning":
            return reasoning
        case "output":
            return usage.output - reasoning
        case _:
            count: int = getattr(usage, kind)
            return count


def _dollars(amount: Amount) -> Decimal:
    with localcontext(prec=_DIGITS):
        return Decimal(amount.units).scaleb(-amount.places)


def _text(dollars: Decimal) -> str:
    with localcontext(prec=_DIGITS):
        return f"{dollars.normalize():f}"
