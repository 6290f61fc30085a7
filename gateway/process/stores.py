"""The store that the configuration names: an SQLite file, or a PostgreSQL database.

A database that several gateways share also has the balances of their quotas.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gateway.call.leases import Leases
from gateway.config.model import Config
from gateway.config.storage import Postgres, PostgresServer
from gateway.money.quotas.book import Quotas
from gateway.money.quotas.buckets import Bucket
from gateway.store.follower import JournalFollower
from gateway.store.journal_id import load_journal_id
from gateway.store.postgres import schema as postgres_schema
from gateway.store.postgres.address import Address, Tls
from gateway.store.schema import MIGRATIONS
from gateway.store.sqlite import SqliteStore
from gateway.telemetry.log import Logger

if TYPE_CHECKING:
    from gateway.store.postgres.bank import PostgresBank
    from gateway.store.postgres.listening import Listener
    from gateway.store.postgres.store import PostgresStore


def database_path(config: Config, state: Path) -> Path:
    """Return the path of the SQLite file: the path in `storage.url`, or else `irisgate.db`.

    A relative path starts at the state folder. The result is `irisgate.db` for a store in PostgreSQL too, because the
    path of the bodies' file is derived from it.
    """
    url = config.storage.url
    return state / (url.removeprefix("sqlite:") if url and config.storage.postgres is None else "irisgate.db")


def open_store(config: Config, state: Path) -> SqliteStore | PostgresStore:
    """Open the store. Raises `StoreFailed` if it cannot be opened.

    Opening a store in PostgreSQL includes connecting to the server, which may take some seconds.
    """
    postgres = config.storage.postgres
    if postgres is None:
        return SqliteStore(database_path(config, state), sync=config.storage.sync)
    # asyncpg is an extra, and takes a twentieth of a second to import
    from gateway.store.postgres.store import PostgresStore  # noqa: PLC0415

    copy = None if postgres.replica is None else address(postgres, postgres.replica)
    return PostgresStore(
        address(postgres, postgres.server),
        load_journal_id(state / "journal"),
        copy=copy,
        is_shared=postgres.sharing is not None,
    )


class SharedQuotas(NamedTuple):
    """The objects by which a gateway shares the balances of quotas with other gateways."""

    bank: PostgresBank
    leases: Leases
    listener: Listener

    async def start(self) -> None:
        """Register this gateway at the bank, which keeps the shared balances. Raises `StoreFailed` if the database
        cannot be reached.
        """
        await self.leases.start()
        self.listener.start()

    async def close(self) -> None:
        """Give back the parts of the shared balances that only this gateway may spend, and close the connections."""
        await self.listener.close()
        await self.leases.close()
        await self.bank.close()


def shared_quotas(
    config: Config, state: Path, quotas: Quotas, follower: JournalFollower, log: Logger
) -> SharedQuotas | None:
    """Return the objects that share the balances of quotas with other gateways, or None if this gateway shares none."""
    postgres = config.storage.postgres
    if postgres is None or postgres.sharing is None:
        return None
    # asyncpg is an extra, and takes a twentieth of a second to import
    from gateway.store.postgres.bank import PostgresBank  # noqa: PLC0415
    from gateway.store.postgres.listening import Listener  # noqa: PLC0415
    from gateway.store.postgres.shared_balances import RECALLED, REFILLED, bucket_named  # noqa: PLC0415

    server, (seconds, goes_on, _) = address(postgres, postgres.server), postgres.sharing
    bank = PostgresBank(server, load_journal_id(state / "journal"), seconds)
    leases = Leases(bank, quotas, follower, log, seconds=seconds, goes_on=goes_on)

    def named(stored: str) -> Bucket | None:
        return bucket_named(stored) if stored else None

    heard = {
        RECALLED: lambda bucket: leases.recalled(named(bucket)),
        REFILLED: lambda bucket: leases.refilled(named(bucket)),
    }
    return SharedQuotas(bank, leases, Listener(server, heard))


def address(postgres: Postgres, server: PostgresServer) -> Address:
    """Return the address of a PostgreSQL server in the form that the store uses."""
    is_verified = server.encryption == "verified"
    return Address(
        host=server.host,
        port=server.port,
        user=server.user,
        database=server.database,
        password=postgres.password.value,
        tls=None if server.encryption == "off" else Tls(verify=is_verified, authorities=postgres.authorities),
    )


def store_name(config: Config, state: Path) -> str:
    """Return a name of the store, without a password.

    A new process that is to replace a running gateway must use the same store. So the new process sends its name of the
    store, and the running gateway refuses if its own name of the store is different.
    """
    postgres = config.storage.postgres
    if postgres is None:
        return str(database_path(config, state).resolve())
    name = str(address(postgres, postgres.server))
    return name if postgres.sharing is None else f"{name}, shared"


def newest_schema(config: Config) -> int:
    """Return the version of the store's schema in this release."""
    return len(MIGRATIONS if config.storage.postgres is None else postgres_schema.MIGRATIONS)
