"""The work of the command `irisgate export`: exports either the calls that are not exported yet, or the calls of a
range of days.

The command may run at the same time as a gateway (`export.py`).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from gateway.config.exporters import Exporter, Format
from gateway.config.model import Config
from gateway.process.exports.export import MAX_BYTES, BodiesOf, Export, ExportFailed
from gateway.process.exports.folder import FolderTarget
from gateway.process.exports.targets import target_of
from gateway.process.stores import database_path, open_store
from gateway.store.base import Store, StoreFailed
from gateway.store.bodies import Bodies, bodies_path
from gateway.store.examine import opened
from gateway.store.exports import Numbered
from gateway.store.schema import require_this_schema
from gateway.telemetry.log import Logger

_PER_FILE: Final = 10_000
"""Maximum number of calls in one file, if a range of days is exported."""
_FIRST_DAY: Final = date(1970, 1, 1)


class NotExported(Exception):
    """The error for an export that failed. The message has the reason."""


class Range(NamedTuple):
    """The calls of a range of days (UTC), and the folder to which they are exported."""

    folder: Path
    first: date | None
    """The first day. None stands for the day of the oldest call."""
    last: date | None
    """The last day, which is included. None stands for the present day."""
    format: Format
    bodies: bool


class Source(NamedTuple):
    """The store and the bodies from which calls are exported."""

    store: Store
    bodies_of: BodiesOf


def catch_up(config: Config, state: Path, log: Logger) -> list[str]:
    """Export all calls that the exporters of a configuration have not exported yet. Return a line for each exporter.

    Raises `NotExported` if an export fails.
    """
    if not config.exporters:
        raise NotExported('the configuration has no exporter; write one, such as "exporters": {"folder": {"path": …}}')
    return asyncio.run(_with_store(config, state, log, config.exporters))


def export_range(config: Config, state: Path, log: Logger, wanted: Range) -> list[str]:
    """Export the calls of a range of days to files. Return a list with one line, which says what was exported.

    The positions of exporters are not changed. Raises `NotExported` if the export fails.
    """
    if wanted.format == "parquet":
        if find_spec("pyarrow") is None:
            raise NotExported("--format parquet needs pyarrow; install irisgate[parquet]")
        if wanted.bodies:
            raise NotExported("bodies are not in the format parquet; use cbor.zstd or json.gz for them")
    return asyncio.run(_with_store(config, state, log, wanted))


async def _with_store(config: Config, state: Path, log: Logger, work: tuple[Exporter, ...] | Range) -> list[str]:
    try:
        _require_schema(config, state)
        store = open_store(config, state)
    except (StoreFailed, sqlite3.Error) as error:
        raise NotExported(str(error)) from None
    try:
        bodies = Bodies(bodies_path(database_path(config, state)), log, lambda: config.bodies.retention)
        source = Source(store, partial(bodies.read, identity=None))
        if isinstance(work, Range):
            return [await _export_range(source, work)]
        return [await _catch_up(source, exporter) for exporter in work]
    except (ExportFailed, StoreFailed) as error:
        raise NotExported(str(error)) from None
    finally:
        await store.close()


def _require_schema(config: Config, state: Path) -> None:
    """Raise `NotExported` if the SQLite file does not exist, and `StoreFailed` if it has another release's schema."""
    if config.storage.postgres is not None:
        return
    path = database_path(config, state)
    if not path.is_file():
        raise NotExported(f"there is no store {path}; name the state folder with --state, or the file in storage.url")
    with opened(path) as connection:
        require_this_schema(connection, str(path))


async def _catch_up(source: Source, exporter: Exporter) -> str:
    target = target_of(exporter)
    counts: list[int] = []
    try:
        await Export(exporter, source.store.exports, target, source.bodies_of).all(counts.append)
    finally:
        await target.close()
    return f"{exporter.id}: {sum(counts)} calls in {len(counts)} objects were exported to {exporter.destination}"


async def _export_range(source: Source, wanted: Range) -> str:
    exporter = Exporter("folder", wanted.folder, wanted.format, limit=_PER_FILE, bodies=wanted.bodies)
    export = Export(exporter, source.store.exports, FolderTarget(wanted.folder), source.bodies_of)
    since, until = _milliseconds(wanted.first or _FIRST_DAY), _milliseconds(_day_after(wanted.last))
    counts = await source.store.exports.read_time(since, until, partial(_write_files, export, wanted.folder))
    return f"{sum(counts)} calls in {len(counts)} files were exported to {wanted.folder}"


def _write_files(export: Export, folder: Path, calls: Iterator[Numbered]) -> list[int]:
    """Write calls to files, and return the number of calls in each file. Runs in the thread that reads the store."""
    target = FolderTarget(folder)
    counts: list[int] = []
    while (batch := export.encode(islice(calls, _PER_FILE), MAX_BYTES)).calls:
        target.write(batch.name, batch.data)
        counts.append(batch.calls)
    return counts


def _day_after(day: date | None) -> date:
    return (day or datetime.now(UTC).date()) + timedelta(days=1)


def _milliseconds(day: date) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
