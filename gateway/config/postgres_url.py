"""URLs of PostgreSQL databases, such as `postgresql://irisgate@db.example.com:5432/irisgate?sslmode=verify-full`.

The messages of errors never show the URL, because it may have a password.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from gateway.config.storage import Encryption, PostgresServer

SCHEMES: Final = ("postgresql", "postgres")
_PORT: Final = 5432
_EXAMPLE: Final = 'such as "postgresql://irisgate@db.example.com/irisgate"'
_MODES: Final[Mapping[str, Encryption]] = {"disable": "off", "require": "unverified", "verify-full": "verified"}
"""Values of `sslmode`. PostgreSQL's other values allow a connection without encryption, or any server's certificate."""
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""Hosts whose connections are not encrypted by default, because they do not leave the machine."""


def is_postgres(url: str) -> bool:
    """Return whether a URL names a PostgreSQL database."""
    return url.partition("://")[0] in SCHEMES


def parse_postgres_url(url: str) -> PostgresServer:
    """Return the server and the database that a URL names. Raises `ValueError` if the URL has a fault."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORT
    except ValueError:
        raise ValueError(f"is no URL; write one {_EXAMPLE}") from None
    if parts.password is not None:
        raise ValueError('must not hold a password; it goes into "password"')
    user, database = unquote(parts.username or ""), unquote(parts.path.removeprefix("/"))
    if not is_postgres(url) or not user or not database or "/" in database or parts.fragment or not url.isprintable():
        raise ValueError(f'must be "postgresql://USER@HOST/DATABASE", {_EXAMPLE}')
    options = _options(parts)
    host = options.get("host") or parts.hostname or ""
    if bool(parts.hostname) == bool(options.get("host")):
        raise ValueError(f'must name a host, {_EXAMPLE}, or the folder of a socket: "...?host=/run/postgresql"')
    is_local = host.startswith("/") or host in _LOCAL
    mode = options.get("sslmode") or ("disable" if is_local else "verify-full")
    if mode not in _MODES:
        raise ValueError(f'"sslmode" must be one of {", ".join(_MODES)}')
    if host.startswith("/") and mode != "disable":
        raise ValueError("a connection to a socket is never encrypted; leave sslmode out")
    return PostgresServer(host, port, user, database, _MODES[mode])


def _options(parts: SplitResult) -> dict[str, str]:
    """Return the options in the query of a URL. Raises `ValueError` for an unknown option."""
    try:
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ValueError('its options must have the form "?sslmode=verify-full"') from None
    if not {"host", "sslmode"}.issuperset(options):
        raise ValueError('must have no other options than "sslmode" and "host"; a CA goes into "ca_file"')
    if "host" in options and not options["host"].startswith("/"):
        raise ValueError('the option "host" is the absolute path of the folder with the socket')
    return options
