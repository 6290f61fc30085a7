"""Flat names for the tools of a Responses client, and the tools behind the flat names.

In other dialects, every tool is a function with a single name. The Responses API also has functions in a `namespace`
(Codex uses these for MCP servers), custom tools whose input is free text, and the client's local shell. Each of these
gets a flat name here. When the model calls a tool, its `Origin` tells the form in which the client expects the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

LOCAL_SHELL: Final = "local_shell"
FUNCTION: Final = "function"
CUSTOM: Final = "custom"


class Origin(msgspec.Struct, frozen=True):
    """The client's name and namespace of a tool. `kind` is `FUNCTION`, `CUSTOM` or `LOCAL_SHELL`."""

    kind: str
    name: str
    namespace: str = ""


Origins = Mapping[str, Origin]
"""The client's own name and form of each tool, by the tool's flat name (`flat`).

If the model calls a tool that is not in the map, the call counts as the call of a function without a namespace."""


def flat(namespace: str, name: str) -> str:
    """Return a tool's flat name: namespace and name, joined by "__".

    A flat name does not depend on other tools. So a tool has the same flat name in the offered tools and in calls.
    """
    if not namespace:
        return name
    return namespace + name if namespace.endswith("__") or name.startswith("__") else f"{namespace}__{name}"
