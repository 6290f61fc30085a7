"""Reads a whole configuration: its text, macros and sections. Finds the faults in each section and between sections.

- All findings are collected before a document is refused, so that its author can repair them all at once.
- The document's top-level keys are in `root.py`. The model and the reader of a key are in the file with the key's name
  in `sections/`. Messages about faults are written in `check.py`.
- Nothing here starts, watches or logs anything.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any, BinaryIO, Final

from pydantic import ValidationError

from gateway.config import advice
from gateway.config.check import check
from gateway.config.document.hujson import MAX_DOCUMENT_BYTES, Document, HujsonError, Path, parse
from gateway.config.document.macros import Substitution
from gateway.config.document.watch import Stamp, stamps
from gateway.config.findings import ConfigError, Finding, Report
from gateway.config.model import Config
from gateway.config.reading import Reading
from gateway.config.root import RootSection
from gateway.config.sections.aliases import read_aliases
from gateway.config.sections.database import read_database
from gateway.config.sections.exporters import read_exporters
from gateway.config.sections.grants import Declared, read_grants
from gateway.config.sections.hooks import check_hooks
from gateway.config.sections.metrics import read_metrics
from gateway.config.sections.plugins import read_plugins
from gateway.config.sections.prices import read_prices
from gateway.config.sections.providers import DOCUMENTED_FLAGS, read_providers
from gateway.config.sections.quotas import read_quotas
from gateway.config.sections.resilience import read_resilience
from gateway.config.sections.server import read_server
from gateway.config.sections.storage import read_storage
from gateway.config.sections.temp_grants import read_temp_grants
from gateway.config.sections.tool_servers import check_tool_servers
from gateway.contract.registry import KnownPlugins

_DOCUMENTED: Final = KnownPlugins(DOCUMENTED_FLAGS)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A usable configuration, with its warnings."""

    config: Config
    warnings: tuple[Finding, ...]
    stamps: Mapping[FilePath, Stamp]
    """Stamps (`stat` values) of all files that were read: configuration, secrets, prices, certificates. Each was taken
    before its file was read."""
    document: Document
    """The document as it was read, with macros not replaced."""

    @property
    def text(self) -> str:
        """The text that was read. It may contain secrets."""
        return self.document.text

    @property
    def watched(self) -> frozenset[FilePath]:
        return frozenset(self.stamps)


def load(
    path: str | FilePath,
    *,
    plugins: KnownPlugins = _DOCUMENTED,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """Return the configuration in a file. Raises `ConfigError` with all findings if there is an error."""
    path = FilePath(path)
    files = stamps([path])
    variables = os.environ if environ is None else environ
    source = _Source(str(path), path.parent, plugins, variables, files)
    return source.load(_text(path))


def loads(
    text: str,
    *,
    name: str = "config.hujson",
    plugins: KnownPlugins = _DOCUMENTED,
    environ: Mapping[str, str] | None = None,
    folder: FilePath | None = None,
) -> Loaded:
    """Return the configuration in a text. Paths of secrets are relative to `folder`.

    Raises `ConfigError` with all findings if there is an error.
    """
    variables = os.environ if environ is None else environ
    source = _Source(name, folder or FilePath(), plugins, variables, {})
    return source.load(text)


def load_stream(
    stream: BinaryIO,
    *,
    name: str,
    plugins: KnownPlugins = _DOCUMENTED,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """Return the configuration read from a stream such as standard input.

    Paths of secrets are relative to the working folder. Raises `ConfigError` with all findings if there is an error.
    """
    text = _read(stream, name)
    return loads(text, name=name, plugins=plugins, environ=environ)


def _text(path: FilePath) -> str:
    try:
        # reading from a pipe or a device could wait for ever
        if not stat.S_ISREG(path.stat().st_mode):
            raise _unreadable(path, "is no regular file; a configuration is a file that can be read again")
        with path.open("rb") as stream:
            return _read(stream, path)
    except OSError as error:
        raise _unreadable(path, f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise _unreadable(path, "cannot be read: the path holds a zero byte") from None


def _read(stream: BinaryIO, source: FilePath | str) -> str:
    try:
        data = stream.read(MAX_DOCUMENT_BYTES + 1)
        if len(data) > MAX_DOCUMENT_BYTES:
            raise _unreadable(source, f"is larger than {MAX_DOCUMENT_BYTES} bytes, which is the most that is read")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise _unreadable(source, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise _unreadable(source, f"is not UTF-8 text: byte {error.start} is none of it") from None


def _unreadable(source: FilePath | str, message: str) -> ConfigError:
    watched = [source] if isinstance(source, FilePath) else []
    return ConfigError([Finding("error", "", 0, 0, message, str(source))], watched)


@dataclass(frozen=True, slots=True)
class _Source:
    """The origin of a text to load: the name and folder of its file, the known plugins, and the environment variables.

    `files` maps each file that was read to its stamp (`stat` values).
    """

    name: str
    folder: FilePath
    plugins: KnownPlugins
    environ: Mapping[str, str]
    files: dict[FilePath, Stamp]

    def load(self, text: str) -> Loaded:
        try:
            document = parse(text)
        except HujsonError as error:
            line, column = Document(text, None, {}).place(error.offset)
            raise ConfigError([Finding("error", "", line, column, str(error), self.name)], self.files) from None
        macros = Substitution(self.environ)
        report = Report(self.name, macros.of(document), hidden=macros.values)
        for path, fault in macros.faults:
            report.error(path, fault)
        report.settled = frozenset(path for path, _ in macros.faults)
        for twice in document.duplicates:
            _tell_of_a_duplicate(report, twice.path, twice.first, twice.second)
        config = _config(Reading(report, self.folder, self.plugins, self.environ, self.files))
        advice.advise(config, report)
        if report.failed:
            raise ConfigError(report.sorted(), self.files)
        return Loaded(config, report.sorted(), MappingProxyType(self.files), document)


def _tell_of_a_duplicate(report: Report, path: Path, first: int, second: int) -> None:
    places = ["{}:{}".format(*report.document.place(offset)) for offset in (first, second)]
    message = f'duplicate key "{path[-1]}": it stands at {places[0]} and again at {places[1]}; keep one of them'
    report.error(path, message)


def _config(reading: Reading) -> Config:
    """Return the configuration. Values with faults are left out, or replaced by their defaults.

    A configuration with errors is made only because further checks need it. The gateway never uses it.
    """
    raw = reading.report.document.value
    top = check(RootSection, raw, (), reading.report)
    if top is None:
        # the other sections are still read, so that their faults are reported too
        sound = {key: value for key, value in raw.items() if _fits(key, value)} if isinstance(raw, dict) else {}
        top = RootSection.model_validate(sound)
    check_hooks(top.hooks, reading)
    tools = check_tool_servers(top.mcp, top.connectors, reading)
    storage = read_storage(top.storage, reading)
    database = read_database(top.database, storage, reading)
    declared = Declared(
        providers=top.providers, quotas=top.quotas, hooks=top.hooks, tools=tools, headers=database.filterable_headers
    )
    resilience = read_resilience(top.resilience, reading)
    providers = read_providers(top.providers, resilience, reading)
    return Config(
        providers=providers,
        grants=(*read_grants(top.grants, declared, reading), *read_temp_grants(top.temp_grants, declared, reading)),
        aliases=read_aliases(top.model_aliases, top.providers, providers, reading),
        quotas=read_quotas(top.quotas, reading),
        server=read_server(top.server, reading),
        storage=storage,
        bodies=database.bodies,
        filterable_headers=database.filterable_headers,
        exporters=read_exporters(top.exporters, reading),
        resilience=resilience,
        metrics=read_metrics(top.metrics, reading),
        auto_cost_basis=top.auto_cost_basis,
        plugins=read_plugins(top.plugins, reading),
        prices=read_prices(top.prices, reading),
    )


def _fits(key: str, value: Any) -> bool:
    """Return whether a top-level section has the JSON type that it needs."""
    try:
        RootSection.model_validate({key: value})
    except ValidationError:
        return False
    return True
