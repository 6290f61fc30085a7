"""The arguments and the results of reports.

Money is in integer nanodollars, durations are in milliseconds, and timestamps are in seconds of Unix time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

import msgspec

from gateway.store.totals import Totals

Dimension = Literal["model", "user", "provider", "agent", "api", "status", "outcome"]
DIMENSIONS: Final[tuple[Dimension, ...]] = get_args(Dimension)
"""The properties by which calls can be grouped. `api` is the compatibility flag (API format) of the client's route."""
Measure = Literal["cost", "tokens", "calls", "errors", "saved"]
MEASURES: Final[tuple[Measure, ...]] = get_args(Measure)
"""The amounts that a chart can show, such as the cost."""
QUARTER: Final = 900
"""Number of seconds in a quarter of an hour, which is the finest resolution of sums."""


class Span(NamedTuple):
    """A range of time."""

    since: float
    """Unix time in seconds at which the range begins, a multiple of `QUARTER`."""
    until: float
    """Exclusive end of the range, as Unix time in seconds. It is a multiple of `QUARTER` too."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """The calls that a report covers. A field that is None does not restrict the calls."""

    span: Span
    user: str | None = None
    """Login of the caller. It is "" for callers without a login."""
    provider: str | None = None
    model: str | None = None
    agent: str | None = None
    api: str | None = None
    status: tuple[int, int] | None = None
    """Lowest and highest HTTP status that a selected call may have."""
    outcome: str | None = None
    header: str | None = None
    """Recorded header that the calls must have, such as `x-team`, or header and value, such as `x-team:alpha`."""


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """The distribution of a duration, from a histogram (`store/histogram.py`).

    A percentile of 50 ms (the first bound) means at most 50 ms. A percentile of 500 s (the last bound) means at least
    500 s.
    """

    calls: int
    p50: float | None
    """Median in milliseconds. It is None if there are no calls."""
    p95: float | None
    """95th percentile in milliseconds. It is None if there are no calls."""
    counts: tuple[int, ...]
    """Number of calls in each bucket of the histogram. The upper bounds are `histogram.BOUNDS`. The last number counts
    the calls above the highest bound."""


class Figures(Totals, frozen=True, kw_only=True):
    """Sums over calls. The field `failed` includes the refused and the cancelled calls, which also have fields of their
    own.
    """

    refused: int
    """Number of calls that the gateway refused."""
    cancelled: int
    """Number of calls whose client left before the end of the reply."""
    duration_ms: int
    """Sum of the durations of the calls."""

    @property
    def errors(self) -> int:
        """The number of calls that were refused, failed or lost. A call that the client cancelled is not counted."""
        return self.failed - self.cancelled

    @property
    def error_share(self) -> float | None:
        """The fraction of errors in all calls. It is None if there are no calls."""
        return self.errors / self.calls if self.calls else None

    @property
    def cache_written(self) -> int:
        """The number of input tokens that were written to a cache."""
        return self.usage.cache_write_5m + self.usage.cache_write_1h

    @property
    def tokens(self) -> int:
        """The number of tokens of all kinds. Reasoning tokens are a part of the output."""
        usage = self.usage
        return usage.input + usage.output + usage.cache_read + self.cache_written

    @property
    def cache_share(self) -> float | None:
        """The fraction of input tokens that were read from a cache. It is None if there is no input."""
        given = self.usage.input + self.usage.cache_read + self.cache_written
        return self.usage.cache_read / given if given else None

    def amount(self, measure: Measure) -> int:
        """Return the value of a measure, such as the number of tokens. The cost is the total of all known costs."""
        amounts = {
            "cost": self.known_cost,
            "tokens": self.tokens,
            "calls": self.calls,
            "errors": self.errors,
            "saved": self.cache_saved,
        }
        return amounts[measure]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The sums over some calls, their latencies, and the number of active people."""

    figures: Figures
    duration: Latency
    """Time from a request's arrival to the last byte of its reply."""
    first_event: Latency
    """Time from a request's arrival to the first event of its stream."""
    people: int
    """Number of logins with at least one call."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The summary of a range of time (`now`), and of the range before it. `before` is None if no comparison is
    requested.
    """

    now: Summary
    before: Summary | None


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """The summary of one time bucket, such as a day."""

    span: Span
    summary: Summary


class Stack(msgspec.Struct, frozen=True):
    """Amounts of a measure, for each value of a dimension in each time bucket."""

    amounts: Mapping[str, tuple[int, ...]]
    unknown_cost: tuple[int, ...]
    """Number of calls in each time bucket whose cost is unknown."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a chart. It stands for one value of a dimension, such as one model, and has an amount for each time
    bucket.
    """

    name: str
    """Value of the dimension. It is `OTHERS` for all values that have no line of their own."""
    amounts: tuple[int, ...]
    total: int


OTHERS: Final = "\x00others"
"""Name of the line of a chart that stands for all values without a line of their own. No client can choose this name.
"""


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """Amounts of a measure over time, stacked by a dimension."""

    measure: Measure
    by: Dimension
    unit: Literal["hour", "day", "week", "month"]
    buckets: tuple[Span, ...]
    lines: tuple[Line, ...]
    """Lines in descending order of their totals. The line `OTHERS`, if there is one, is last."""
    unknown_cost: tuple[int, ...]
    """Number of calls in each time bucket whose cost is unknown."""
    before: tuple[int, ...] | None
    """Total amounts in each time bucket of the preceding range. The value is None if no comparison is requested."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The sums over the calls of one value of a dimension, such as one model."""

    name: str
    figures: Figures
    duration: Latency
    first_event: Latency
    last_at: float
    """Unix time in seconds at which the quarter hour of the last call begins."""


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    """The amount of a measure for one value of a dimension, such as the cost of one model."""

    name: str
    amount: int
    """The amount, such as the total of all known costs in nanodollars."""
    unknown_cost: int
    """Number of calls whose cost is unknown."""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table with a row for each value of the dimension `by`, sorted and cut to a limit. `size` is the number of rows
    before the cut.
    """

    by: Dimension
    rows: tuple[Row, ...]
    size: int


class ErrorRow(msgspec.Struct, frozen=True, kw_only=True):
    """The errors of one provider that have the same code. The provider "" stands for the gateway itself."""

    code: str
    provider: str
    calls: int
    amounts: tuple[int, ...]
    """Number of errors in each time bucket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRow:
    """Errors that have the same message apart from numbers and quoted text."""

    code: str
    native: str
    """The provider's own name for the error."""
    provider: str
    message: str
    """The message of the newest error in the row."""
    calls: int
    example: str
    """Id of the call with this message. The call may have expired."""
    last_at: float


class Errors(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of errors by code, provider and time bucket, and the errors' messages."""

    buckets: tuple[Span, ...]
    rows: tuple[ErrorRow, ...]
    messages: tuple[MessageRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelHealth:
    """The last success and the last error of a model at one provider."""

    provider: str
    model: str
    last_success_at: float | None
    last_error_at: float | None
    last_error: str
    """Code of the last error. It is "" if there was none."""
    last_error_message: str
    last_error_call: str
    """Id of the call with the last error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """A model at a provider: sums over the selected calls, and the model's health. The health is the same for every
    selection.
    """

    provider: str
    model: str
    figures: Figures
    duration: Latency
    first_event: Latency
    health: ModelHealth | None
    errors: tuple[int, ...]
    """Number of errors in each time bucket."""
    calls: tuple[int, ...]
    """Number of calls in each time bucket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The models that were called. Each row counts calls and errors in each of the time buckets `buckets`."""

    buckets: tuple[Span, ...]
    rows: tuple[ModelRow, ...]


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of active people. A person is active on a day with at least one call."""

    days: tuple[tuple[Span, int], ...]
    """Pairs of a day, and the number of people who were active on this day."""
    weeks: tuple[tuple[Span, int], ...]
    """Pairs of a week, which begins on Monday, and the number of people who were active in this week."""
    months: tuple[tuple[Span, int], ...]
    four_of_seven: tuple[tuple[Span, int], ...]
    """Pairs of a day, and the number of people who were active on at least four of the seven days that end with this
    day."""


class ToolRow(msgspec.Struct, frozen=True, kw_only=True):
    """The use of one tool."""

    name: str
    calls: int
    """Number of times that models called the tool."""
    users: int


Names = Mapping[Dimension, tuple[str, ...]]
"""The values that calls have in each dimension, sorted. For example, the dimension `model` has the names of models."""
