"""Keeps the configuration files of several gateways the same, through the PostgreSQL database that they share.

The setting is `storage.share_config`. Each gateway loads its own file, and uses this file while the database cannot be
reached.

- All gateways use the newest version in the database. A gateway writes it into its own file, and loads the file.
- An admin's save is added to the database before it is used. If another gateway was faster, the save is refused.
- An edited file is used at once, and its text is then added to the database.
- If a file was edited while another gateway added a version, that version replaces the edit. The edit is kept in the
  state folder, and the log says so.
- If this gateway cannot use a version, its file stays unchanged. For example, a plugin may not be installed here.

A file in the state folder has the number of the last version. So the gateway notices at its start whether its
configuration file was edited since that version.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from gateway.call.context import NotTaken, Who
from gateway.config.document import atomic_file
from gateway.config.findings import ConfigError
from gateway.process.reload import FILE
from gateway.store.base import StoreFailed
from gateway.telemetry.log import Logger

if TYPE_CHECKING:
    from gateway.store.postgres.configurations import Configurations, SharedVersion

MEMORY: Final = "shared-config.json"
"""The name of the file in the state folder that has the number of the last version seen by this gateway (`Known`)."""
REPLACED: Final = "replaced-config.hujson"
"""The name of a file in the state folder. If another gateway's version replaces an edit of the configuration's file,
this file gets the edited text.
"""
LOOK_SECONDS: Final = 15.0
"""Maximum number of seconds between two comparisons of the file with the database. If the database announces a new
version, they are compared at once.
"""
AGAIN_SECONDS: Final = 2.0
"""Seconds until the database is asked again, after it could not be reached."""


class OwnFile(Protocol):
    """The configuration's file of this gateway, and the text in use."""

    @property
    def text(self) -> str:
        """The text that was loaded last."""

    def content(self) -> bytes:
        """Return the text that the file has now. Raises `OSError` if it cannot be read."""

    async def replace(self, text: str, expected: bytes, who: Who) -> None:
        """Write a text into the file if the content is still `expected`, and use the text.

        Raises `ConfigError` if the text is not valid here, `CannotReplace` or `OSError` if it cannot be written, and
        `NotTaken` if it cannot be put into use. In these cases, the file has its old text.
        """


class Known(msgspec.Struct, frozen=True):
    """The last version of the shared configuration that this gateway has seen."""

    number: int = 0
    """The number of the version in the database."""
    digest: str = ""
    """SHA-256 of the file's text at the time when this gateway saw the version. If the file has another text now,
    somebody has edited it.
    """


class SharedConfig:
    """Keeps this gateway's configuration file equal to the newest version in the database.

    `state` is the state folder.
    """

    def __init__(self, versions: Configurations, file: OwnFile, state: Path, log: Logger) -> None:
        self._versions, self._file, self._log = versions, file, log
        self._path = state / MEMORY
        self._known = _remembered(self._path)
        self._wake = asyncio.Event()
        self._wake.set()
        self._one_at_a_time = asyncio.Lock()
        self._is_away = False

    def look_soon(self) -> None:
        """Compare the file with the database soon. Called when one of them has changed."""
        self._wake.set()

    async def begin(self) -> None:
        """Use the newest version in the database. Call this before the gateway opens its listeners.

        Raises `StoreFailed` if the database cannot be reached.
        """
        newest = await self._versions.newest()
        if newest is not None and newest.text != self._file.text and newest.number != self._known.number:
            await self._take(newest)

    async def follow(self) -> None:
        """Keep the file and the database the same, until the task is cancelled.

        If the database cannot be reached, this is logged once, and not for each attempt.
        """
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self.compare()
            except StoreFailed as error:
                if not self._is_away:
                    self._log.warning("config.database_is_away", reason=str(error), used="the gateway's own file")
                self._is_away = True
                self._wake.set()
                await asyncio.sleep(AGAIN_SECONDS)
            except Exception as error:  # noqa: BLE001 (whatever it is, later versions must be taken)
                self._log.error("config.share_failed", error=repr(error))
            else:
                self._is_away = False

    async def compare(self) -> None:
        """Compare the configuration's file with the newest version in the database.

        If this gateway has not seen the version, use it. Otherwise, if the file was edited, add its text to the
        database as a new version. Raises `StoreFailed` if the database cannot be reached.
        """
        async with self._one_at_a_time:
            newest = await self._unknown_version()
        # the lock is free, because a save waits for it, and this waits for the save; the save is refused then
        if newest is not None:
            await self._take(newest)

    async def _unknown_version(self) -> SharedVersion | None:
        """Return the newest version in the database if another gateway has added it, else None.

        If the database has no version, or if only this gateway's file has changed, add the file's text to the database
        and return None.
        """
        newest, text = await self._versions.newest(), self._file.text
        if newest is None:
            await self._add(text, FILE, 0)
        elif newest.text == text:
            self._remember(newest.number, text)
        elif newest.number != self._known.number:
            return newest
        elif _digest(text) != self._known.digest:
            await self._add(text, FILE, newest.number)
        return None

    async def publish(self, text: str, who: Who) -> None:
        """Add to the database a valid text that an admin is saving. The caller puts the text into use afterwards.

        Raises `Changed` if another gateway has added a version that this gateway does not have yet. Raises
        `StoreFailed` if the database cannot be reached.
        """
        async with self._one_at_a_time:
            is_added = await self._add(text, who, self._known.number)
        if not is_added:
            raise atomic_file.Changed("the configuration was changed at another gateway in the meantime")

    async def _add(self, text: str, who: Who, after: int) -> bool:
        """Add a text to the database as the version after the version with the number `after`.

        Return False if another gateway has already added such a version. This gateway then soon uses that version.
        """
        number = await self._versions.add(text, who.login, after=after)
        if number is None:
            self.look_soon()
            return False
        self._remember(number, text)
        return True

    async def _take(self, newest: SharedVersion) -> None:
        """Use a version of another gateway in place of the file's text."""
        text = self._file.text
        try:
            content = await asyncio.to_thread(self._file.content)
            if _digest(content.decode()) != self._known.digest:
                await asyncio.to_thread(self._keep, content, newest)
            await self._file.replace(newest.text, content, Who(newest.who))
        except atomic_file.Changed:
            self.look_soon()
        except (ConfigError, atomic_file.CannotReplace, NotTaken, OSError, UnicodeDecodeError) as error:
            reason = str(error).partition("\n")[0]
            self._log.error("config.shared_version_refused", version=newest.number, by=newest.who, reason=reason)
            self._remember(newest.number, text)
        else:
            self._remember(newest.number, newest.text)

    def _keep(self, content: bytes, newest: SharedVersion) -> None:
        """Save the edited text of the file in the state folder, before another gateway's version replaces the text."""
        kept = self._path.with_name(REPLACED)
        descriptor = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        self._log.warning("config.edit_replaced", by=newest.who, version=newest.number, kept=str(kept))

    def _remember(self, number: int, text: str) -> None:
        known = Known(number, _digest(text))
        if known != self._known:
            self._known = known
            with suppress(OSError):  # the next start then compares the texts alone
                made = self._path.with_suffix(".new")
                made.write_bytes(msgspec.json.encode(known))
                made.replace(self._path)


def _remembered(path: Path) -> Known:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Known)
    except (OSError, msgspec.MsgspecError):
        return Known()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
