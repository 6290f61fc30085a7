"""The protocol of the reports of a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.store.reports.values import (
    Dimension,
    Errors,
    Measure,
    ModelHealth,
    Models,
    Names,
    Ranked,
    Row,
    Selection,
    Span,
    Stack,
    Summary,
    ToolRow,
)


class ReportStore(Protocol):
    """Queries for sums over calls. Every method is called on the event loop and never blocks it.

    Every method raises `StoreFailed` if the store cannot be read.
    """

    async def summaries(self, selection: Selection, buckets: Sequence[Span]) -> tuple[Summary, ...]:
        """Return the summary of each time bucket."""

    async def people(self, selection: Selection, buckets: Sequence[Span]) -> Sequence[set[str]]:
        """Return, for each time bucket, the logins with at least one call in this bucket."""

    async def rows(self, selection: Selection, by: Dimension, *, latencies: bool = True) -> tuple[Row, ...]:
        """Return one row of sums for each value of a dimension, such as each model. The rows have no particular order.

        If `latencies` is false, the rows have empty latencies, which halves the time of the query.
        """

    async def ranking(self, selection: Selection, by: Dimension, measure: Measure) -> Sequence[Ranked]:
        """Return the amount of a measure for each value of a dimension, the largest first."""

    async def stack(self, selection: Selection, buckets: Sequence[Span], by: Dimension, measure: Measure) -> Stack:
        """Return the amounts of a measure, such as the cost, for each value of a dimension in each time bucket."""

    async def errors(self, selection: Selection, buckets: Sequence[Span], limit: int) -> Errors:
        """Return the numbers of errors by code, provider and time bucket, and at most `limit` error messages."""

    async def models(self, selection: Selection, buckets: Sequence[Span]) -> Models:
        """Return the models that were called, in the order of provider and model."""

    async def health(self) -> tuple[ModelHealth, ...]:
        """Return the last success and the last error of each model that was ever called."""

    async def tools(self, selection: Selection, limit: int) -> tuple[ToolRow, ...]:
        """Return at most `limit` tools that models called, the most used first."""

    async def names(self, user: str | None) -> Names:
        """Return all values of each dimension in the calls of one login, or in all calls if `user` is None."""

    async def header_terms(self, user: str | None, names: Sequence[str], limit: int) -> tuple[str, ...]:
        """Return texts by which calls can be filtered: the names in `names`, such as `x-team`, and at most `limit`
        headers with a value, such as `x-team:alpha`.

        The values are from the calls of the login `user`, or from all calls if `user` is None.
        """
