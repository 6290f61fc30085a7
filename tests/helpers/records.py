"""Records of calls for tests, with a store and a log that receive them."""

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
HAIKU = "us.anthropic.claude-haiku-4-5-20251001-v1:0"


def record(**changes: Any) -> Record:
    return msgspec.structs.replace(OK, **changes)


class Kept(SqliteStore):
    """A store to which a test writes. A record can be read after a flush."""

    def __init__(self, path) -> None:
        super().__init__(path)
        self._put: list[Entry] = []

    def put(self, record: Record) -> None:
        self._put.append(Entry(call=record))

    async def flush(self) -> None:
        entries, self._put = self._put, []
        await self.write(decode(map(encode, entries))[0], self.start_offset)


def logger() -> tuple[Logger, io.BytesIO]:
    """Return a logger, and the output that the logger writes to."""
    out = io.BytesIO()
    return configure(out, json=True), out
