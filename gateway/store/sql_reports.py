"""The reports of a store in a database. A separate thread computes them, so that other reads need not wait."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol, TypeVar

from gateway.store.few_calls import with_sums
from gateway.store.reports import details, sums, tables
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
from gateway.store.sql import Connection, Thread

T_co = TypeVar("T_co", covariant=True)


class Report(Protocol[T_co]):
    """A function that computes a report about a selection of calls."""

    def __call__(self, connection: Connection, /, *, selection: Selection) -> T_co: ...


class SqlReports:
    """A `ReportStore` that reads the tables of a database. It reads them in its own thread."""

    def __init__(self, thread: Thread) -> None:
        self._thread = thread

    async def summaries(self, selection: Selection, buckets: Sequence[Span]) -> tuple[Summary, ...]:
        return await self._report(selection, partial(sums.summaries, buckets=buckets))

    async def people(self, selection: Selection, buckets: Sequence[Span]) -> Sequence[set[str]]:
        return await self._report(selection, partial(sums.people, buckets=buckets))

    async def rows(self, selection: Selection, by: Dimension, *, latencies: bool = True) -> tuple[Row, ...]:
        return await self._report(selection, partial(tables.table_rows, by=by, latencies=latencies))

    async def ranking(self, selection: Selection, by: Dimension, measure: Measure) -> Sequence[Ranked]:
        return await self._report(selection, partial(sums.ranking, by=by, measure=measure))

    async def stack(self, selection: Selection, buckets: Sequence[Span], by: Dimension, measure: Measure) -> Stack:
        return await self._report(selection, partial(sums.stack, buckets=buckets, by=by, measure=measure))

    async def errors(self, selection: Selection, buckets: Sequence[Span], limit: int) -> Errors:
        return await self._report(selection, partial(details.errors, buckets=buckets, limit=limit))

    async def models(self, selection: Selection, buckets: Sequence[Span]) -> Models:
        return await self._report(selection, partial(details.models, buckets=buckets))

    async def health(self) -> tuple[ModelHealth, ...]:
        return await self._thread.run(details.health)

    async def tools(self, selection: Selection, limit: int) -> tuple[ToolRow, ...]:
        return await self._report(selection, partial(details.tools, limit=limit))

    async def names(self, user: str | None) -> Names:
        return await self._thread.run(partial(details.names, user=user))

    async def header_terms(self, user: str | None, names: Sequence[str], limit: int) -> tuple[str, ...]:
        return await self._thread.run(partial(details.header_terms, user=user, names=names, limit=limit))

    async def _report(self, selection: Selection, report: Report[T_co]) -> T_co:
        """Return the result of a report about a selection. The report is computed in the thread."""

        def run(connection: Connection) -> T_co:
            with with_sums(connection, selection) as (source, calls):
                return report(source, selection=calls)

        return await self._thread.run(run)
