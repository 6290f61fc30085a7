"""Runs the checks of `irisgate doctor` in order, and refuses a repair while a gateway runs on the state folder."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

from gateway.config.findings import ConfigError
from gateway.config.load import load
from gateway.config.model import Config
from gateway.contract.registry import Registry
from gateway.process.doctor import machine, state
from gateway.process.doctor.result import Result, error, ok, warning
from gateway.process.doctor.state import StateFolder
from gateway.process.stores import address, database_path
from gateway.store.base import StoreFailed
from gateway.store.journal import lock_holder, locked


class NoRepair(Exception):
    """The error for a state folder that cannot be repaired. The message gives the reason."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add to the parser the options that only `irisgate doctor` has."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration (HuJSON)")
    parser.add_argument("--online", action="store_true", help="connect to each provider, too; no request is sent")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument(
        "--repair",
        action="store_true",
        help="repair the state folder; damaged files are kept in its folder damaged-TIME, and nothing is deleted",
    )


def examine(options: argparse.Namespace, registry: Registry) -> Sequence[Result]:
    """Return the results of all checks. Raises `NoRepair` if the options ask for a repair that is not possible."""
    results: list[Result] = []
    config = _config(options.config, registry, results)
    results += _plugins(registry)
    folder = _folder(options, config or Config())
    running = _holder(folder)
    if running and options.repair:
        raise NoRepair(f"a gateway runs on {options.state} ({running}); stop it first, and then repair")
    results.append(ok("gateway", running or "none runs on the state folder"))
    results += _state(folder)
    results.append(machine.descriptors())
    if config is not None:
        results += machine.listeners(config, running=bool(running))
        results += machine.tailscaled(config)
        if options.online:
            results += machine.providers(config)
    return results


def _folder(options: argparse.Namespace, config: Config) -> StateFolder:
    postgres = config.storage.postgres
    database = None if postgres is None else address(postgres, postgres.server)
    return StateFolder(options.state, database_path(config, options.state), options.repair, database)


def _holder(folder: StateFolder) -> str:
    """Return a text that names the gateway process using the state folder, or "" if there is none."""
    with suppress(StoreFailed):  # the checks of the folder say why the lock cannot be opened
        return lock_holder(folder.journal)
    return ""


def _plugins(registry: Registry) -> Iterator[Result]:
    """Yield a warning for each plugin that was skipped for a fault.

    If none was skipped, yield one result with the number of plugins of each kind.
    """
    for plugin in registry.skipped:
        yield warning("plugins", plugin.reason, "mend the package or uninstall it")
    if not registry.skipped:
        counts = f"{len(registry.flags)} flags, {len(registry.translators)} translators"
        packages = ", ".join(map(str, registry.packages))
        installed = f"; of installed packages: {packages}" if packages else ""
        yield ok("plugins", f"{counts}, {len(registry.observers)} observers{installed}")


def _config(path: Path | None, registry: Registry, results: list[Result]) -> Config | None:
    """Return the configuration, or None if no file is given or the file is invalid. Append the findings to
    `results`.
    """
    if path is None:
        results.append(ok("configuration", "not checked; name it with --config FILE"))
        return None
    try:
        loaded = load(path, plugins=registry.known)
    except ConfigError as failure:
        results += [error("configuration", str(finding), "mend the file") for finding in failure.findings]
        return None
    results += [warning("configuration", str(finding), "see irisgate check") for finding in loaded.warnings]
    results.append(ok("configuration", f"{path}: {len(loaded.config.providers)} providers"))
    return loaded.config


def _state(folder: StateFolder) -> Iterator[Result]:
    if not folder.path.is_dir():
        yield ok("state folder", f"{folder.path}: the first start makes it")
        return
    try:
        if folder.repair:
            folder.journal.mkdir(mode=0o700, exist_ok=True)
        with locked(folder.journal) if folder.repair else nullcontext():
            yield from state.checks(folder)
    except StoreFailed as failure:
        raise NoRepair(str(failure)) from None
    except OSError as failure:
        yield error("state folder", f"{failure.filename or folder.path}: {failure.strerror}", "see the message")
