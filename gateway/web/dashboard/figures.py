"""The tiles and bar lists of pages. A tile shows one number and its change since the previous range of time. A row of a
bar list has a bar that compares its amount with the largest amount of the list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from gateway.store.histogram import BOUNDS
from gateway.store.reports.values import OTHERS, Dimension, Measure, Point, Ranked, Summary
from gateway.web.dashboard import charts, words
from gateway.web.dashboard.visit import Visit

Better = Literal["more", "less", ""]
"""Whether a higher ("more") or a lower ("less") number is better. The value is "" if neither is."""

NAMELESS: Final[dict[str, str]] = {
    "user": "Callers without a login",
    "provider": "No provider was reached",
    "model": "No model was reached",
    "agent": "Unnamed clients",
    "api": "Unknown format",
}
"""Text in place of an empty name, by dimension."""
OTHERS_TEXT: Final = "All others"


class Change(NamedTuple):
    """The change of a number since the previous range of time."""

    text: str
    css: str
    title: str


class Figure(msgspec.Struct, frozen=True):
    """The content of a tile: a number with its label."""

    label: str
    text: str
    value: str = ""
    """The exact value, for copying."""
    exact: str = ""
    """The exact value, formatted for a tooltip. It is "" if `text` is exact."""
    change: Change | None = None
    note: str = ""
    warn: bool = False
    spark: str = ""


class Bar(NamedTuple):
    """A row of a list, with a bar that compares the amount of the row with the largest amount of the list."""

    name: str
    title: str
    href: str
    share: float
    """Length of the bar, in percent of the longest bar."""
    value: str
    note: str


def label(by: Dimension, name: str) -> str:
    """Return the text that a page shows for a name. The name may be "", or `OTHERS` for the sum of all other names."""
    if name == OTHERS:
        return OTHERS_TEXT
    return name or NAMELESS.get(by, "–")


def amount_text(measure: Measure, amount: int) -> str:
    return words.money(amount) if measure in {"cost", "saved"} else words.short(amount)


def axis_text(measure: Measure, amount: int) -> str:
    return words.axis_money(amount) if measure in {"cost", "saved"} else words.axis_count(amount)


def tiles(now: Summary, before: Summary | None, trend: Sequence[Point], *, everybody: bool) -> list[Figure]:
    """Return the tiles of the summary `now`. Each tile shows the change since the summary `before`, if there is one,
    and a sparkline of the points `trend`. `everybody` adds a tile with the number of active people.
    """
    figures, earlier = now.figures, before.figures if before else None
    points = [point.summary for point in trend]
    unknown = figures.cost_unknown_calls
    made = [
        Figure(
            "Spend",
            f"≥ {words.money(figures.cost)}" if unknown and figures.cost is not None else words.money(figures.cost),
            value=words.decimal(figures.known_cost),
            exact=words.exact(figures.cost),
            change=_relative(figures.known_cost, earlier.known_cost, words.money) if earlier else None,
            note=f"+ {words.count(unknown)} unpriced" if unknown else "",
            warn=True,
            spark=charts.spark([point.figures.known_cost for point in points]),
        ),
        Figure(
            "Calls",
            words.short(figures.calls),
            value=str(figures.calls),
            exact=words.count(figures.calls),
            change=_relative(figures.calls, earlier.calls, words.count) if earlier else None,
            spark=charts.spark([point.figures.calls for point in points]),
        ),
        Figure(
            "Errors",
            words.percent(figures.error_share),
            change=_points(figures.error_share, earlier.error_share, "less") if earlier else None,
            note=f"{words.short(figures.errors)} call{'' if figures.errors == 1 else 's'}"
            if figures.errors
            else "none",
            spark=charts.spark([point.figures.error_share for point in points]),
        ),
        Figure(
            "First event, p95",
            words.percentile(now.first_event.p95),
            change=_slower(now.first_event.p95, before.first_event.p95) if before else None,
            note=f"median {words.percentile(now.first_event.p50)}" if now.first_event.calls else "",
            spark=charts.spark([point.first_event.p95 for point in points]),
        ),
        Figure(
            "Input from cache",
            words.percent(figures.cache_share),
            change=_points(figures.cache_share, earlier.cache_share, "more") if earlier else None,
            note=f"saved {words.money(figures.cache_saved)}" if figures.cache_saved > 0 else "",
            spark=charts.spark([point.figures.cache_share for point in points]),
        ),
    ]
    if everybody:
        made.append(
            Figure(
                "Active people",
                words.short(now.people),
                change=_relative(now.people, before.people, words.count) if before else None,
                spark=charts.spark([point.people for point in points]),
            )
        )
    return made


def bars(seen: Visit, by: Dimension, rows: Sequence[Ranked], measure: Measure) -> list[Bar]:
    """Return the rows of a list with bars. A row with a name links to the page filtered by this name."""
    highest = max([*(row.amount for row in rows), 1])
    return [
        Bar(
            label(by, row.name),
            "",
            seen.href(**{by: row.name}) if row.name else "",
            round(max(0.0, 100 * row.amount / highest), 2),
            _value(row, measure),
            f"+ {words.short(row.unknown_cost)} unpriced" if measure == "cost" and row.unknown_cost else "",
        )
        for row in rows
    ]


def _value(row: Ranked, measure: Measure) -> str:
    if measure == "cost":
        return words.money(None if row.unknown_cost and not row.amount else row.amount)
    return amount_text(measure, row.amount)


def _relative(now: int, before: int, text: words.Text) -> Change | None:
    title = f"Period before: {text(before)}"
    if not before:
        return Change("nothing before", "", title) if now else None
    ratio = now / before - 1
    if abs(ratio) < 0.005:
        return Change("± 0%", "", title)
    return Change(f"{'▲' if ratio > 0 else '▼'} {_ratio(abs(ratio))}", "", title)


def _ratio(ratio: float) -> str:
    return f"{ratio * 100:.0f}%" if ratio < 10 else f"{ratio + 1:,.0f} ×"


def _points(now: float | None, before: float | None, better: Better) -> Change | None:
    """Return the change of a fraction, such as the fraction of failed calls, in percentage points. Return None if `now`
    or `before` is None.
    """
    if now is None or before is None:
        return None
    points = (now - before) * 100
    title = f"Period before: {words.percent(before)}"
    if abs(points) < 0.05:
        return Change("± 0", "", title)
    return Change(f"{'▲' if points > 0 else '▼'} {abs(points):.1f} pts", _css(points, better), title)


def _slower(now: float | None, before: float | None) -> Change | None:
    # two percentiles that are both only known to be short or long cannot be compared
    if not now or not before or (now == before and now in (BOUNDS[0], BOUNDS[-1])):
        return None
    ratio = now / before - 1
    title = f"Period before: {words.percentile(before)}"
    if abs(ratio) < 0.005:
        return Change("± 0%", "", title)
    return Change(f"{'▲' if ratio > 0 else '▼'} {_ratio(abs(ratio))}", _css(ratio, "less"), title)


def _css(difference: float, better: Better) -> str:
    if not better:
        return ""
    return "better" if (difference > 0) == (better == "more") else "worse"
