"""Finds the modules that may be plugins: built-in modules, entry points of installed packages, and files in a folder.

`registry.py` checks the modules. A failed import is reported as a `Mistake`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Final

from gateway.contract.plugin_checks import Mistake
from gateway.contract.plugin_files import FOLDER_PACKAGE, import_plugin, name_fault, plugin_paths
from gateway.contract.plugin_imports import import_or_mistake
from gateway.contract.plugin_packages import Package, module_of

_BUILT_IN: Final = "gateway_plugins"


class PluginError(Exception):
    """The error for faults in plugins. Each argument is a `Mistake`, or a text with a fault and a correction."""

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class NoFolder(PluginError):
    """The error for a folder of plugins that cannot be listed."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A module that may become a plugin."""

    name: str
    origin: str
    """The plugin's file, its package with the version, or "the gateway itself"."""
    place: str
    """The plugin's file or its entry point. It is "" for a built-in plugin."""
    load: Callable[[], ModuleType | Mistake]
    group: str = ""
    """The group of the entry point. It is "" for a plugin without an entry point."""

    @property
    def is_built_in(self) -> bool:
        return not self.place and not self.group


def candidates(folder: Path | None, installed: Sequence[tuple[Package, Sequence[EntryPoint]]]) -> Iterator[Candidate]:
    """Yield all modules that may be plugins: built-in ones, those of installed packages, and those in the folder."""
    for package in (_BUILT_IN, f"{_BUILT_IN}.translators", f"{_BUILT_IN}.filters"):
        path = importlib.import_module(package).__path__
        for info in pkgutil.iter_modules(path):
            if not info.ispkg:
                module = importlib.import_module(f"{package}.{info.name}")
                yield Candidate(info.name, "the gateway itself", "", partial(_same, module))
    for brought, entries in installed:
        for entry in entries:
            yield _installed(brought, entry)
    if folder is not None:
        yield from _of_folder(folder.absolute())


def clashes(every: Sequence[Candidate]) -> Mapping[Candidate, Mistake]:
    """Return a mistake for each plugin of an installed package whose name a plugin of another installed package has
    too.

    None of these plugins is used, so that a new package cannot replace the plugin of another package.
    """
    packages: dict[str, set[str]] = {}
    for candidate in every:
        if candidate.group:
            packages.setdefault(candidate.name, set()).add(candidate.origin)
    wrong = {}
    for candidate in every:
        others = sorted(packages.get(candidate.name, set()) - {candidate.origin})
        if candidate.group and others:
            message = f"{', '.join(others)} has a plugin of that name too; uninstall one of the packages"
            wrong[candidate] = Mistake(candidate.name, message, candidate.place)
    return wrong


def _same(module: ModuleType) -> ModuleType:
    return module


def _installed(package: Package, entry: EntryPoint) -> Candidate:
    place = f"entry point {entry.name} = {entry.value}"

    def load() -> ModuleType | Mistake:
        name = module_of(entry)
        if not name:
            return Mistake(entry.name, f"its entry point names no module; write {entry.name} = package.module", place)
        module = import_or_mistake(entry.name, entry.load, name.partition(".")[0], place)
        if isinstance(module, ModuleType) and module.__spec__ is not None and module.__spec__.origin is None:
            wrong = f"is a folder without __init__.py; name a module in it, such as {entry.name} = {name}.{entry.name}"
            return Mistake(entry.name, wrong, place)
        if isinstance(module, ModuleType | Mistake):
            return module
        wrong = f"is no module, but {type(module).__name__}; name its module: {entry.name} = {name}"
        return Mistake(entry.name, wrong, place)

    return Candidate(entry.name, str(package), place, load, entry.group)


def _of_folder(folder: Path) -> Iterator[Candidate]:
    """Yield the plugins of a folder. Raises `PluginError` if there are none."""
    paths = list(plugin_paths(folder))
    if not paths:
        raise PluginError(f"{folder}: has no plugin; a plugin is a file NAME.py or a folder with __init__.py")
    for path in paths:
        yield Candidate(path.stem, str(path), str(path), partial(_from_file, path))


def _from_file(path: Path) -> ModuleType | Mistake:
    if fault := name_fault(path):
        return Mistake(path.stem, fault, str(path))
    module = import_or_mistake(path.stem, partial(import_plugin, path), FOLDER_PACKAGE, str(path))
    if isinstance(module, ModuleType | Mistake):
        return module
    return Mistake(path.stem, "has put another object in the place of its module in sys.modules", str(path))
