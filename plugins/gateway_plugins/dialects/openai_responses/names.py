"""Gives each tool of a Responses client a flat name, the name of the function that the provider gets.

In other dialects, every tool is a function with a single name. The Responses API also has functions in a `namespace`
(Codex uses these for MCP servers), custom tools whose input is free text, and the client's local shell. When the model
calls a function, `Origins` has the client's tool for the function's name, and the client gets a call of this tool.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

LOCAL_SHELL: Final = "local_shell"
FUNCTION: Final = "function"
CUSTOM: Final = "custom"


class Origin(msgspec.Struct, frozen=True):
    """A tool as the client named it. `kind` is `FUNCTION`, `CUSTOM` or `LOCAL_SHELL`."""

    kind: str
    name: str
    namespace: str = ""


Origins = Mapping[str, Origin]
"""The client's tools by their flat names (`flat`). A function that is not in the map has no namespace."""


def flat(namespace: str, name: str) -> str:
    """Return a tool's flat name: namespace and name, joined by "__".

    A flat name does not depend on other tools. So a tool has the same flat name in the offered tools and in calls.
    """
    if not namespace:
        return name
    return namespace + name if namespace.endswith("__") or name.startswith("__") else f"{namespace}__{name}"
