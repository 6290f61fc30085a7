"""Checks of a store in PostgreSQL: its server, its tables, and whether the stored sums include all calls.

Nothing is repaired here. A damaged database is restored with PostgreSQL's own tools.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from gateway.process.doctor.result import Result, error, ok, warning
from gateway.store.base import StoreFailed, rfc3339
from gateway.store.postgres.address import Address
from gateway.store.postgres.schema import MIGRATIONS, schema_version

if TYPE_CHECKING:
    from gateway.store.postgres.connection import PostgresConnection

_CHECK: Final = "database"
_CALLS: Final = "SELECT count(*), coalesce(max(at), 0), pg_database_size(current_database()) FROM calls"
_LACKING: Final = """
SELECT count(*) FROM (SELECT at - at % 900000 AS time, count(*) AS calls FROM calls GROUP BY 1) c
WHERE c.calls > coalesce((SELECT sum(f.calls) FROM everybody_quarter f WHERE f.time = c.time), 0)
"""
_LACKING_OF_AGENTS: Final = """
SELECT count(*) FROM (SELECT time, sum(calls) AS calls FROM figures_day GROUP BY 1) f
WHERE f.calls > coalesce((SELECT sum(a.calls) FROM agents_day a WHERE a.time = f.time), 0)
"""


def checks(address: Address) -> Iterator[Result]:
    """Yield the results of all checks of the database at `address`."""
    if find_spec("asyncpg") is None:
        yield error(_CHECK, f"{address}: asyncpg is not installed", "install irisgate[postgres]")
        return
    # asyncpg is an extra
    from gateway.store.postgres.connection import FAILURES, PostgresConnection  # noqa: PLC0415

    try:
        with closing(PostgresConnection(address, "reader")) as connection:
            yield from _examined(connection, address)
    except StoreFailed as failure:
        yield error(_CHECK, str(failure), "see the message")
    except FAILURES as failure:
        remedy = "start the server, let it accept this user and machine, or correct storage.url"
        yield error(_CHECK, f"{address}: {failure or 'it does not answer'}", remedy)


def _examined(connection: PostgresConnection, address: Address) -> Iterator[Result]:
    server = connection.execute("SHOW server_version").fetchone()[0]
    version = schema_version(connection, str(address))
    if version == 0:
        yield ok(_CHECK, f"{address}: PostgreSQL {server}, and the first start makes the tables")
        return
    if version < len(MIGRATIONS):
        yield warning(_CHECK, f"{address}: its schema is of an earlier release", "the next start migrates it")
        return
    calls, last, size = connection.execute(_CALLS).fetchone()
    about = f"{calls} calls, the last of {rfc3339(last / 1000)}" if calls else "no calls"
    yield ok(_CHECK, f"{address}: PostgreSQL {server}, {about}, {size // 1_000_000} MB")
    if lacking := connection.execute(_LACKING).fetchone()[0]:
        remedy = "restore a backup of the database with PostgreSQL's tools"
        yield error(_CHECK, f"the sums of {lacking} quarter hours lack calls that are stored", remedy)
    if lacking := connection.execute(_LACKING_OF_AGENTS).fetchone()[0]:
        remedy = "stop any gateway of an older release; reports by agent stay too low on these days"
        yield error(_CHECK, f"the sums by agent of {lacking} days lack calls that are stored", remedy)
