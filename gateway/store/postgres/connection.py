"""A connection to PostgreSQL for one thread, which waits for each answer.

asyncpg needs an event loop, so the connection has an event loop of its own. The gateway's event loop never runs
asyncpg, because decoding thousands of rows would block it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final, TypeVar

import asyncpg

from gateway.store.postgres.address import Address, Role
from gateway.store.postgres.dialect import bounded, clamped, storable, translated

T = TypeVar("T")

CONNECT_SECONDS: Final = 5.0
"""Maximum number of seconds for connecting."""
STATEMENT_SECONDS: Final = 30.0
"""Maximum number of seconds for which the gateway waits for one statement. A server that does not answer for longer
counts as failed."""
REPAIR_SECONDS: Final = 900.0
"""Maximum number of seconds for which `irisgate doctor` waits for one statement. Its statements read all calls."""
MANY_ROWS: Final = 2_000
"""Maximum number of rows that are sent to the server at once. More rows are sent in several parts, and each part may
take `STATEMENT_SECONDS`.
"""
LOOK_SECONDS: Final = 1.0
"""Interval in seconds at which a thread that waits for a statement checks whether its connection still exists."""
LOCK_SECONDS: Final = 10
"""Maximum number of seconds for which a statement waits on the server for a lock of another connection."""
IDLE_SECONDS: Final = 30
"""Seconds without data from this gateway after which the PostgreSQL server sends TCP keepalive probes. If the gateway
does not answer, the server ends the connection and releases its locks."""
TOO_LARGE: Final = (asyncpg.NumericValueOutOfRangeError, asyncpg.DataError)
"""Exceptions for a number that does not fit into its column."""
FAILURES: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, asyncio.IncompleteReadError)
"""Exceptions for a connection that fails, and for a server that refuses a statement."""


class Rows:
    """The rows that a statement returned. This class implements the protocol `store.sql.Rows`."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self._rows = iter([tuple(row) for row in rows])

    def __iter__(self) -> Iterator[Any]:
        return self._rows

    def fetchone(self) -> Any:
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        return list(self._rows)


class PostgresConnection:
    """A connection to a PostgreSQL server, used by one thread. This class implements the protocol
    `store.sql.Connection`.

    Raises one of the exceptions `FAILURES` if the server cannot be reached or refuses the connection. Each method
    raises one of these exceptions if a statement fails.
    """

    def __init__(self, address: Address, role: Role) -> None:
        self.is_bounded = False
        """True while sums must stop at the largest integer of a column (`dialect.bounded`)."""
        self.keeps_house = False
        """True if this connection has the lock `HOUSEKEEPING`. Only its holder deletes expired calls
        (`writing.expire`).
        """
        self._seconds = _seconds(role)
        self._loop = asyncio.new_event_loop()
        try:
            self._connection = self._loop.run_until_complete(connect(address, role))
        except BaseException:
            self._loop.close()
            raise

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Rows:
        return Rows(self._run(self._connection.fetch(translated(statement), *storable(values))))

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]], /) -> None:
        for some in _in_parts(rows):
            if self.is_bounded:
                self._run(self._connection.executemany(translated(bounded(statement)), list(map(clamped, some))))
            else:
                self._run(self._connection.executemany(translated(statement), some))

    def copy(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Insert many rows into a table at once. PostgreSQL must be able to store their values (`dialect.storable`)."""
        self._run(self._connection.copy_records_to_table(table, records=rows, columns=columns))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the statements of the block in one transaction. If the block raises an exception, the transaction is
        rolled back.
        """
        transaction = self._connection.transaction()
        self._run(transaction.start())
        try:
            yield
        except BaseException:
            if not self._connection.is_closed():
                self._run(transaction.rollback())
            raise
        self._run(transaction.commit())

    @property
    def is_lost(self) -> bool:
        """Whether the server has ended the connection. This is noticed only while a statement runs."""
        return bool(self._connection.is_closed())

    def close(self) -> None:
        """Close the connection at once. The server rolls back a transaction that has not ended."""
        self._connection.terminate()
        # asyncpg's transport is closed by the loop's next round
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def _run(self, work: Awaitable[T]) -> T:
        # first, so that the statement is sent before asyncpg sees that the server has ended an idle connection
        task = self._loop.create_task(_awaited(work))
        return self._loop.run_until_complete(self._ended(task))

    async def _ended(self, task: asyncio.Task[T]) -> T:
        """Wait for a statement, and return its result.

        Raises `ConnectionError` if the connection is closed before the statement ends, or if the statement takes longer
        than twice its limit. The second check is for COPY, in which asyncpg waits for the socket without a time limit
        (`copy_in` in asyncpg's `protocol.pyx`).
        """
        until = self._loop.time() + 2 * self._seconds
        while not (await asyncio.wait({task}, timeout=LOOK_SECONDS))[0]:
            if self._connection.is_closed() or self._loop.time() > until:
                self._connection.terminate()
                task.cancel()
                raise ConnectionError("the connection broke off within a statement")
        return task.result()


def _in_parts(rows: Iterable[Sequence[Any]]) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows in lists of at most `MANY_ROWS`, with values that PostgreSQL can store."""
    remaining = iter(rows)
    while some := [storable(row) for row in islice(remaining, MANY_ROWS)]:
        yield some


async def _awaited(work: Awaitable[T]) -> T:
    return await work


def _seconds(role: Role) -> float:
    """Return the maximum number of seconds that a statement may take on a connection with this role."""
    return REPAIR_SECONDS if role in ("doctor", "repair") else STATEMENT_SECONDS


async def connect(address: Address, role: Role) -> asyncpg.Connection:
    """Return a new connection, which belongs to the running event loop.

    Raises one of the exceptions `FAILURES` if the server cannot be reached or refuses the connection.
    """
    settings = {
        "application_name": f"irisgate {role} on {socket.gethostname()}"[:63],
        "lock_timeout": f"{LOCK_SECONDS}s",
        "statement_timeout": f"{_seconds(role):.0f}s",
        "idle_in_transaction_session_timeout": f"{2 * _seconds(role):.0f}s",
        "tcp_keepalives_idle": f"{IDLE_SECONDS}s",
        "tcp_keepalives_interval": "5s",
        "tcp_keepalives_count": "3",
        # compiling a query takes longer than the gateway's queries do
        "jit": "off",
    }
    if role == "doctor":
        settings |= {"default_transaction_read_only": "on"}
    elif role in ("writer", "bank", "configuration", "repair"):
        # the journal's files are deleted once their lines are in the database
        settings |= {"synchronous_commit": "on"}
    else:
        settings |= {
            "default_transaction_read_only": "on",
            # a plan for all values reads all months
            "plan_cache_mode": "force_custom_plan",
            # PostgreSQL takes each of the short spans of a report for a ninth of the table, and would read all of it
            "enable_seqscan": "off",
            # tables are joined in the order that is written, as in SQLite: time ranges, then their sums, then series;
            # PostgreSQL would begin with a few series, and read the sums of all times for them
            "join_collapse_limit": "1",
        }
    connection = await asyncpg.connect(
        host=address.host,
        port=address.port,
        user=address.user,
        password=address.password or None,
        database=address.database,
        ssl=address.tls.context() if address.tls is not None else False,
        timeout=CONNECT_SECONDS,
        command_timeout=_seconds(role),
        server_settings=settings,
    )
    # sums of integers are numeric, and always whole
    await connection.set_type_codec("numeric", schema="pg_catalog", encoder=str, decoder=int, format="text")
    return connection
