"""The command `irisgate plugins new`: writes the package of a new plugin, with a test that passes.

The text of the files is in `templates/`. No existing file is changed.
"""

from __future__ import annotations

import argparse
import importlib.util
import keyword
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

from gateway import __version__

MAX_NAME: Final = 64
"""Maximum number of characters of a plugin's name. The name is used in file names and in columns of tables."""
_NAME: Final = re.compile("[a-z][a-z0-9_]*")


class NotWritten(Exception):
    """The error for a plugin package that was not written. The message says what is wrong and what would be right."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of plugin."""

    group: str
    """The group of the plugin's entry point."""
    usage: str
    """Markdown that says how the plugin is used. `$name` stands for the plugin's name."""


_FLAG_USAGE: Final = """\
A provider that speaks the format:

```json
"providers": {
  "example": {
    "baseurl": "https://api.example.com",
    "apikey": "env:EXAMPLE_KEY",
    "models": ["small"],
    "compatibility": { "$name": true }
  }
}
```"""
_OBSERVER_USAGE: Final = "The gateway calls `seen` once for every call. An installed observer needs no configuration."
_FILTER_USAGE: Final = """\
A filter is off until the configuration names it. The order there is the order in which calls pass the filters:

```json
"plugins": {
  "$name": { "word": "secret" }
}
```"""
KINDS: Final = {
    "flag": Kind("irisgate.flags", _FLAG_USAGE),
    "filter": Kind("irisgate.filters", _FILTER_USAGE),
    "observer": Kind("irisgate.observers", _OBSERVER_USAGE),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the plugin's name: lower-case letters, digits and underscores")
    parser.add_argument("--kind", choices=KINDS, required=True, help="what the plugin is")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="the folder to make (default: NAME)")


def write_package(name: str, kind: str, folder: Path | None, taken: Collection[str]) -> str:
    """Write the package. Return a text that tells the author the next steps. `taken` has the names of the known
    plugins.

    Raises `NotWritten` if the name cannot be used, or if the folder exists or cannot be written.
    """
    check_spelling(name)
    folder = folder or Path(name)
    if os.path.lexists(folder):
        raise NotWritten(f"there is a file or folder {folder} already; name a new folder with --folder DIR")
    check_free(name, taken)
    try:
        folder.mkdir(parents=True)
        for path, text in package_files(name, kind).items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise NotWritten(f"{folder}: {error.strerror}; name another folder with --folder DIR") from None
    steps = f"cd {folder} && pip install -e '.[test]' && pytest && irisgate plugins check {name} --plugins ."
    return f"{folder}: the {kind} {name}, with a test. Next: {steps}"


def check_spelling(name: str) -> None:
    """Raise `NotWritten` for a name that no plugin's module can have."""
    if "__" in name.strip("_"):
        raise NotWritten(f'"{name}": only names of translators have two underscores in a row; use one')
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise NotWritten(f'"{name}" cannot be a plugin\'s name{_suggestion(name)}')
    if len(name) > MAX_NAME:
        raise NotWritten(f"the name has {len(name)} characters; use at most {MAX_NAME}")


def check_free(name: str, taken: Collection[str]) -> None:
    """Raise `NotWritten` if a known plugin or another module has the name."""
    if name in taken:
        raise NotWritten(f"there is a plugin {name} already; use another name")
    if importlib.util.find_spec(name) is not None:
        raise NotWritten(f"there is a Python module {name} already, which the plugin would hide; use another name")


def _suggestion(name: str) -> str:
    """Return a hint for the author: a similar name that is allowed, or else the rule for names."""
    near = re.sub("_+", "_", re.sub("[^a-z0-9]", "_", name.lower())).strip("_")
    if _NAME.fullmatch(near) and not keyword.iskeyword(near) and len(near) <= MAX_NAME:
        return f"; {near} can"
    return "; a name has lower-case letters, digits and underscores, begins with a letter, and is no word of Python"


def package_files(name: str, kind: str) -> dict[str, str]:
    """Return the path and the text of each file of a new package."""
    values = {"name": name, "kind": kind, "group": KINDS[kind].group, "release": __version__}
    values |= {"project": f"irisgate-{name.replace('_', '-')}", "usage": Template(KINDS[kind].usage).substitute(values)}
    templates = files("gateway.process.templates")
    sources = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"{name}.py": f"{kind}.py",
        f"tests/test_{name}.py": f"test_{kind}.py",
    }
    return {
        path: Template(templates.joinpath(f"{source}.txt").read_text(encoding="utf-8")).substitute(values)
        for path, source in sources.items()
    }
