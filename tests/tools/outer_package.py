"""Writes a package as another author would: `python -m tests.tools.outer_package FOLDER`.

The package has a flag, a translator, a filter and an observer. Its `pyproject.toml` and its translator are the files of
`tests/release/outer`; the other modules are those that `irisgate plugins new` writes. `tests/release/test_wheel.py`
installs the package beside the release, and `IRISGATE_OUTER_WHEEL=1 tests/run` installs it beside this checkout.
"""

import shutil
import sys
import tomllib
from pathlib import Path

from gateway.process.new_plugin import package_files
from tests.helpers.installed import write_metadata

FILES = Path(__file__).resolve().parents[1] / "release/outer"
NEW_MODULES = {"zenith_text": "flag", "zenith_guard": "filter", "zenith_costs": "observer"}
"""The modules that are written by `irisgate plugins new`, each with the kind of plugin."""
TRANSLATOR = "openai_chat__zenith_text"
PLUGINS = (*NEW_MODULES, TRANSLATOR)
GENERATED = shutil.ignore_patterns("__pycache__", "*.egg-info")


def write_project(folder):
    """Write the project into a new folder, and return the folder."""
    shutil.copytree(FILES, folder, ignore=GENERATED)
    for name, kind in NEW_MODULES.items():
        (folder / f"{name}.py").write_text(package_files(name, kind)[f"{name}.py"])
    return folder


def install_without_build(site):
    """Write the package and its metadata into a folder on Python's path. This takes the place of a build and an
    installation.
    """
    write_project(site)
    project = tomllib.loads((site / "pyproject.toml").read_text())["project"]
    modules = [file.name for file in site.glob("*.py")]
    write_metadata(site, project["name"], project["version"], project["entry-points"], modules)


if __name__ == "__main__":
    write_project(Path(sys.argv[1]))
