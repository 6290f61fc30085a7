"""Loads plugins from a folder of files, and finds the line at which a plugin fails to load.

- Files and packages of the folder are modules of the package `irisgate_folder`, so that dataclasses, pickle and
  relative imports (`from ._shared import x`) work.
- A name that begins with an underscore is a helper of plugins and no plugin itself.
- Worker processes call `use_folder` too, because they import the functions that are sent to them by name.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

_PACKAGE: Final = "irisgate_folder"


def folder_in_use() -> str | None:
    """Return the folder from which plugins were last loaded; None if there is none."""
    package = sys.modules.get(_PACKAGE)
    return None if package is None else next(iter(package.__path__))


def use_folder(folder: str | None) -> None:
    """Make `folder` the folder of plugins. Modules of an earlier load are forgotten, so that new code is read."""
    if folder is None:
        return
    for name in [name for name in sys.modules if name.partition(".")[0] == _PACKAGE]:
        del sys.modules[name]
    package = ModuleType(_PACKAGE, "The plugins of a folder.")
    package.__path__ = [folder]
    sys.modules[_PACKAGE] = package
    importlib.invalidate_caches()


def plugin_paths(folder: Path) -> Iterator[Path]:
    """Yield the files and packages of a folder that are plugins, sorted by name."""
    for path in sorted(folder.iterdir()):
        is_package = (path / "__init__.py").is_file()
        if (path.suffix == ".py" or is_package) and not path.name.startswith(("_", ".")):
            yield path


def import_plugin(path: Path) -> ModuleType:
    """Return the module of a file or package in the folder of plugins. Raises what the plugin's code raises."""
    return importlib.import_module(f"{_PACKAGE}.{path.stem}")


def failed_line(error: BaseException, path: Path) -> str:
    """Return the file and line at which loading the plugin at `path` failed; the file alone if no line is known."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(path.parent)]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else str(path)
