"""Checks of a store in PostgreSQL: its server, its tables, and whether the stored sums include all calls.

A repair computes wrong sums anew. It does not restore a damaged database: PostgreSQL's own tools do that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from gateway.process.doctor.result import REPAIR, Result, error, ok, repaired, warning
from gateway.store.base import StoreFailed, rfc3339
from gateway.store.postgres.address import Address
from gateway.store.postgres.schema import MIGRATIONS, schema_version

if TYPE_CHECKING:
    from gateway.store.postgres.connection import PostgresConnection

_CHECK: Final = "database"
_CALLS: Final = "SELECT count(*), coalesce(max(at), 0), pg_database_size(current_database()) FROM calls"


def checks(address: Address, *, repair: bool) -> Iterator[Result]:
    """Yield the results of all checks of the database at `address`.

    If `repair` is true, stored sums that do not include all calls are computed anew.
    """
    if find_spec("asyncpg") is None:
        yield error(_CHECK, f"{address}: asyncpg is not installed", "install irisgate[postgres]")
        return
    # asyncpg is an extra
    from gateway.store.postgres.connection import FAILURES, PostgresConnection  # noqa: PLC0415

    remedy = "start the server, let it accept this user and machine, or correct storage.url"
    try:
        with closing(PostgresConnection(address, "repair" if repair else "doctor")) as connection:
            remedy = "nothing was changed; see the message, and run it again"
            yield from _examined(connection, address, repair=repair)
    except StoreFailed as failure:
        yield error(_CHECK, str(failure), "see the message")
    except FAILURES as failure:
        yield error(_CHECK, f"{address}: {failure or 'it does not answer'}", remedy)


def _examined(connection: PostgresConnection, address: Address, *, repair: bool) -> Iterator[Result]:
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
    # asyncpg is an extra
    from gateway.store.postgres.recount import repair_sums, wrong_sums  # noqa: PLC0415

    if repair:
        if found := repair_sums(connection):
            yield repaired(_CHECK, f"{found} sums lacked calls, and are counted again")
    elif found := wrong_sums(connection):
        yield error(_CHECK, f"{found} sums lack calls that are stored", REPAIR)
