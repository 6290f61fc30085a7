"""Ranges of time in a reader's zone, and their buckets: hours, days, weeks or months.

Days and hours follow the zone's own clock, so a day on which the clocks change has 23 or 25 hours. Every bound is a
multiple of a quarter of an hour, as are the offsets of all zones today.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Final, Literal, get_args
from zoneinfo import ZoneInfo

import msgspec

from gateway.store.reports.values import QUARTER, Span

Unit = Literal["hour", "day", "week", "month"]
Preset = Literal["today", "yesterday", "24h", "7d", "30d", "90d", "12m", "month", "last-month", "custom"]
PRESETS: Final[tuple[Preset, ...]] = get_args(Preset)
_DAYS: Final = {"7d": 7, "30d": 30, "90d": 90}
HOUR: Final = 3600
HOURS_UNTIL: Final = 49 * HOUR
"""Longest range in seconds with a bucket for each hour. Two days have 49 hours if the clocks are set back."""
DAYS_UNTIL: Final = 62 * 86_400 + HOUR
"""Longest range in seconds with a bucket for each day: two months of 31 days, and the hour that is added when the
clocks are set back."""
WEEKS_UNTIL: Final = 190 * 86_400
"""Longest range in seconds with a bucket for each week."""
UTC_ZONE: Final = ZoneInfo("UTC")


class Range(msgspec.Struct, frozen=True):
    """A range of time that the reader of a page chose, in the reader's time zone."""

    preset: Preset
    span: Span
    before: Span
    """The previous range, for comparison, such as the day before or the month before."""
    first: date
    """The first day."""
    last: date
    """The last day, which is included."""
    zone: ZoneInfo
    has_times: bool = False
    """Whether the range begins or ends at a chosen time of a day, and not at midnight."""

    @property
    def begin_text(self) -> str:
        """The start of a custom range, as the query parameter `from`: the first day, or a time."""
        return moment_text(self.span.since, self.zone) if self.has_times else self.first.isoformat()

    @property
    def end_text(self) -> str:
        """The end of a custom range, as the query parameter `to`: the last day, or the time at which the range ends."""
        return moment_text(self.span.until, self.zone) if self.has_times else self.last.isoformat()

    @property
    def unit(self) -> Unit:
        """The unit of the time buckets into which the range is divided. A longer range has a larger unit."""
        seconds = self.span.until - self.span.since
        if seconds <= HOURS_UNTIL:
            return "hour"
        if seconds <= DAYS_UNTIL:
            return "day"
        return "week" if seconds <= WEEKS_UNTIL else "month"

    def buckets(self, unit: Unit | None = None) -> tuple[Span, ...]:
        """Return the buckets of the range in order. The first and the last bucket may be shorter than their unit."""
        return cut(self.span, unit or self.unit, self.zone)

    def buckets_before(self, unit: Unit | None = None) -> tuple[Span, ...]:
        """Return the buckets of the previous range."""
        return cut(self.before, unit or self.unit, self.zone)


def preset_range(preset: Preset, zone: ZoneInfo, now: float) -> Range:
    """Return the range of a preset other than `custom`.

    The preset `24h` ends with the current hour. Any other range that includes today ends with the current quarter of an
    hour.
    """
    until = (now // QUARTER + 1) * QUARTER
    today = datetime.fromtimestamp(now, zone).date()
    match preset:
        case "24h":
            until = (now // HOUR + 1) * HOUR
            span, before = Span(until - 24 * HOUR, until), Span(until - 48 * HOUR, until - 24 * HOUR)
            return Range(preset, span, before, _day_of(span.since, zone), today, zone)
        case "yesterday":
            return custom_range(today - timedelta(1), today - timedelta(1), zone, preset=preset)
        case "last-month":
            last = today.replace(day=1) - timedelta(1)
            return custom_range(last.replace(day=1), last, zone, preset=preset)
        case "month":
            first = today.replace(day=1)
            earlier = _months_before(first, 1)
            end = _months_before(today, 1)
        case "12m":
            first = _months_before(today.replace(day=1), 11)
            earlier = _months_before(first, 12)
            end = _months_before(today, 12)
        case _:
            days = timedelta(_DAYS.get(preset, 1))
            first = today - days + timedelta(1)
            earlier, end = first - days, today - days
    # the previous range ends at the same time of the day
    elapsed = min(until, midnight(today + timedelta(1), zone)) - midnight(today, zone)
    same_time = min(midnight(end, zone) + elapsed, midnight(first, zone))
    return Range(
        preset, Span(midnight(first, zone), until), Span(midnight(earlier, zone), same_time), first, today, zone
    )


def custom_range(first: date, last: date, zone: ZoneInfo, *, preset: Preset = "custom") -> Range:
    """Return the range from the first to the last day.

    If the range is one calendar month, the previous range (`Range.before`) is the month before it. If not, the previous
    range has the same number of days.
    """
    begin, end = midnight(first, zone), midnight(last + timedelta(1), zone)
    is_month = first.day == 1 and (last + timedelta(1)) == _months_before(first, -1)
    earlier = _months_before(first, 1) if is_month else first - (last - first) - timedelta(1)
    return Range(preset, Span(begin, end), Span(midnight(earlier, zone), begin), first, last, zone)


def moments_range(since: float, until: float, zone: ZoneInfo) -> Range:
    """Return the range between two Unix times in seconds. Both must be multiples of a quarter of an hour.

    `Range.before`, the range for comparison, has the same length.
    """
    before = Span(since - (until - since), since)
    return Range(
        "custom", Span(since, until), before, _day_of(since, zone), _day_of(until - 1, zone), zone, has_times=True
    )


def moment_text(at: float, zone: ZoneInfo) -> str:
    """Return a Unix time as text for a URL, with the zone's offset.

    The offset is needed on a day on which the clocks are set back: two hours of that day differ only in the offset.
    """
    return datetime.fromtimestamp(at, zone).isoformat(timespec="minutes")


def midnight(day: date, zone: ZoneInfo) -> float:
    """Return the Unix time at which a day begins in a zone, even if the zone's clocks skip 00:00 on this day."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()


def cut(span: Span, unit: Unit, zone: ZoneInfo) -> tuple[Span, ...]:
    """Return the hours, days, weeks or months in a range. The first and the last may be cut by the range's bounds."""
    bounds = [span.since]
    while (following := _next(bounds[-1], unit, zone)) < span.until:
        bounds.append(following)
    bounds.append(span.until)
    return tuple(Span(*pair) for pair in pairwise(bounds))


def _next(at: float, unit: Unit, zone: ZoneInfo) -> float:
    """Return the Unix time at which the next hour, day, week or month (`unit`) begins in a zone."""
    local = datetime.fromtimestamp(at, zone)
    if unit == "hour":
        past = (local.minute * 60 + local.second) % HOUR
        return at + HOUR - past
    day = local.date()
    match unit:
        case "day":
            following = day + timedelta(1)
        case "week":
            following = day + timedelta(7 - day.weekday())
        case _:
            following = _months_before(day.replace(day=1), -1)
    return midnight(following, zone)


def _months_before(day: date, months: int) -> date:
    """Return the same day `months` months earlier, or the last day of that month if the month is shorter."""
    number = day.year * 12 + day.month - 1 - months
    first = date(number // 12, number % 12 + 1, 1)
    following = date((number + 1) // 12, (number + 1) % 12 + 1, 1)
    return min(first + timedelta(day.day - 1), following - timedelta(1))


def _day_of(at: float, zone: ZoneInfo) -> date:
    return datetime.fromtimestamp(at, zone).date()
