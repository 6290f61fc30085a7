"""How a Responses client's tools are called where every tool is a function, and how their calls are called again there.

Providers know functions by one name. The Responses API also has functions inside of a `namespace` (Codex's MCP
servers), custom tools that take free text, and the client's own local shell. Each gets a flat name here; a reply's call
is given back in its own form by the table of `Origin`s. Nothing here reads a request or writes a reply.
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
    """What a flat name stands for. `kind` is `FUNCTION`, `CUSTOM` or `LOCAL_SHELL`."""

    kind: str
    name: str
    namespace: str = ""


Origins = Mapping[str, Origin]
"""Flat name to what it stands for; a name that is not here is a function's own."""


def flat(namespace: str, name: str) -> str:
    """The same for a tool that is offered and for a call of it in the history, without a look at the others."""
    if not namespace:
        return name
    return namespace + name if namespace.endswith("__") or name.startswith("__") else f"{namespace}__{name}"
