"""The store in a PostgreSQL database. Four threads use it, each with its own connection.

A gateway holds an advisory lock for as long as it is connected. A second gateway, with a journal of its own, is
refused, unless both are configured to share the database. Gateways that share the database also share the quotas
(`bank.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from time import monotonic, sleep
from typing import Final
from zlib import crc32

from gateway.store.base import JournalOffset, StoreFailed
from gateway.store.entries import Entry, SentCall
from gateway.store.exports import ExportStore
from gateway.store.postgres.address import Address
from gateway.store.postgres.connection import PostgresConnection
from gateway.store.postgres.schema import is_outdated, migrate, schema_version
from gateway.store.postgres.thread import PostgresThread
from gateway.store.postgres.writing import CREATE_BATCH, STARTING, expire, lock, write
from gateway.store.sql_reader import SqlReader, sent_calls

GATEWAYS: Final = 0x49524947
"""First number of the advisory lock that a gateway holds if it does not share its database: "IRIG" in ASCII. The second
number is a hash of the journal's id."""
SHARING: Final = 0x49524957
"""First number of the advisory lock that a gateway holds if it shares its database with other gateways: "IRIW" in
ASCII. The second number is a hash of the journal's id."""
LEAVING_SECONDS: Final = 1.0
"""Maximum number of seconds that a starting gateway waits until the server has released the lock of a gateway that has
just ended.
"""
_OTHERS: Final = """
SELECT a.application_name, a.client_addr FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.classid IN (CAST(? AS BIGINT), CAST(? AS BIGINT))
    AND l.objid <> CAST(? AS BIGINT) AND l.granted
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_OPEN_CALLS: Final = """
SELECT line FROM open_calls o WHERE journal IN ('', ?) AND NOT EXISTS (SELECT 1 FROM calls c WHERE c.id = o.id)
"""
_OFFSET: Final = "SELECT segment, byte FROM place WHERE journal = ?"


class PostgresStore(SqlReader):
    """A `Store` in the database at `address`, whose tables are created if missing.

    `journal` is the id of the journal from which the store is filled. Pages and reports read the database at `copy`,
    which is a replica. If `copy` is None, they read the database at `address`. If `is_shared` is true, other gateways
    may use the database too.

    Raises `StoreFailed` if the database at `address` cannot be used. A replica may still be unreachable, or without the
    newest tables.
    """

    def __init__(self, address: Address, journal: str, *, copy: Address | None = None, is_shared: bool = False) -> None:
        self._journal = journal
        self._is_shared = is_shared
        copy = copy or address
        check = partial(_check, name=str(copy))
        self._writing = PostgresThread(
            address, "writer", partial(prepare, journal=journal, name=str(address), is_shared=is_shared)
        )
        reading = PostgresThread(copy, "reader", check)
        super().__init__(reading, PostgresThread(copy, "reports", check), self._writing)
        self._exports = ExportStore(PostgresThread(address, "exports", check), self._writing)
        try:
            self._start_offset = self._writing.run_now(partial(_offset, journal=journal))
        except BaseException:
            self._writing.close_now()
            raise

    @property
    def start_offset(self) -> JournalOffset:
        return self._start_offset

    @property
    def exports(self) -> ExportStore:
        return self._exports

    async def offset(self) -> JournalOffset:
        return await self._writing.run(partial(_offset, journal=self._journal))

    async def write(self, entries: Sequence[Entry], offset: JournalOffset) -> None:
        await self._writing.run(
            partial(write, journal=self._journal, entries=entries, offset=offset, is_shared=self._is_shared)
        )

    async def open_calls(self) -> Sequence[SentCall]:
        """Return the open calls of this gateway."""
        lines = await self._writing.run(lambda connection: connection.execute(_OPEN_CALLS, (self._journal,)).fetchall())
        return sent_calls(line for (line,) in lines)

    async def expire(self, before: float, limit: int) -> int:
        return await self._writing.run(partial(expire, before=before, limit=limit))

    async def close(self) -> None:
        await self._exports.close()
        await super().close()


def _offset(connection: PostgresConnection, journal: str) -> JournalOffset:
    place = connection.execute(_OFFSET, (journal,)).fetchone()
    return JournalOffset(*place) if place is not None else JournalOffset()


def _other(connection: PostgresConnection, number: int, kinds: tuple[int, int]) -> tuple[str, str | None] | None:
    """Return the name and address of another gateway that uses the database, or None if there is none.

    Each gateway holds an advisory lock with two numbers. The first is one of `kinds`, and the second identifies the
    gateway. `number` identifies this gateway.

    When a gateway closes its connection, the server may release its lock a little later. So this function waits up to
    `LEAVING_SECONDS` for the lock of another gateway to be released.
    """
    end = monotonic() + LEAVING_SECONDS
    while True:
        other: tuple[str, str | None] | None = connection.execute(_OTHERS, (*kinds, number)).fetchone()
        if other is None or monotonic() >= end:
            return other
        sleep(0.05)


def _refuse_beside_older(connection: PostgresConnection, number: int, name: str) -> None:
    """Raise `StoreFailed` if the schema must be migrated while another gateway shares the database.

    The release of that gateway does not know the new tables, and would go on writing without them. `number` identifies
    this gateway.
    """
    if is_outdated(connection, name) and (other := _other(connection, number, (SHARING, SHARING))):
        raise StoreFailed(
            f"{name}: a gateway of an older release uses this database: {_place(other)}; stop all its gateways before "
            "this release changes its schema"
        )


def _place(gateway: tuple[str, str | None]) -> str:
    """Return the name of a gateway, with its address if it is connected by TCP."""
    name, address = gateway
    return f"{name} ({address})" if address is not None else name


def prepare(connection: PostgresConnection, journal: str, name: str, *, is_shared: bool) -> None:
    """Migrate the database, and take the advisory lock that shows that the gateway uses it. Several processes of one
    gateway may hold this lock.

    Raises `StoreFailed` in these cases:

    - Another gateway uses the database, and at least one of the two is not configured to share it.
    - The database must be migrated while another gateway uses it.
    - A later release wrote the database.
    - The encoding of the database is not UTF-8.
    """
    number = crc32(journal.encode())
    with connection.transaction():
        lock(connection, STARTING)
        encoding = connection.execute("SHOW server_encoding").fetchone()[0]
        if encoding != "UTF8":
            raise StoreFailed(f"{name}: its encoding is {encoding}; create a database with ENCODING 'UTF8'")
        _refuse_beside_older(connection, number, name)
        migrate(connection, name)
        if other := _other(connection, number, (GATEWAYS, GATEWAYS if is_shared else SHARING)):
            raise StoreFailed(
                f"{name}: another gateway uses this database: {_place(other)}; give each gateway a database of its "
                'own, or set "storage.shared" in both'
            )
        signed = number - 2**32 if number >= 2**31 else number
        numbers = (SHARING if is_shared else GATEWAYS, signed)
        connection.execute("SELECT pg_advisory_lock_shared(CAST(? AS INTEGER), CAST(? AS INTEGER))", numbers)
    connection.execute(CREATE_BATCH)


def _check(connection: PostgresConnection, name: str) -> None:
    """Raise `StoreFailed` if the database's schema is of a later release, or was not migrated yet."""
    if schema_version(connection, name) == 0:
        raise StoreFailed(f"{name}: has no tables; it must be a replica of the database in storage.url")
