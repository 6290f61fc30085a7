"""The reports of a store in a database. A separate thread computes them, so that other reads need not wait."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from gateway.store.reports import details, sums
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
from gateway.store.sql import Thread


class SqlReports:
    """A `ReportStore` in the tables of a database, which a thread of its own reads."""

    def __init__(self, thread: Thread) -> None:
        self._thread = thread

    async def summaries(self, selection: Selection, buckets: Sequence[Span]) -> tuple[Summary, ...]:
        return await self._thread.run(partial(sums.summaries, selection=selection, buckets=buckets))

    async def people(self, selection: Selection, buckets: Sequence[Span]) -> Sequence[set[str]]:
        return await self._thread.run(partial(sums.people, selection=selection, buckets=buckets))

    async def rows(self, selection: Selection, by: Dimension, *, latencies: bool = True) -> tuple[Row, ...]:
        return await self._thread.run(partial(sums.table_rows, selection=selection, by=by, latencies=latencies))

    async def ranking(self, selection: Selection, by: Dimension, measure: Measure) -> Sequence[Ranked]:
        return await self._thread.run(partial(sums.ranking, selection=selection, by=by, measure=measure))

    async def stack(self, selection: Selection, buckets: Sequence[Span], by: Dimension, measure: Measure) -> Stack:
        query = partial(sums.stack, selection=selection, buckets=buckets, by=by, measure=measure)
        return await self._thread.run(query)

    async def errors(self, selection: Selection, buckets: Sequence[Span], limit: int) -> Errors:
        return await self._thread.run(partial(details.errors, selection=selection, buckets=buckets, limit=limit))

    async def models(self, selection: Selection, buckets: Sequence[Span]) -> Models:
        return await self._thread.run(partial(details.models, selection=selection, buckets=buckets))

    async def health(self) -> tuple[ModelHealth, ...]:
        return await self._thread.run(details.health)

    async def tools(self, selection: Selection, limit: int) -> tuple[ToolRow, ...]:
        return await self._thread.run(partial(details.tools, selection=selection, limit=limit))

    async def names(self, user: str | None) -> Names:
        return await self._thread.run(partial(details.names, user=user))
