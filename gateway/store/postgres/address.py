"""Addresses of PostgreSQL databases: server, user, and encryption. This module does no I/O."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Literal

import msgspec


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of an encrypted connection."""

    verify: bool = True
    """True if the server's certificate is checked: it must be valid for the name of the server."""
    authorities: str = ""
    """The certificates of the trusted authorities, in PEM format. If it is "", the system's authorities are trusted."""

    def context(self) -> ssl.SSLContext:
        """Return the settings in the form of Python's `ssl`."""
        context = ssl.create_default_context(cadata=self.authorities or None)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A database on a PostgreSQL server, and the user who connects to it."""

    host: str
    """A host name, an IP address, or the folder of a Unix socket."""
    port: int
    user: str
    database: str
    password: str = field(default="", repr=False)
    """The user's password. It is "" if the server requires no password, or if asyncpg finds the password in the file
    `.pgpass`.
    """
    tls: Tls | None = None
    """The settings of TLS. The value is None for a connection that is not encrypted."""

    def __str__(self) -> str:
        """Return the address without the password, for messages."""
        return f"postgresql://{self.user}@{self.host}:{self.port}/{self.database}"


Role = Literal["writer", "bank", "listener", "reader", "reports", "exports", "configuration", "doctor", "repair"]
"""The purpose of a connection. It is part of the connection's `application_name` on the server."""
