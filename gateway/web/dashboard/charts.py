"""Geometry of the charts. Templates draw them as SVG.

- The server makes the charts, so that a page is complete without a script and readable for a screen reader.
- Horizontal positions are percentages. So a chart fills any width, and its text is never stretched.
- This file knows no store and no template. Amounts are integers, and the caller passes a function that formats them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple

import msgspec

from gateway.web.dashboard.words import Text

PLOT: Final = 200
"""Height of the plot in pixels."""
TOP: Final = 12
"""Pixels above the plot. The upper half of the highest label is there."""
BOTTOM: Final = 26
"""Pixels below the plot. The labels of the columns are there."""
COLOURS: Final = 6
"""Number of series in a chart that have a colour of their own. All further series are added up to one series, which has
one more colour."""
_TICKS: Final = 4
"""Approximate number of steps of the vertical axis."""
_STEPS: Final = (1, 2, 5, 10)
_LABELS: Final = 8
"""Maximum number of labels below a wide chart. A narrow chart shows every second one."""
_GAP: Final = 0.2
"""Share of a column's width that stays empty between two columns."""
_MARK: Final = 7
"""Height in pixels of the mark above a column. The mark says that the cost of some calls is unknown."""


class Slot(NamedTuple):
    """The range of time that one column of a chart stands for, such as a day or an hour."""

    label: str
    """The full name of the range of time, such as "Mon 23 Nov"."""
    short: str
    """The short name of the range of time, for the label below the column."""
    since: str
    """The start of the range of time, as a page's query parameter `from`: a day, or a day and a time for a column of
    one hour. It is "" if the column stands for one call.
    """
    until: str
    """The end of the range of time, as a page's query parameter `to`: the last day, or a day and a time for a column of
    one hour. It is "" if the column stands for one call.
    """
    href: str
    """The URL to which the column links: the page for only this range of time, or the page of the call."""


class Series(msgspec.Struct, frozen=True):
    """The amounts of one name, such as a model or a caller: one amount for each column of the chart."""

    name: str
    amounts: tuple[int, ...]
    rest: bool = False
    """True for the series that adds up the amounts of all names without a colour of their own."""
    hidden: bool = False
    href: str = ""
    """The URL of the same page with this series hidden, or with the series shown if it is hidden now."""
    note: str = ""
    """Text that the legend shows instead of the total."""

    @property
    def total(self) -> int:
        """The sum of the amounts."""
        return sum(self.amounts)


class Segment(NamedTuple):
    """A rectangle of a column."""

    css: str
    y: float
    height: float


class Column(NamedTuple):
    """A column of a chart.

    Horizontal positions are in percent of the chart's width, and vertical positions are in pixels.
    """

    slot: Slot
    x: float
    width: float
    hit_x: float
    hit_width: float
    segments: tuple[Segment, ...]
    unpriced_y: float | None
    """Position of the mark for unknown costs. It is None if the cost of every call is known."""
    lines: tuple[tuple[str, str], ...]
    """Names and values shown for the selected column, the total first."""


class Tick(NamedTuple):
    """A line of the vertical axis with its label."""

    y: float
    label: str


class Label(NamedTuple):
    """A label below a column."""

    x: float
    anchor: str
    text: str
    minor: bool
    """Whether a narrow chart leaves the label out."""


class Key(NamedTuple):
    """An entry of the legend."""

    name: str
    css: str
    total: str
    hidden: bool
    href: str


class Stacked(msgspec.Struct, frozen=True):
    """A chart of stacked columns."""

    columns: tuple[Column, ...]
    ticks: tuple[Tick, ...]
    labels: tuple[Label, ...]
    legend: tuple[Key, ...]
    before: str
    """Points of the line for the previous range, in a coordinate system that is 1000 wide and `PLOT` high. The value is
    "" if there is no line.
    """
    unpriced: bool
    """Whether any column has calls with an unknown cost."""
    height: int = TOP + PLOT + BOTTOM
    plot: int = PLOT
    top: int = TOP
    mark: int = _MARK

    @property
    def base(self) -> int:
        """The vertical position of the horizontal axis, measured from the top of the chart."""
        return self.top + self.plot


def stacked(
    slots: Sequence[Slot],
    series: Sequence[Series],
    text: Text,
    axis: Text,
    *,
    before: Sequence[int] = (),
    unpriced: Sequence[int] = (),
) -> Stacked:
    """Return the chart of several series. `text` formats amounts, and `axis` formats the labels of the axis.

    `before` has the previous range's total for each column. `unpriced` has the number of calls with an unknown cost for
    each column.
    """
    shown = [one for one in series if not one.hidden]
    totals = [sum(one.amounts[at] for one in shown) for at in range(len(slots))]
    top, step = scale(max([*totals, *before], default=0))
    css = _css(series)
    width = 100 / max(1, len(slots))
    columns = tuple(
        Column(
            slot=slot,
            x=round((at + _GAP / 2) * width, 3),
            width=round(width * (1 - _GAP), 3),
            hit_x=round(at * width, 3),
            hit_width=round(width, 3),
            segments=_segments([(css[one.name], one.amounts[at]) for one in shown], top),
            unpriced_y=_y(totals[at], top) - _MARK if _at(unpriced, at) else None,
            lines=_lines(at, totals[at], shown, text, before, unpriced),
        )
        for at, slot in enumerate(slots)
    )
    return Stacked(
        columns=columns,
        ticks=tuple(Tick(_y(value, top), axis(value)) for value in range(0, top + 1, step)),
        labels=_labels(slots),
        legend=tuple(Key(one.name, css[one.name], one.note or text(one.total), one.hidden, one.href) for one in series),
        before=" ".join(
            f"{(at + 0.5) * width * 10:.1f},{_y(value, top) - TOP:.1f}" for at, value in enumerate(before[: len(slots)])
        ),
        unpriced=any(unpriced),
    )


def scale(highest: int) -> tuple[int, int]:
    """Return the upper end of an axis from 0 to at least `highest`, and the step between two labels."""
    rough = max(1, -(-highest // _TICKS))
    power = 10 ** (len(str(rough)) - 1)
    step = next(factor * power for factor in _STEPS if factor * power >= rough)
    return max(step, -(-highest // step) * step), step


def spark(amounts: Sequence[int | float | None]) -> str:
    """Return the points of a sparkline, in coordinates of a box that is 100 wide and 30 high. None counts as 0. Return
    "" if there are fewer than two amounts.
    """
    values = [value or 0 for value in amounts]
    if len(values) < 2:
        return ""
    highest = max(values) or 1
    return " ".join(
        f"{at * 100 / (len(values) - 1):.2f},{28 - 26 * value / highest:.2f}" for at, value in enumerate(values)
    )


def largest(amounts: dict[str, tuple[int, ...]], keep: int = COLOURS) -> tuple[list[tuple[str, tuple[int, ...]]], int]:
    """Return the `keep` names with the largest totals, largest first, and the number of other names.

    If there are other names, the last entry of the list is their sum, under the name "".
    """
    ordered = sorted(amounts.items(), key=lambda item: (-sum(item[1]), item[0]))
    first, others = ordered[:keep], ordered[keep:]
    if not others:
        return first, 0
    return [*first, ("", tuple(map(sum, zip(*(values for _, values in others), strict=True))))], len(others)


def _css(series: Sequence[Series]) -> dict[str, str]:
    names = [one.name for one in series if not one.rest]
    return {
        **{name: f"s{at % COLOURS}" for at, name in enumerate(names)},
        **{one.name: "rest" for one in series if one.rest},
    }


def _y(value: int, top: int) -> float:
    return round(TOP + PLOT * (1 - value / top), 2)


def _segments(amounts: Sequence[tuple[str, int]], top: int) -> tuple[Segment, ...]:
    ends = accumulate(amount for _, amount in amounts)
    return tuple(
        Segment(css, _y(end, top), round(PLOT * amount / top, 2))
        for (css, amount), end in zip(amounts, ends, strict=True)
        if amount
    )


def _lines(
    at: int, total: int, shown: Sequence[Series], text: Text, before: Sequence[int], unpriced: Sequence[int]
) -> tuple[tuple[str, str], ...]:
    lines = [("Total", text(total))]
    if len(shown) > 1:
        lines += [(one.name, text(one.amounts[at])) for one in shown if one.amounts[at]]
    if at < len(before):
        lines.append(("Period before", text(before[at])))
    if count := _at(unpriced, at):
        lines.append(("Calls with an unknown cost", f"{count:,}"))
    return tuple(lines)


def _at(amounts: Sequence[int], at: int) -> int:
    return amounts[at] if at < len(amounts) else 0


def _labels(slots: Sequence[Slot]) -> tuple[Label, ...]:
    """Return the labels of the columns: at most `_LABELS`, at equal distances. The first and the last label are aligned
    so that they stay inside the chart.
    """
    every = max(1, -(-len(slots) // _LABELS))
    width = 100 / max(1, len(slots))
    chosen = range(0, len(slots), every)
    labels = []
    for number, at in enumerate(chosen):
        anchor = "middle"
        if len(slots) > _LABELS and at == 0:
            anchor = "start"
        elif len(slots) > _LABELS and at > len(slots) - 1 - every / 2:
            anchor = "end"
        x = {"start": at * width, "middle": (at + 0.5) * width, "end": (at + 1) * width}[anchor]
        labels.append(Label(round(x, 2), anchor, slots[at].short, minor=number % 2 == 1))
    return tuple(labels)
