"""Loads plugins from a folder of files.

- Files and packages of the folder become modules of the package `irisgate_folder`. So dataclasses, pickle and relative
  imports (`from ._shared import x`) work.
- A file or package whose name begins with an underscore is not a plugin. Plugins may import it.
- All files are copied into memory before any code runs. Modules are imported from the copy, also in worker processes.
  So all processes run the same code, even if a file changes later.
"""

from __future__ import annotations

import importlib
import keyword
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from gateway.contract.plugin_source import is_slip

FOLDER_PACKAGE: Final = "irisgate_folder"


@dataclass(frozen=True, slots=True)
class Sources:
    """A copy of the source files in a folder of plugins."""

    folder: str
    files: Mapping[str, bytes]
    """The content of each file by its path."""

    def changed(self) -> list[str]:
        """Return the paths of the files that were added, changed or removed since the copy was made."""
        try:
            now = read_sources(Path(self.folder)).files
        except OSError:
            return sorted(self.files)
        return sorted(path for path in {*self.files, *now} if self.files.get(path) != now.get(path))


def read_sources(folder: Path) -> Sources:
    """Read the source files in a folder into memory, and return them. Files that cannot be read are left out."""
    files = {}
    for path in python_files(folder):
        try:
            files[str(path)] = path.read_bytes()
        except OSError:
            continue
    return Sources(str(folder), files)


def python_files(folder: Path, above: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield the Python files of a folder and of the packages in it.

    `above` has the parent folders. A link to one of them is not followed, because the search would never end.
    """
    # the folder is listed first: for a loop of links, that raises an OSError, but `resolve` raises another exception
    paths = sorted(folder.iterdir())
    above = (*above, folder.resolve())
    for path in paths:
        if path.suffix == ".py" and _is_file(path):
            yield path
        elif _is_file(path / "__init__.py") and path.resolve() not in above:
            yield from python_files(path, above)


def sources_in_use() -> Sources | None:
    """Return the copied source files from which plugins are imported. Return None if there is no folder of plugins."""
    return _FINDER.sources


def use_sources(sources: Sources | None) -> None:
    """Make later imports of the folder's plugins use `sources`. Discard modules of the folder that were imported
    before.

    Do nothing if `sources` is None.
    """
    if sources is None:
        return
    for name in [name for name in sys.modules if name.partition(".")[0] == FOLDER_PACKAGE]:
        del sys.modules[name]
    _FINDER.sources = sources
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    package = ModuleType(FOLDER_PACKAGE, "The plugins of a folder.")
    package.__path__ = [sources.folder]
    sys.modules[FOLDER_PACKAGE] = package
    importlib.invalidate_caches()


def plugin_paths(folder: Path) -> Iterator[Path]:
    """Yield the files and packages of a folder that are plugins, sorted by name."""
    for path in sorted(folder.iterdir()):
        is_package = _is_file(path / "__init__.py") or _has_misspelt_init(path)
        if (path.suffix == ".py" or is_package) and not path.name.startswith(("_", ".")):
            yield path


def _is_file(path: Path) -> bool:
    """Return whether a path is a file. Return False if access to it is denied, as in a folder `lost+found`."""
    try:
        return path.is_file()
    except OSError:
        return False


def _has_misspelt_init(folder: Path) -> bool:
    try:
        return any(is_slip(path.name, "__init__.py") for path in folder.iterdir())
    except OSError:
        return False


def name_fault(path: Path) -> str:
    """Return why a file or package cannot be a plugin, such as a wrong name. Return "" if it can be one."""
    name = path.stem if path.suffix == ".py" else path.name
    if not name.isidentifier() or keyword.iskeyword(name):
        return f'"{name}" is no name for a plugin; write letters, digits and underscores, such as acme_text.py'
    if not _is_file(path) and not _is_file(path / "__init__.py"):
        return "is no file that can be read; a plugin is a file NAME.py or a folder with __init__.py"
    return ""


def import_plugin(path: Path) -> Any:
    """Import a file or package in the folder of plugins. Raises any exception of the plugin's code."""
    return importlib.import_module(f"{FOLDER_PACKAGE}.{path.stem}")


class HeldLoader(SourceFileLoader):
    """A loader that imports a module from a copy of its source in memory.

    The loader writes no bytecode files. It uses an existing bytecode file only if this file was made from a source with
    the size and the `mtime` of the copied one.
    """

    def __init__(self, fullname: str, path: str, source: bytes, mtime: int | None = None) -> None:
        super().__init__(fullname, path)
        self._source = source
        self._mtime = mtime

    def path_stats(self, path: str) -> Mapping[str, Any]:
        if self._mtime is None:
            raise OSError(f"{path}: its time is unknown")
        return {"mtime": self._mtime, "size": len(self._source)}

    def get_data(self, path: str) -> bytes:
        return self._source if path == self.path else super().get_data(path)

    def set_data(self, path: str, data: object, *, _mode: int = 0o666) -> None:
        """Do nothing, so that no bytecode file is written.

        The file on disk may have changed after the source was copied. If its size and `mtime` are the same, Python
        would use the bytecode of the copied source for the changed file.
        """


class _Finder(MetaPathFinder):
    """A finder that imports plugins of the folder from copies of their sources."""

    def __init__(self) -> None:
        self.sources: Sources | None = None

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,  # noqa: ARG002 (the signature of the base class)
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != FOLDER_PACKAGE or self.sources is None or path is None:
            return None
        base = Path(self.sources.folder, *name.split("."))
        for file, within in ((base / "__init__.py", [str(base)]), (base.with_name(f"{base.name}.py"), None)):
            if (data := self.sources.files.get(str(file))) is not None:
                loader = HeldLoader(fullname, str(file), data)
                return spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=within)
        return None


_FINDER: Final = _Finder()
