"""The commands `irisgate backup` and `irisgate restore`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from gateway import __version__
from gateway.config.load import load
from gateway.config.model import Config
from gateway.contract.registry import Registry
from gateway.process.stores import database_path, store_name
from gateway.store.backup import Manifest, back_up
from gateway.store.base import StoreFailed, rfc3339
from gateway.store.restore import restore
from gateway.store.state_files import StateFiles

T = TypeVar("T")

FORMER: Final = "before-restore-"
"""Prefix of the name of a folder to which a restore moves the files that it replaces."""


class NotDone(Exception):
    """The error for a backup that was not made, or not restored. The message has the reason."""


def backup_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `irisgate backup` to the parser."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder for the backup")
    parser.add_argument("--without-bodies", action="store_true", help="leave out the bodies of calls")
    _config(parser)


def restore_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `irisgate restore` to the parser."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the folder of the backup")
    parser.add_argument(
        "--replace", action="store_true", help="replace a store that has newer calls, or is of a later release"
    )
    _config(parser)


def _config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration, if it sets storage.url")


def make_backup(options: argparse.Namespace, registry: Registry) -> str:
    """Make a backup, and return a line about it. Raises `NotDone` if that fails."""
    manifest = _done(
        lambda: back_up(
            _files(options, registry), options.folder, release=__version__, bodies=not options.without_bodies
        )
    )
    return f"{_about(manifest)} are in {options.folder}"


def restore_backup(options: argparse.Namespace, registry: Registry) -> str:
    """Restore a backup, and return a line about it. Raises `NotDone` if that fails."""
    aside = options.state / f"{FORMER}{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}"
    restored = _done(lambda: restore(options.folder, _files(options, registry), aside=aside, replace=options.replace))
    kept = f"; the former files are in {restored.former}" if restored.former else ""
    return f"{_about(restored.manifest)} are in {options.state}{kept}"


def _about(manifest: Manifest) -> str:
    return f"{manifest.calls} calls until {rfc3339(manifest.at)} ({manifest.size} bytes)"


def _files(options: argparse.Namespace, registry: Registry) -> StateFiles:
    """Return the files of the state folder. Raises `NotDone` if the store is in PostgreSQL."""
    config = load(options.config, plugins=registry.known).config if options.config is not None else Config()
    if config.storage.postgres is not None:
        raise NotDone(
            f"the store is {store_name(config, options.state)}, which PostgreSQL's own tools back up and restore "
            f"(pg_dump, pg_restore, pg_basebackup); what else the gateway needs is {options.state}, a copy of which is "
            "made while the gateway is stopped"
        )
    return StateFiles(options.state, database_path(config, options.state))


def _done(work: Callable[[], T]) -> T:
    try:
        return work()
    except StoreFailed as error:
        raise NotDone(str(error)) from None
    except OSError as error:
        raise NotDone(f"{error.filename or 'the disk'}: {error.strerror or error}") from None
