"""The last versions of the configuration that several gateways share, in their PostgreSQL database.

All gateways use the newest version. A gateway that adds a version also names the newest version that it knows. If
another gateway has added a version meanwhile, nothing is added. So no gateway overwrites a change that it has not seen.
"""

from __future__ import annotations

from functools import partial
from time import time
from typing import Final, NamedTuple

from gateway.store.postgres.address import Address
from gateway.store.postgres.connection import PostgresConnection
from gateway.store.postgres.thread import PostgresThread

ADDED: Final = "irisgate_configuration"
"""PostgreSQL's channel on which gateways are notified of a new version of the configuration."""
KEPT: Final = 50
"""Number of versions of the configuration that are kept."""
_EXISTS: Final = "SELECT to_regclass('configurations') IS NOT NULL"
_NEWEST: Final = "SELECT n, at, who, text FROM configurations ORDER BY n DESC LIMIT 1"
_ADD: Final = """
INSERT INTO configurations (n, at, who, text)
SELECT CAST(? AS BIGINT) + 1, CAST(? AS DOUBLE PRECISION), CAST(? AS TEXT), CAST(? AS TEXT)
WHERE (SELECT COALESCE(max(n), 0) FROM configurations) = CAST(? AS BIGINT)
ON CONFLICT DO NOTHING RETURNING n
"""


class SharedVersion(NamedTuple):
    """A version of the shared configuration."""

    number: int
    """The number of the version. The first version has the number 1."""
    at: float
    """Unix time in seconds at which the version was added."""
    who: str
    """Login of the admin who saved the version, or "file" if the file of a gateway was edited."""
    text: str
    """The text of the configuration's file, with any secrets that are in the file."""


class Configurations:
    """The versions in the database at `address`. The connection is made when it is first needed.

    Each method raises `StoreFailed` if the server cannot be reached or refuses a statement.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._thread = PostgresThread(address, "configuration", lambda _connection: None)

    async def newest(self) -> SharedVersion | None:
        """Return the newest version. It is None if there is none, or if the database has no tables yet."""
        return await self._thread.run(_newest)

    async def add(self, text: str, who: str, *, after: int) -> int | None:
        """Add a version, and notify all gateways. Return its number, which is `after` + 1.

        `after` is the number of the newest version that this gateway knows, or 0 if it knows none. If another gateway
        has added a version meanwhile, nothing is added, and None is returned.
        """
        return await self._thread.run(partial(_add, text=text, who=who, after=after), once=True)

    async def close(self) -> None:
        await self._thread.close()


def _newest(connection: PostgresConnection) -> SharedVersion | None:
    if not connection.execute(_EXISTS).fetchone()[0]:
        return None
    row = connection.execute(_NEWEST).fetchone()
    return None if row is None else SharedVersion(*row)


def _add(connection: PostgresConnection, text: str, who: str, after: int) -> int | None:
    with connection.transaction():
        row = connection.execute(_ADD, (after, time(), who, text, after)).fetchone()
        if row is None:
            return None
        number: int = row[0]
        connection.execute("DELETE FROM configurations WHERE n <= ?", (number - KEPT,))
        connection.execute("SELECT pg_notify(?, ?)", (ADDED, str(number)))
    return number
