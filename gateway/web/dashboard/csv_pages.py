"""CSV files of the tables on pages. A CSV file has the filter of its page, but also contains the rows for which the
page has no room.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from typing import Final, TypeVar

from aiohttp import web

from gateway.web.admin.csv_responses import csv_response
from gateway.web.dashboard.visit import Visit
from gateway.web.reports.csv_files import Cell, as_csv

T = TypeVar("T")

FORMAT: Final = "format"
"""Name of the query parameter that asks for CSV."""
MOST: Final = 10_000
"""Maximum number of rows of a CSV file. The CSV files of people and of models have limits of their own."""


def wants_csv(seen: Visit) -> bool:
    """Return whether the query asks for CSV. Raises `BadQuery` for another format."""
    return seen.choice(FORMAT, ("html", "csv")) == "csv"


async def csv_page(seen: Visit, name: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> web.Response:
    """Return the CSV file of a page. The file's name has the page's name and the range of days.

    A thread makes the rows and writes the file, so `rows` may be a generator that does much work.
    """
    return _response(seen, name, await asyncio.to_thread(lambda: as_csv(columns, list(rows))))


async def csv_page_in_steps(
    seen: Visit, name: str, columns: Sequence[str], steps: AsyncIterable[Iterable[T]], line: Callable[[T], str]
) -> web.Response:
    """Return the CSV file of a page, from rows that are read in several steps. `line` returns the CSV line of a row.

    For some ten thousand rows, this takes half the time of `csv_page`, which makes a list of cells from each row. The
    rows of a step are freed before the next step, because freeing all rows at once would block the event loop for too
    long.
    """
    parts = [await asyncio.to_thread(_joined, rows, line) async for rows in steps]
    return _response(seen, name, b"".join((as_csv(columns, ()), *parts)))


def _joined(rows: Iterable[T], line: Callable[[T], str]) -> bytes:
    return "".join([line(row) for row in rows]).encode("utf-8", "replace")


def _response(seen: Visit, name: str, body: bytes) -> web.Response:
    return csv_response(f"irisgate-{name}-{seen.filter.range.first}-{seen.filter.range.last}", body)
