"""The reports that one reader may see: an admin sees all calls, anybody else only the own calls.

Every method takes the filter of the page. For a reader who is no admin, the login in the filter is replaced by the
reader's own before anything is read.
"""

from __future__ import annotations

from typing import Protocol

from gateway.contract.record import Record
from gateway.store.base import Page, Session
from gateway.store.reports.values import (
    Activity,
    Chart,
    Comparison,
    Dimension,
    Errors,
    Measure,
    Models,
    Names,
    Point,
    Table,
    ToolRow,
)
from gateway.web.reports.page_filter import PageFilter


class Reports(Protocol):
    """The reports of one reader. Every method raises `StoreFailed` if the store cannot be read."""

    async def totals(self, wanted: PageFilter) -> Comparison:
        """Return the summary of the range, and of the range before if the filter compares."""

    async def trend(self, wanted: PageFilter) -> tuple[Point, ...]:
        """Return the summary of each bucket of the range, for sparklines."""

    async def chart(self, wanted: PageFilter, by: Dimension, measure: Measure, *, lines: int = 7) -> Chart:
        """Return amounts over time, stacked by a dimension. The smaller amounts beyond `lines` lines are added up."""

    async def table(
        self, wanted: PageFilter, by: Dimension, *, sort: str = "cost", limit: int = 10, offset: int = 0
    ) -> Table:
        """Return the figures of each value of a dimension, the highest first.

        `sort` is a measure, "name", "last", "cache_read" or "wasted" (the most negative `saved` first).
        """

    async def errors(self, wanted: PageFilter, *, limit: int = 100) -> Errors:
        """Return errors by code and provider over time, and the most frequent messages."""

    async def models(self, wanted: PageFilter) -> Models:
        """Return the models that were called, with figures, error bars and health."""

    async def activity(self, wanted: PageFilter) -> Activity:
        """Return the numbers of active people over time."""

    async def tools(self, wanted: PageFilter, *, limit: int = 50) -> tuple[ToolRow, ...]:
        """Return the tools that models called, the most used first."""

    async def names(self) -> Names:
        """Return all values of each dimension, for the filters' fields and the command palette."""

    async def sessions(self, wanted: PageFilter, *, limit: int, cursor: str | None = None) -> Page[Session]:
        """Return the sessions with a call in the range, the newest first."""

    async def timeline(self, wanted: PageFilter, session: str, *, limit: int = 500) -> tuple[Record, ...]:
        """Return the calls of a session in the order of their beginning, at most the last `limit` of them."""
