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

FILES = Path(__file__).resolve().parents[1] / "release/outer"
NEW_MODULES = {"zenith_text": "flag", "zenith_guard": "filter", "zenith_costs": "observer"}
"""The kind of each module that is one of a new plugin."""
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
    """Install the package into a folder from which Python imports modules, without a build or an installer."""
    write_project(site)
    project = tomllib.loads((site / "pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    metadata = site / f"{name}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (metadata / "RECORD").write_text("".join(f"{file.name},,\n" for file in site.glob("*.py")))
    groups = [
        "\n".join([f"[{group}]", *(f"{plugin} = {module}" for plugin, module in entries.items())])
        for group, entries in project["entry-points"].items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(groups))


if __name__ == "__main__":
    write_project(Path(sys.argv[1]))
