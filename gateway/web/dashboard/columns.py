"""Charts over time, in the reader's zone. Each column is a time bucket, such as a day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from gateway.store.reports.values import OTHERS, Chart, Span
from gateway.web.dashboard import charts, figures
from gateway.web.dashboard.visit import Visit
from gateway.web.dashboard.words import Text
from gateway.web.reports.ranges import moment_text

MAX_HIDDEN: Final = 20
"""Maximum number of a chart's series that the URL may hide."""


def slots(seen: Visit, buckets: Sequence[Span], unit: str) -> list[charts.Slot]:
    """Return the columns of a chart, one for each time bucket. A column links to the same page with the bucket as its
    range.
    """
    zone = seen.filter.zone
    made = []
    for span in buckets:
        since, last = datetime.fromtimestamp(span.since, zone), datetime.fromtimestamp(span.until - 1, zone)
        if unit == "hour":
            begin, end = moment_text(span.since, zone), moment_text(span.until, zone)
        else:
            begin, end = since.date().isoformat(), last.date().isoformat()
        href = seen.href(range="custom", **{"from": begin, "to": end})
        label, short = _labels(since, last, unit)
        made.append(charts.Slot(label, short, begin, end, href))
    return made


def _labels(since: datetime, last: datetime, unit: str) -> tuple[str, str]:
    day = f"{since.day} {since:%b}"
    match unit:
        case "hour":
            return f"{since:%a} {day}, {since:%H:%M}", f"{since:%H:%M}"
        case "day":
            return f"{since:%a} {day}", day
        case "week":
            return f"{day} – {last.day} {last:%b %Y}", day
        case _:
            return f"{since:%B %Y}", f"{since:%b}"


def draw(seen: Visit, chart: Chart) -> charts.Stacked:
    """Return a report's chart as columns. Its links hide or show a series, and open the page for the time of one
    column.
    """
    hidden = hidden_series(seen)
    series = [
        charts.Series(
            figures.label(chart.by, line.name),
            line.amounts,
            rest=line.name == OTHERS,
            hidden=at in hidden,
            href=toggle(seen, at) if len(chart.lines) > 1 else "",
            note="no known cost" if chart.measure == "cost" and not line.total and any(chart.unknown_cost) else "",
        )
        for at, line in enumerate(chart.lines)
    ]
    return charts.stacked(
        slots(seen, chart.buckets, chart.unit),
        series,
        lambda amount: figures.amount_text(chart.measure, amount),
        lambda amount: figures.axis_text(chart.measure, amount),
        before=chart.before if chart.before and any(chart.before) and not hidden else (),
        unpriced=chart.unknown_cost if chart.measure == "cost" else (),
    )


def draw_series(
    seen: Visit,
    buckets: Sequence[Span],
    amounts: Mapping[str, Sequence[int]],
    text: Text,
    axis: Text,
    *,
    ranked: bool = True,
) -> charts.Stacked:
    """Return the chart of several series. `amounts` maps the name of a series to its amount in each time bucket.

    If `ranked` is true, the largest series come first, and those without a colour of their own are added up. If not,
    the series have the order of `amounts`.
    """
    given = {name: tuple(values) for name, values in amounts.items()}
    named, others = charts.largest(given) if ranked else ([*given.items()], 0)
    hidden = hidden_series(seen)
    series = [
        charts.Series(
            name or f"{others} more", values, rest=not name, hidden=at in hidden,
            href=toggle(seen, at) if len(named) > 1 else "",
        )
        for at, (name, values) in enumerate(named)
    ]  # fmt: skip
    return charts.stacked(slots(seen, buckets, seen.filter.range.unit), series, text, axis)


def hidden_series(seen: Visit) -> set[int]:
    """Return the indexes of the series that the URL hides. A text that is not an index is ignored."""
    parts = seen.own.get("hide", "").split(",")[:MAX_HIDDEN]
    return {int(part) for part in parts if part.isascii() and part.isdigit() and len(part) < 3}


def toggle(seen: Visit, at: int) -> str:
    """Return the URL of the page with the series of index `at` hidden, or with the series shown if it is hidden now."""
    return seen.href(hide=",".join(map(str, sorted(hidden_series(seen) ^ {at}))) or None)
