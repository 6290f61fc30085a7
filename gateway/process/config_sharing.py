"""Keeps the configuration of a gateway up to date: from its file and, if several gateways share it, from their
database.

`shared_config.py` says what happens to the file and to the versions in the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.call.context import Who
from gateway.config.document import atomic_file
from gateway.config.findings import ConfigError
from gateway.config.load import Loaded, load
from gateway.contract.registry import KnownPlugins
from gateway.process.reload import Reloader
from gateway.process.shared_config import SharedConfig
from gateway.process.stores import address
from gateway.telemetry.log import Logger

if TYPE_CHECKING:
    from gateway.store.postgres.configurations import Configurations


class StartingFile:
    """The configuration's file while the gateway is starting.

    `loaded` is the configuration that was last loaded from the file.
    """

    def __init__(self, path: Path, loaded: Loaded, plugins: KnownPlugins) -> None:
        self.loaded = loaded
        self._path, self._plugins = path, plugins

    @property
    def text(self) -> str:
        return self.loaded.text

    def content(self) -> bytes:
        return atomic_file.read(self._path)

    async def replace(self, text: str, expected: bytes, who: Who) -> None:
        """Write a text into the file, and load the file.

        If the text is not valid, restore the content `expected`, and raise `ConfigError`.
        """
        _ = who
        atomic_file.replace(self._path, text.encode(), expected)
        try:
            self.loaded = load(self._path, plugins=self._plugins)
        except ConfigError:
            atomic_file.replace(self._path, expected, text.encode())
            raise


class ConfigSharing:
    """The configuration of a gateway. It comes from the gateway's own file and, if `versions` is not None, from other
    gateways.
    """

    def __init__(self, loaded: Loaded, versions: Configurations | None, state: Path) -> None:
        self.loaded = loaded
        """The configuration with which the gateway starts."""
        self._versions, self._state = versions, state

    async def follow(self, reloader: Reloader) -> None:
        """Keep the configuration up to date, until the task is cancelled."""
        if self._versions is None:
            await reloader.follow()
            return
        from gateway.store.postgres.configurations import ADDED  # noqa: PLC0415
        from gateway.store.postgres.listening import Listener  # noqa: PLC0415

        shared = reloader.shared = SharedConfig(self._versions, reloader, self._state, reloader.gateway.log)
        listener = Listener(self._versions.address, {ADDED: lambda _number: shared.look_soon()})
        listener.start()
        try:
            await asyncio.gather(reloader.follow(), shared.follow())
        finally:
            await listener.close()


@asynccontextmanager
async def config_sharing(
    path: Path, loaded: Loaded, plugins: KnownPlugins, state: Path, log: Logger
) -> AsyncIterator[ConfigSharing]:
    """Yield the `ConfigSharing` of a gateway. If the configuration is shared, first write its newest version from the
    database into the file.

    Raises `StoreFailed` if the database cannot be reached.
    """
    postgres = loaded.config.storage.postgres
    if postgres is None or postgres.sharing is None or not postgres.sharing.has_config:
        yield ConfigSharing(loaded, None, state)
        return
    # asyncpg is an extra, and takes a twentieth of a second to import
    from gateway.store.postgres.configurations import Configurations  # noqa: PLC0415

    versions = Configurations(address(postgres, postgres.server))
    try:
        file = StartingFile(path, loaded, plugins)
        await SharedConfig(versions, file, state, log).begin()
        yield ConfigSharing(file.loaded, versions, state)
    finally:
        await versions.close()
