"""The mark of a store with sample calls, so that sample calls and real calls are never mixed.

The mark is the `application_id` of the SQLite file, which is 0 in every other store.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Final

from gateway.store.base import JournalOffset, StoreFailed
from gateway.store.entries import Entry
from gateway.store.file import connect, prepare
from gateway.store.writing import write

SAMPLE_ID: Final = 0x49525153
"""The `application_id` of a store with sample calls: "IRQS" in ASCII."""
BATCH_CALLS: Final = 2_000
"""Number of calls that are written in one transaction."""


def is_sample(path: Path) -> bool:
    """Return whether a store has sample calls. Return False if there is no file, or if it is no database."""
    if not path.exists():
        return False
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return bool(connection.execute("PRAGMA application_id").fetchone()[0] == SAMPLE_ID)
    except sqlite3.Error:
        # the start of the gateway reports a file that is no database
        return False


def require_no_sample(path: Path) -> None:
    """Raise `StoreFailed` if a store has sample calls."""
    if is_sample(path):
        raise StoreFailed(
            f"{path}: has the sample calls of `irisgate demo --sample`, which must not mix with real ones; "
            "name another folder by --state, or delete this file"
        )


def fill_sample(path: Path, entries: Iterable[Entry]) -> int:
    """Write sample calls and balances to a new store, and mark the store as a sample. Return the number of written
    calls.

    If the store is such a sample already, return 0. If it has other calls, raise `StoreFailed`. In both cases, nothing
    is written.
    """
    if is_sample(path):
        return 0
    prepare(path)
    written = 0
    with closing(connect(path)) as connection:
        if connection.execute("SELECT EXISTS (SELECT 1 FROM figures_day)").fetchone()[0]:
            raise StoreFailed(f"{path}: has calls already; name an empty folder by --state for the sample calls")
        # marked first, so that a killed process leaves no sample calls in a store without the mark
        connection.execute(f"PRAGMA application_id = {SAMPLE_ID}")
        offset = JournalOffset(*connection.execute("SELECT segment, offset FROM place").fetchone())
        remaining = iter(entries)
        while batch := list(islice(remaining, BATCH_CALLS)):
            write(connection, batch, offset)
            written += sum(entry.call is not None for entry in batch)
    return written
