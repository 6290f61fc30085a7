"""Copies the code of installed packages with plugins into memory, so that an upgrade does not change a running gateway.

- All source files of such a package are copied before any of its code runs. Modules are imported from the copy, even by
  worker processes that start after an upgrade.
- A restart uses the new version. A reload only reports the differences (`changes`).
- Compiled modules, data files, modules in archives, and other packages that a plugin imports are not copied.

`plugin_files.py` does the same for the folder of plugins.
"""

from __future__ import annotations

import csv
import importlib
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, distributions
from importlib.util import spec_from_file_location
from pathlib import Path, PurePath
from types import ModuleType
from typing import Final

from gateway.contract.plugin_checks import FILTER, FLAG, OBSERVER, TRANSLATOR
from gateway.contract.plugin_files import HeldLoader

GROUPS: Final = {
    "irisgate.flags": FLAG,
    "irisgate.translators": TRANSLATOR,
    "irisgate.observers": OBSERVER,
    "irisgate.filters": FILTER,
}
"""The groups of entry points that name plugins. Each group has one kind of plugin."""
_NOT_HELD: Final = frozenset({"gateway", "gateway_plugins", *sys.stdlib_module_names})
"""Top-level names that are never copied into memory: the gateway's own packages and the standard library. Entry points
may name them too."""
_DAMAGED: Final = (OSError, ValueError, TypeError, LookupError, AttributeError, csv.Error)
"""Exceptions of `importlib.metadata` for damaged or missing files, such as after an interrupted upgrade."""
_INIT: Final = "__init__.py"


@dataclass(frozen=True, slots=True)
class Source:
    """A module's source file, copied into memory."""

    path: str
    data: bytes
    mtime: int = field(compare=False)
    """The Unix time of the file's last change, in seconds."""

    @property
    def folder(self) -> list[str] | None:
        """The search path of a package: a list with the file's folder. It is None if the file is no `__init__.py`."""
        folder, name = os.path.split(self.path)
        return [folder] if name == _INIT else None


@dataclass(frozen=True, slots=True)
class Package:
    """An installed package with plugins."""

    name: str
    version: str
    plugins: tuple[str, ...]
    """The names of the package's plugins."""
    modules: Mapping[str, Source] = field(repr=False)
    """The source of each module of the package, by the module's full name."""

    def __str__(self) -> str:
        return f"{self.name} {self.version}".rstrip()


def installed_packages() -> Sequence[tuple[Package, Sequence[EntryPoint]]]:
    """Return the installed packages that have plugins, each with the entry points of its plugins. They are sorted by
    name.
    """
    # folders of packages are cached by time, and a second change within a tick of the clock would not be noticed
    importlib.invalidate_caches()
    packages: dict[str, tuple[Package, Sequence[EntryPoint]]] = {}
    for distribution in distributions():
        if not _entries(distribution):
            continue
        name = _described(distribution, "name")
        first = _first(name) or distribution
        if entries := _entries(first):
            package = _package(first, name, entries)
            packages.setdefault(package.name, (package, entries))
    return [packages[name] for name in sorted(packages)]


def _described(distribution: Distribution, member: str) -> str:
    """Return the `name` or `version` of a package. Return "" if it is missing, as after an interrupted installation."""
    try:
        return getattr(distribution, member) or ""
    except _DAMAGED:
        return ""


def _first(name: str) -> Distribution | None:
    """Return the package with this name that Python imports: the first one on Python's path."""
    try:
        return Distribution.from_name(name) if name else None
    except PackageNotFoundError:
        return None


def _entries(distribution: Distribution) -> Sequence[EntryPoint]:
    """Return a package's entry points that name plugins, sorted by kind and name."""
    try:
        entries = [entry for entry in distribution.entry_points if entry.group in GROUPS]
    except _DAMAGED:
        return ()
    return sorted(entries, key=lambda entry: (tuple(GROUPS).index(entry.group), entry.name))


def _package(distribution: Distribution, name: str, entries: Sequence[EntryPoint]) -> Package:
    version = _described(distribution, "version")
    name = name or f"a package without a name in {distribution.locate_file('')}"
    names = {tuple(module_of(entry).split(".")) for entry in entries} | _module_names(distribution)
    plugins = tuple(sorted({entry.name for entry in entries}))
    return Package(name, version, plugins, dict(_sources("", names, None)))


def module_of(entry: EntryPoint) -> str:
    """Return the full name of an entry point's module, or "" if the entry point is not valid."""
    try:
        return entry.module
    except AttributeError:
        # `importlib.metadata` raises this if the value does not match the pattern of entry points
        return ""


def _module_names(distribution: Distribution) -> set[tuple[str, ...]]:
    """Return the names of the modules in a package's list of files, such as `("acme", "text")` for `acme.text`.

    An editable installation (`pip install -e`) lists only top-level names. A module is left out if Python would import
    its top-level name from another place.
    """
    try:
        files = distribution.files or ()
        at_top = {(name,) for name in (distribution.read_text("top_level.txt") or "").split()}
    except _DAMAGED:
        return set()
    names = set()
    for file in files:
        if file.suffix == ".py" and all(map(str.isidentifier, file.with_suffix("").parts)):
            names.add(_name_parts(file))
    home = Path(str(distribution.locate_file("")))
    tops = {top for top in {parts[0] for parts in names if parts} if _is_below(home, _spec(top, None))}
    return {parts for parts in names if parts and parts[0] in tops} | at_top - {parts[:1] for parts in names}


def _name_parts(file: PurePath) -> tuple[str, ...]:
    """Return the parts of the name of a file's module: `("acme", "text")` for the file text.py in the folder acme."""
    return file.parent.parts if file.name == _INIT else file.with_suffix("").parts


def _is_below(folder: Path, spec: ModuleSpec | None) -> bool:
    """Return whether a module or package is inside a folder, at any depth."""
    if spec is None:
        return False
    places = [spec.origin] if spec.origin is not None else spec.submodule_search_locations or ()
    return any(folder in Path(place).parents for place in places)


def _sources(
    prefix: str, names: Collection[tuple[str, ...]], path: Sequence[str] | None
) -> Iterator[tuple[str, Source]]:
    """Yield the full name and the source of each module in `names`. For a package in `names`, yield all modules in the
    package.

    `names` has the names divided at their dots. They are relative to `prefix`, the name of the enclosing namespace
    package with a dot, such as `acme.`. At the top level, `prefix` is "".

    A namespace package is never read as a whole, because other installed packages may have modules in it.
    """
    for first in sorted({parts[0] for parts in names if parts} - {""} - (frozenset() if prefix else _NOT_HELD)):
        spec = _spec(f"{prefix}{first}", path)
        if spec is None:
            continue
        if spec.submodule_search_locations is None:
            yield from _read(spec.name, spec.origin or "")
        elif spec.origin is None:
            within = {parts[1:] for parts in names if parts[0] == first}
            yield from _sources(f"{spec.name}.", within, list(spec.submodule_search_locations))
        else:
            for folder in spec.submodule_search_locations:
                yield from _below(spec.name, folder)


def _below(package: str, top: str) -> Iterator[tuple[str, Source]]:
    """Yield the full names and the sources of all modules in the folder `top` of a package, at any depth."""
    for folder, folders, files in os.walk(top):
        folders[:] = sorted(filter(str.isidentifier, folders))
        for file in sorted(files):
            path = Path(folder, file)
            if path.suffix == ".py" and path.stem.isidentifier():
                name = ".".join((package, *_name_parts(path.relative_to(top))))
                yield from _read(name, str(path))


def _read(name: str, path: str) -> Iterator[tuple[str, Source]]:
    """Yield the full name and the source of a module. Yield nothing if the file is no Python file or cannot be read."""
    if not path.endswith(".py"):
        return
    try:
        with Path(path).open("rb") as file:
            data, mtime = file.read(), int(os.fstat(file.fileno()).st_mtime)
    except OSError:
        return
    yield name, Source(path, data, mtime)


def _spec(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """Return a module's spec, or None if the module is not found. `_Finder` is not asked, because it would find the
    copy of the module in memory.
    """
    for finder in sys.meta_path:
        spec = None
        with suppress(Exception):
            # whatever another finder raises
            spec = None if finder is _FINDER else finder.find_spec(name, path)
        if spec is not None:
            return spec
    return None


def use_packages(packages: Sequence[Package]) -> None:
    """Make later imports load the modules of these packages from their copies in memory. Modules that are already
    imported do not change.
    """
    modules = {name: source for package in packages for name, source in package.modules.items()}
    around = {name[:at] for name in modules for at, letter in enumerate(name) if letter == "."}
    _FINDER.packages, _FINDER.modules, _FINDER.namespaces = tuple(packages), modules, frozenset(around - set(modules))
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else 0, _FINDER)


def packages_in_use() -> tuple[Package, ...]:
    """Return the packages whose modules are imported from copies in memory (`use_packages`)."""
    return _FINDER.packages


def changes(running: Sequence[Package]) -> list[str]:
    """Compare the packages in memory with the installed packages. Return a message about each difference.

    A difference is a package that was upgraded, changed, removed or newly installed.
    """
    now = {package.name: package for package, _ in installed_packages()}
    differences = []
    for package in running:
        installed = now.pop(package.name, None)
        if installed is None:
            differences.append(f"{package} runs and is no longer installed")
        elif installed.version != package.version:
            differences.append(f"{package} runs and {installed.version} is installed")
        elif (installed.plugins, installed.modules) != (package.plugins, package.modules):
            differences.append(f"{package} runs and its files have changed")
    return differences + [f"{package} is installed and does not run" for package in now.values()]


class _Finder(MetaPathFinder):
    """A finder that imports the modules of copied packages from memory."""

    def __init__(self) -> None:
        self.packages: tuple[Package, ...] = ()
        self.modules: Mapping[str, Source] = {}
        self.namespaces: frozenset[str] = frozenset()
        """The names of the namespace packages that contain copied modules."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,  # noqa: ARG002 (the signature of the base class)
    ) -> ModuleSpec | None:
        if fullname in self.namespaces:
            # the namespace package may no longer exist on disk, because an upgrade may have removed its last folder
            return _spec(fullname, path) or ModuleSpec(fullname, None, is_package=True)
        if (source := self.modules.get(fullname)) is None:
            return None
        loader = HeldLoader(fullname, source.path, source.data, source.mtime)
        return spec_from_file_location(fullname, source.path, loader=loader, submodule_search_locations=source.folder)


_FINDER: Final = _Finder()
