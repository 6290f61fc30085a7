"""The id of a journal.

Several gateways, each with a journal of its own, may use one store on another machine. For the id of each journal, the
store keeps the offset up to which this journal is applied.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway.store.base import StoreFailed

NAME: Final = "id"
"""Name of the file with the id, in the folder of the journal."""
_ID: Final = re.compile(r"[0-9a-f]{32}\n?")


def load_journal_id(folder: Path) -> str:
    """Return the id of the journal in a folder. Create the folder and the id if they are missing.

    Raises `StoreFailed` if the file cannot be read or written, or is damaged.
    """
    path = folder / NAME
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _create(path)
        text = path.read_text("ascii", "replace")
    except OSError as error:
        raise StoreFailed(f"{path}: {error.strerror}") from error
    if not _ID.fullmatch(text):
        raise StoreFailed(f"{path}: is no id of a journal; restore it, or remove it together with the journal's files")
    return text.strip()


def _create(path: Path) -> None:
    """Write a new id, unless another process has written one meanwhile."""
    made = path.with_name(f".{NAME}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{secrets.token_hex(16)}\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        with suppress(FileExistsError):
            path.hardlink_to(made)
    finally:
        made.unlink()
