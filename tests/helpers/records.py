"""Records of calls for tests, stores into which a test can put records, and a log."""

from __future__ import annotations

import io
from typing import Any

import msgspec

from gateway.contract.record import Record
from gateway.store.entries import Entry, decode, encode
from gateway.store.sqlite import SqliteStore
from gateway.telemetry.log import Logger, configure
from gateway.testkit.laws.observer_laws import OK

NOON = 1_795_435_200.0
"""2026-11-23 12:00:00 UTC."""
YEAR = "from=2025-12-01&to=2026-11-30"
"""Query parameters of a page for a range of one year that contains `NOON`. The days are fixed, so the range has the
same length on every day on which the tests run.
"""
HAIKU = "us.anthropic.claude-haiku-4-5-20251001-v1:0"


def record(**changes: Any) -> Record:
    return msgspec.structs.replace(OK, **changes)


class Puts:
    """Adds methods to a store, with which a test puts records into it. A record can be read after `flush`."""

    def put(self, record: Record) -> None:
        self.__dict__.setdefault("entries", []).append(Entry(call=record))

    async def flush(self: Any) -> None:
        entries = self.__dict__.pop("entries", [])
        await self.write(decode(map(encode, entries))[0], self.start_offset)


class Kept(Puts, SqliteStore):
    """A store in a SQLite file, into which a test can put records directly."""


def logger() -> tuple[Logger, io.BytesIO]:
    """Return a logger, and the output that the logger writes to."""
    out = io.BytesIO()
    return configure(out, json=True), out
