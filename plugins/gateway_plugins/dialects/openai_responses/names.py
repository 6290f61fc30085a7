"""Flat names for the tools of a Responses client, and the way back from a flat name to the tool.

Other dialects know functions with one name only. The Responses API also has functions inside of a `namespace` (Codex's
MCP servers), custom tools that take free text, and the client's own local shell. Each gets a flat name here, and the
table of `Origin`s gives a reply's call its own form again. Nothing here reads a request or writes a reply.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

LOCAL_SHELL: Final = "local_shell"
FUNCTION: Final = "function"
CUSTOM: Final = "custom"


@dataclass(frozen=True, slots=True)
class Origin:
    """The tool behind a flat name. `kind` is `FUNCTION`, `CUSTOM` or `LOCAL_SHELL`."""

    kind: str
    name: str
    namespace: str = ""


Origins = Mapping[str, Origin]
"""Tools by flat name. A name that is not in it is a function's own."""


def flat(namespace: str, name: str) -> str:
    """Return a tool's flat name, which depends on no other tool: offered tools and calls in the history agree on it."""
    if not namespace:
        return name
    return namespace + name if namespace.endswith("__") or name.startswith("__") else f"{namespace}__{name}"
