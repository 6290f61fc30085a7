"""Text for money, counts and times, as filters of the templates.

An unknown cost is never shown as $0.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from gateway.contract.record import NANODOLLARS

UNKNOWN: Final = "unknown"

_AGES: Final = (
    (60, 1, "s"),
    (3600, 60, "min"),
    (86400, 3600, "h"),
    (30 * 86400, 86400, "d"),
)
"""Units of ages: the age in seconds below which a unit is used, the unit in seconds, and the unit's name."""
_NOW: Final = 5
"""Age in seconds below which a moment is "just now"."""


def money(nanodollars: int | None) -> str:
    """Return an amount in dollars, with four decimal places between zero and one dollar, and two otherwise."""
    if nanodollars is None:
        return UNKNOWN
    if 0 < nanodollars < NANODOLLARS // 10_000:
        return "< $0.0001"
    digits = 2 if nanodollars == 0 or nanodollars >= NANODOLLARS else 4
    return f"${nanodollars / NANODOLLARS:,.{digits}f}"


def exact(nanodollars: int | None) -> str:
    """Return an amount in dollars with all nine decimal places."""
    return UNKNOWN if nanodollars is None else f"${nanodollars // NANODOLLARS}.{nanodollars % NANODOLLARS:09d}"


def price(unit: int | None) -> str:
    """Return a price in dollars per million tokens, with all its decimal places and at least two.

    `unit` is the price of one token in 1e-15 dollars.
    """
    if unit is None:
        return UNKNOWN
    dollars, rest = divmod(unit, NANODOLLARS)
    return f"${dollars:,}.{f'{rest:09d}'.rstrip('0'):0<2}"


def count(number: int) -> str:
    return f"{number:,}"


def utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def ago(at: float, now: float) -> str:
    """Return the approximate age of a moment, or its date if the moment is 30 days ago or more."""
    age = now - at
    if age < _NOW:
        return "just now"
    for below, unit, name in _AGES:
        if age < below:
            return f"{int(age // unit)} {name} ago"
    return datetime.fromtimestamp(at, UTC).strftime("%d %b %Y")


def seconds(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "–"
    return f"{milliseconds:,.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:,.1f} s"
