"""Write `plugins/mistakes.md`, the mistakes of plugin authors and their messages.

The command is `python -m tests.tools.mistakes_page`. The page is made from the tables of
`tests/helpers/authors_mistakes.py` and `packages_mistakes.py`. Tests make each of the mistakes, and check that the file
is up to date.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.helpers import packages_mistakes
from tests.helpers.authors_mistakes import LOAD, RUN, Mistake
from tests.helpers.packages_mistakes import INSTALLED

PAGE: Final = Path(__file__).resolve().parents[2] / "plugins" / "mistakes.md"
HEAD: Final = """\
# Mistakes and their messages

<!-- Written by `python -m tests.tools.mistakes_page`; a change made here is lost. -->

How the gateway reports the mistakes that authors of plugins make most. [README.md](README.md) says how to write a
plugin.

## When the gateway starts

`irisgate serve`, `check`, `doctor` and `plugins list` print all mistakes at once, and end.

"""
IN_PACKAGES: Final = """
## When a package is installed

A plugin of an installed package that has a mistake is left out. The log event `plugin.skipped` has the place as `at`,
the package, the plugin, and the message as `reason`. A provider or a filter of the configuration that needs the plugin
is an error, and the gateway does not start. SITE is the folder of installed packages.

"""
CALLED: Final = """
## When a hook is called

The call ends with an error. The log event `plugin.failed` has the place as `at`, the plugin, the hook, and the rest of
the message as `cause`.

"""


def page() -> str:
    return HEAD + _table(LOAD) + IN_PACKAGES + _table(map(_of_package, INSTALLED)) + CALLED + _table(RUN)


def _of_package(mistake: packages_mistakes.Mistake) -> Mistake:
    return Mistake(mistake.title, f"{mistake.place}: {mistake.message}", {})


def _table(mistakes: Iterable[Mistake]) -> str:
    rows = [f"| {mistake.title} | `{mistake.message}` |" for mistake in mistakes]
    return "\n".join(["| mistake | message |", "|---|---|", *rows, ""])


if __name__ == "__main__":
    PAGE.write_text(page())
