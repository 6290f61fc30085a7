"""The section `storage`: where calls and sessions are stored, and for how long.

The settings for the bodies of calls are in the section `database`.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final, Literal

from pydantic import Field

from gateway.config.document.hujson import Path
from gateway.config.document.secrets import HELPER, KEYFILE
from gateway.config.fields import FilePath, PostgresUrl, Retention, StoreUrl, retention_seconds
from gateway.config.postgres_url import is_postgres, parse_postgres_url
from gateway.config.reading import Reading
from gateway.config.section import Section
from gateway.config.sections.authorities import read_authorities
from gateway.config.storage import Postgres, Sharing, Storage


class StorageSection(Section):
    url: StoreUrl = Field(
        None,
        description='Where records are stored: "sqlite:/var/lib/irisgate/irisgate.db", or '
        '"postgresql://irisgate@db.example.com/irisgate". A connection to PostgreSQL on another machine is encrypted, '
        'and the server must have a certificate for its name; "?sslmode=require" takes any certificate, and '
        '"?sslmode=disable" does not encrypt. "?host=/run/postgresql" names the folder of a socket.',
    )
    password: str = Field("", description='Password of the PostgreSQL user: "env:NAME", "file:PATH" or a literal.')
    ca_file: FilePath = Field(
        "",
        description="A file with the certificates of the authorities that may vouch for the PostgreSQL server. "
        "Without it, those of the operating system are trusted.",
    )
    read_url: PostgresUrl = Field(
        "", description="A replica of the PostgreSQL database, which pages and reports read in place of `url`."
    )
    shared: bool = Field(
        default=False,
        description="Let several gateways use the PostgreSQL database at once. Their quotas and rate limits are "
        "exact together: each holds a slice of those that it uses. All gateways must have this setting, and the same "
        "quotas.",
    )
    lease_seconds: int | None = Field(
        None,
        ge=2,
        le=3600,
        description="For gateways that share a database: the seconds, 30 by default, for which a gateway may spend "
        "from its slices while it cannot reach the database. What a killed gateway has not spent of its slices is free "
        "again after this time.",
    )
    on_outage: Literal["refuse", "go_on"] | None = Field(
        None,
        description='For gateways that share a database: "refuse" (the default) refuses calls with quotas while the '
        'database is away and the slices are used up. "go_on" serves them by the balances that the gateway knew last, '
        "so that each gateway alone may spend what was left.",
    )
    share_config: bool = Field(
        default=False,
        description="For gateways that share a database: keep the configuration there too. A change at one gateway is "
        "written into the files of all. The database then has the text with the secrets in it; name secrets by "
        '"env:NAME" or "file:PATH".',
    )
    retention: Retention = Field(
        "",
        description='How long calls and sessions are stored, such as "90d"; "" is for ever. '
        "The totals by hour and day are never deleted.",
    )
    sync: bool = Field(
        default=False,
        description="Send a call only when its line is on the disk, so that a power cut loses the cost of no call.",
    )


_OF_POSTGRES: Final = ("password", "ca_file", "read_url", "shared")
"""Keys that only a store in PostgreSQL uses."""
_OF_SHARED: Final = ("lease_seconds", "on_outage", "share_config")
"""Keys that are used only if several gateways share a database."""
LEASE_SECONDS: Final = 30
"""Default of `lease_seconds`: the time for which a gateway may spend its share of a quota without asking the database.
It asks three times in this time.
"""


def read_storage(raw: Any, reading: Reading) -> Storage:
    section = reading.section(StorageSection, raw, ("storage",))
    if section is None:
        return Storage()
    if not section.shared:
        for key in _OF_SHARED:
            if getattr(section, key):
                reading.report.error(("storage", key), 'is for gateways that share a database; set "shared" to true')
    return Storage(section.url, retention_seconds(section.retention), section.sync, _postgres(section, reading))


def _postgres(section: StorageSection, reading: Reading) -> Postgres | None:
    """Return the store in PostgreSQL, or None for a store in SQLite. Report keys that have no effect."""
    path: Path = ("storage",)
    if section.url is None or not is_postgres(section.url):
        for key in _OF_POSTGRES:
            if getattr(section, key):
                reading.report.error((*path, key), 'is for a store in PostgreSQL only; name it in "url"')
        return None
    if find_spec("asyncpg") is None:
        reading.report.error((*path, "url"), "needs asyncpg; install irisgate[postgres]")
    if section.password.startswith((HELPER, KEYFILE)):
        reading.report.error((*path, "password"), 'must be "env:NAME", "file:PATH" or the password itself')
    server = parse_postgres_url(section.url)
    replica = parse_postgres_url(section.read_url) if section.read_url else None
    if section.ca_file and all(one.encryption != "verified" for one in (server, replica or server)):
        message = "has no effect, because no connection is verified; write sslmode=verify-full into the URL"
        reading.report.error((*path, "ca_file"), message)
    return Postgres(
        server=server,
        replica=replica,
        password=reading.secret(section.password or None, (*path, "password")),
        authorities=read_authorities(section.ca_file, (*path, "ca_file"), reading),
        sharing=_sharing(section) if section.shared else None,
    )


def _sharing(section: StorageSection) -> Sharing:
    return Sharing(section.lease_seconds or LEASE_SECONDS, section.on_outage == "go_on", section.share_config)
