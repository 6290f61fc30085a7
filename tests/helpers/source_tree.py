"""The Python files of this repository, for tests that check all of them. When a file is wrong, the message of such a
test has the file's `name`.
"""

import ast
import gc
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
    """Return a dict from each path to the syntax tree of its file.

    The trees are not cached, because the trees of `SOURCES` take 70 MB. The garbage collector is off meanwhile, because
    it would take most of the time and find no garbage.
    """
    gc.disable()
    try:
        return {path: ast.parse(text(path)) for path in paths}
    finally:
        gc.enable()
