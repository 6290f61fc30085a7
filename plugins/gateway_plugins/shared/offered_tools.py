"""The tools that a client offers and the choice among them, as plain values of no dialect.

- A reader of a client dialect makes these values, each with its JSON pointer in the client's request.
- `build_tools` of an upstream dialect writes the tools in that dialect's words.
- Names are the client's own. `ToolChoice.renamed` gives the name that the provider gets.

Names, ids and schemas that providers accept are in `tools.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway_plugins.shared.fields import Ttl
from gateway_plugins.shared.tools import Names


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the client offers. Pointers lead into the client's request."""

    at: str
    """JSON pointer of the tool."""
    name: str
    description: str
    schema: Any
    """The input schema as it came; None if there is none."""
    schema_at: str
    """JSON pointer of the schema."""
    strict: bool
    """Whether calls must match the schema exactly."""
    strict_at: str
    """JSON pointer of `strict`."""
    ttl: Ttl = None
    """Lifetime of the cache breakpoint behind the tool."""
    ttl_at: str = ""
    """JSON pointer of the cache breakpoint."""


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """The client's choice among the tools."""

    mode: str = "auto"
    """One of auto, none, any and tool."""
    name: str = ""
    """The tool that must be called; "" unless the mode is tool."""
    parallel: bool = True
    """Whether several tools may be called at once."""
    at: str = "/tool_choice"
    """JSON pointer of the choice."""
    parallel_at: str = "/parallel_tool_calls"
    """JSON pointer of `parallel`."""

    @property
    def is_forced(self) -> bool:
        """True if the model must call a tool."""
        return self.mode in {"any", "tool"}

    def renamed(self, names: Names) -> ToolChoice:
        """Return the choice with the tool's name as the provider gets it."""
        return replace(self, name=names.alias(self.name)) if self.name else self


@dataclass(frozen=True, slots=True)
class OfferedTools:
    """The tools that may be called, and the choice among them."""

    tools: Sequence[Tool]
    choice: ToolChoice
