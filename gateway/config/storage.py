"""Values of the section `storage`, as the gateway uses them (`model.py`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from gateway.config.document.secrets import Secret

Encryption = Literal["off", "unverified", "verified"]


class PostgresServer(NamedTuple):
    """A database on a PostgreSQL server."""

    host: str
    """A host name, an IP address, or the absolute path of the folder of a Unix socket."""
    port: int
    user: str
    database: str
    encryption: Encryption
    """The encryption of connections. With `verified`, the server must have a certificate for its host name."""


class Sharing(NamedTuple):
    """Settings of a gateway that shares its database with other gateways."""

    lease_seconds: float
    """Seconds for which a gateway may spend its share of a quota's balance without asking the database."""
    goes_on: bool
    """Whether calls continue if the gateway has used up its shares of quotas, and cannot ask the database for more."""
    has_config: bool = False
    """Whether the gateways share their configuration through the database too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """A store in PostgreSQL."""

    server: PostgresServer
    replica: PostgresServer | None = None
    """The replica that pages and reports read. It is None if they read `server`."""
    password: Secret = field(default_factory=Secret)
    authorities: str = field(default="", repr=False)
    """The accepted CA certificates in PEM format. The value is "" if the system's CA certificates are accepted."""
    sharing: Sharing | None = None
    """The settings for several gateways. The value is None if only one gateway may use the database."""


@dataclass(frozen=True, slots=True)
class Storage:
    url: str | None = None
    """The URL of the database, `sqlite:PATH` or `postgresql://...`. It is None for a file in the state folder."""
    retention: float | None = None
    """Seconds for which calls and sessions are stored. None means for ever. Hourly and daily totals are never deleted.
    """
    sync: bool = False
    """True if a call must be recorded on the disk before it is sent to a provider."""
    postgres: Postgres | None = None
    """The database that `url` names. It is None for SQLite."""

    @property
    def sharing(self) -> Sharing | None:
        """The settings for several gateways, or None if only one gateway may use the database."""
        return None if self.postgres is None else self.postgres.sharing
