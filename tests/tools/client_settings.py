"""Write `gateway/web/dashboard/clients.json`, the client settings that the dashboard's page Connect shows.

The command is `python -m tests.tools.client_settings`. The settings are taken from `deploy/clients.md`. A test checks
that the JSON file is up to date.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "deploy" / "clients.md"
FILE: Final = ROOT / "gateway" / "web" / "dashboard" / "clients.json"
LEFT_OUT: Final = "What does not work"
"""The heading of the only section of `deploy/clients.md` that is not about a client."""
_PART: Final = re.compile(r"^```(\w+)\n(.*?)^```$|^(\S.*?)(?=\n\n|\n```|\Z)", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\[([^\]]+)\]\([^)]*\)")


def clients() -> list[dict[str, Any]]:
    """Return the clients in the order of `deploy/clients.md`, each with its name and the parts of its section."""
    sections = PAGE.read_text().split("\n## ")[1:]
    named = (section.partition("\n") for section in sections)
    return [{"name": name, "parts": list(_parts(text))} for name, _, text in named if name != LEFT_OUT]


def _parts(text: str) -> Iterator[dict[str, Any]]:
    """Yield the blocks of code and the paragraphs of a section.

    A paragraph is a list of texts, of which the second, the fourth and so on are code.
    """
    for match in _PART.finditer(text.strip()):
        if match[2]:
            yield {"code": match[2].rstrip("\n")}
        else:
            yield {"texts": _LINK.sub(r"\1", " ".join(match[3].split())).split("`")}


def file() -> bytes:
    return orjson.dumps(clients(), option=orjson.OPT_INDENT_2) + b"\n"


if __name__ == "__main__":
    FILE.write_bytes(file())
