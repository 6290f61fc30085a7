"""Options of several commands: their definition for argparse, and functions that return their values.

`commands/` has the other options, and the commands.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from gateway.config.sections.listen import loopback_listener
from gateway.config.server import Listener
from gateway.contract.registry import NoFolder, Registry, discover
from gateway.process.output import UsageError


def path(text: str) -> Path:
    """Return an option's path. Raises `ArgumentTypeError` for "", which would mean the working directory."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; write a path")
    return Path(text)


def add_state_options(parser: argparse.ArgumentParser, default: Path) -> None:
    """Add `--state`, `--plugins` and `--without` to the parser. `default` is the default of `--state`."""
    parser.add_argument(
        "--state",
        type=path,
        metavar="DIR",
        default=default,
        help="folder of what is kept: sessions and the key of their fingerprints (default: %(default)s)",
    )
    add_plugin_options(parser)


def add_plugin_options(parser: argparse.ArgumentParser) -> None:
    """Add `--plugins` and `--without` to the parser."""
    parser.add_argument("--plugins", type=path, metavar="DIR", help="a folder of plugin files")
    parser.add_argument(
        "--without", action="append", default=[], metavar="NAME", help="switch a plugin off; may be repeated"
    )


def default_state() -> Path:
    """Return the default state folder.

    This is the first folder of systemd's StateDirectory, if systemd sets one. Otherwise it is the folder `irisgate` in
    the user's state directory (XDG Base Directory 0.8).
    """
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.partition(":")[0])
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "irisgate"


def state_folder(options: argparse.Namespace) -> Path:
    """Return the folder of `--state`. Create it if it is missing. Raises `UsageError` if that fails."""
    state: Path = options.state
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"irisgate: --state {state}: {error.strerror}; name a folder that can be written") from None
    return state


def own_routes() -> Sequence[tuple[str, str]]:
    """Return the routes of the gateway's own API (`process/app.py`)."""
    from gateway.process import app  # noqa: PLC0415 (only other plugins need it; it imports the whole gateway)

    return app.own_routes()


def registry_of(options: argparse.Namespace) -> Registry:
    """Return all installed plugins and the plugins of the folder `--plugins`, without those named by `--without`.

    Raises `UsageError` if there is no such folder, or no plugin with the name in `--without`.
    """
    try:
        registry = discover(options.plugins, own=own_routes, without=options.without)
    except NoFolder as error:
        raise UsageError(f"irisgate: --plugins {error}") from None
    for name in options.without:
        if name not in registry.left_out:
            raise UsageError(f'irisgate: --without: there is no plugin "{name}"; see irisgate plugins list')
    return registry


def listener_of(listen: str | None) -> Listener | None:
    """Return the listener of `--listen`, or None if the option is not given.

    Raises `UsageError` if the address is not valid, or if other machines can reach it.
    """
    if listen is None:
        return None
    try:
        return loopback_listener(listen)
    except ValueError as error:
        raise UsageError(f"irisgate: --listen {listen}: {error}") from None
