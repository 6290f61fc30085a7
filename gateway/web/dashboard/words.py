"""Text for money, counts and times, as filters of the templates.

An unknown cost is never shown as $0.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Final

from gateway.contract.record import NANODOLLARS
from gateway.store.histogram import BOUNDS

UNKNOWN: Final = "unknown"
Text = Callable[[int], str]

_AGES: Final = (
    (60, 1, "s"),
    (3600, 60, "min"),
    (86400, 3600, "h"),
    (30 * 86400, 86400, "d"),
)
"""The units of ages, each as (limit, length, name), with limit and length in seconds. An age is shown in the first unit
whose limit it is below.
"""
_NOW: Final = 5
"""An age below this number of seconds is shown as "just now"."""


def money(nanodollars: int | None) -> str:
    """Return an amount in dollars. An amount between zero and one dollar has four decimal places, and any other has
    two.
    """
    if nanodollars is None:
        return UNKNOWN
    if nanodollars < 0:
        return f"-{money(-nanodollars)}".replace("-< ", "> -")
    if 0 < nanodollars < NANODOLLARS // 10_000:
        return "< $0.0001"
    digits = 2 if nanodollars == 0 or nanodollars >= NANODOLLARS else 4
    return f"${nanodollars / NANODOLLARS:,.{digits}f}"


def exact(nanodollars: int | None) -> str:
    """Return an amount in dollars with all nine decimal places."""
    if nanodollars is None:
        return UNKNOWN
    text = decimal(nanodollars)
    return f"-${text[1:]}" if text.startswith("-") else f"${text}"


def decimal(nanodollars: int) -> str:
    """Return an amount as a decimal number of dollars, without "$"."""
    sign, amount = ("-", -nanodollars) if nanodollars < 0 else ("", nanodollars)
    return f"{sign}{amount // NANODOLLARS}.{amount % NANODOLLARS:09d}"


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


_SHORT: Final = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k"))
"""Suffixes of shortened numbers such as "1.50M", each with its factor."""
_WHOLE: Final = 10_000
"""Numbers below this one are written in full."""


def short(number: int) -> str:
    """Return a number with three significant digits and a unit, or in full if it is below 10,000."""
    if abs(number) < _WHOLE:
        return f"{number:,}"
    return _short(number)


def _short(number: float) -> str:
    """Return a number of 1,000 or more with three significant digits and a unit."""
    for unit, name in _SHORT:
        # 999,950 would be shown as "1000k"
        if abs(number) >= unit * 0.9995:
            value = number / unit
            digits = max(0, 2 - len(f"{abs(value):.0f}") + 1)
            return f"{value:,.{digits}f}{name}"
    return f"{number:,.0f}"


def axis_money(nanodollars: int) -> str:
    """Return an amount as a label of a chart's axis, with as many digits as it needs: "$0.5" or "$20k"."""
    dollars = nanodollars / NANODOLLARS
    if dollars >= 1000:
        value, unit = next((dollars / size, name) for size, name in _SHORT if dollars >= size)
        return f"${value:,.6g}{unit}"
    return f"${dollars:.9f}".rstrip("0").rstrip(".")


def axis_count(number: int) -> str:
    """Return the text of a number at the axis of a chart, such as "1.5M"."""
    value, unit = next(((number / size, name) for size, name in _SHORT if number >= size), (float(number), ""))
    return f"{value:,.6g}{unit}"


def percent(share: float | None) -> str:
    """Return a fraction in percent. The text has one decimal place if it is below 10%, and none if it is not."""
    if share is None:
        return "–"
    if 0 < share < 0.001:
        return "< 0.1%"
    return f"{share * 100:.1f}%" if 0 < share < 0.0995 else f"{share * 100:.0f}%"


def brief(name: str, most: int = 72) -> str:
    """Return a name. If it is longer than `most` characters, its middle is left out."""
    return name if len(name) <= most else f"{name[: most - 17]}…{name[-16:]}"


def clock(at: float, zone: tzinfo) -> str:
    """Return the date and the time of day in a zone, with the zone's abbreviation or its offset from UTC."""
    return datetime.fromtimestamp(at, zone).strftime("%Y-%m-%d %H:%M:%S %Z")


def ago(at: float, now: float) -> str:
    """Return how long ago the time `at` was, such as "5 min ago". If it was 30 days ago or more, return its date."""
    age = now - at
    if age < _NOW:
        return "just now"
    for below, unit, name in _AGES:
        if age < below:
            return f"{int(age // unit)} {name} ago"
    return datetime.fromtimestamp(at, UTC).strftime("%d %b %Y")


_OUTCOMES: Final = {"ok": "good", "cancelled": "ended"}
"""The CSS class of a call's outcome. An outcome that is not in this mapping is a failure."""


def outcome_css(outcome: str) -> str:
    """Return the CSS class of a call's outcome. `cancelled` is not shown as a failure."""
    return _OUTCOMES.get(outcome, "off")


def cents(dollars: str) -> str:
    """Return an amount in dollars with at least two decimal places. Zeros are added if necessary."""
    whole, _, rest = dollars.partition(".")
    return f"{whole}.{rest:0<2}"


def span(seconds: float) -> str:
    """Return a duration, rounded down to one unit, such as "47 min"."""
    for below, unit, name in _AGES:
        if seconds < below:
            return f"{int(seconds // unit)} {name}"
    return f"{int(seconds // 86400)} d"


def percentile(milliseconds: float | None) -> str:
    """Return the text of an estimated percentile. Outside of the histogram's bounds, the text is a bound: "≥ 500 s"."""
    if milliseconds is None or BOUNDS[0] < milliseconds < BOUNDS[-1]:
        return seconds(milliseconds)
    return f"≤ {seconds(BOUNDS[0])}" if milliseconds <= BOUNDS[0] else f"≥ {seconds(BOUNDS[-1])}"


def seconds(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "–"
    return f"{milliseconds:,.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:,.1f} s"
