"""The Python files of this repository, for tests that check all of them and name those that are wrong."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for folder in ("gateway", "plugins") for path in (ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def name(path):
    return str(path.relative_to(ROOT))


@cache
def text(path):
    return path.read_text()


def trees(paths):
    """Return the syntax trees by path. The trees are not cached, because the trees of `SOURCES` take 70 MB."""
    return {path: ast.parse(text(path)) for path in paths}
