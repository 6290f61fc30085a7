"""The most recent versions of the configuration, kept as files in the state folder, so that a change can be undone.

- In a version, each secret is replaced by a mark (`document/redact.py`), so old API keys are not kept. When a version
  is restored, its marks are replaced by the secrets of the present file. This works only for secrets that are still
  there.
- Each version is one file that only its owner may read. Its name begins with the time, so names sort by time.
- A file that cannot be read is passed over, because a damaged history must not stop the gateway.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

HISTORY: Final = "config-history"
"""Name of the history's folder, which is in the state folder."""
KEPT: Final = 50
"""Number of versions that are kept."""
_NAME: Final = re.compile(r"[0-9]{14}-[0-9a-f]{8}")
_SUFFIX: Final = ".json"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A change of the configuration, without the text."""

    at: float
    """Unix time in seconds at which the configuration was changed."""
    who: str
    """Login of the admin who saved the text, "file" if the file was edited, or "start" if a process started with the
    text."""
    etag: str
    changed: tuple[str, ...]
    """Dotted paths of the changed values."""


class Version(Change, frozen=True, kw_only=True):
    """A version of the configuration."""

    text: str
    """The text with marks in place of secrets."""


@dataclass(frozen=True, slots=True)
class History:
    """The kept versions of the configuration, each in a file of one folder."""

    folder: Path

    def add(self, version: Version) -> None:
        """Keep a version, and remove the oldest one if there are too many. Raises `OSError` if the version cannot be
        written.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{int(version.at * 1000):014d}-{version.etag[:8]}{_SUFFIX}"
        made = self.folder / f".{name}.{secrets.token_hex(4)}"
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(version))
                file.flush()
                os.fsync(file.fileno())
            made.replace(self.folder / name)
        finally:
            with suppress(FileNotFoundError):
                made.unlink()
        for old in self._names()[KEPT:]:
            with suppress(FileNotFoundError):
                self._path(old).unlink()

    def changes(self) -> list[tuple[str, Change]]:
        """Return the versions without their texts, the newest first, each with its name."""
        return list(self._changes())

    def _changes(self) -> Iterator[tuple[str, Change]]:
        for name in self._names():
            with suppress(OSError, msgspec.MsgspecError):
                yield name, msgspec.json.decode(self._path(name).read_bytes(), type=Change)

    def version(self, name: str) -> Version | None:
        """Return the version of this name, or None if there is no such version."""
        if not _NAME.fullmatch(name):
            return None
        try:
            return msgspec.json.decode(self._path(name).read_bytes(), type=Version)
        except (OSError, msgspec.MsgspecError):
            return None

    def last_etag(self) -> str:
        """Return the entity tag of the newest version, or "" if there is none."""
        return next((change.etag for _, change in self._changes()), "")

    def _names(self) -> list[str]:
        with suppress(OSError):
            names = [path.name.removesuffix(_SUFFIX) for path in self.folder.iterdir()]
            return sorted(filter(_NAME.fullmatch, names), reverse=True)
        return []

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{_SUFFIX}"
