"""The tools that a client offers and the tool choice, in a form that is the same for all dialects.

- The reader of the client's request creates these values, each with its JSON pointer in the request.
- `build_tools` of the provider's dialect writes the tools in the form of that dialect.
- The names here are the client's. The provider may get an alias instead (`ToolChoice.renamed`).

The rules of providers for names, ids and schemas are in `tools.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.contract.errors import invalid
from gateway_plugins.shared.fields import Ttl, param
from gateway_plugins.shared.tools import Names


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the client offers. All JSON pointers refer to the client's request."""

    at: str
    """JSON pointer of the tool."""
    name: str
    description: str
    schema: Any
    """The input schema as the client sent it. It is None if there is none."""
    schema_at: str
    """JSON pointer of the schema."""
    strict: bool
    """True if calls must match the schema exactly."""
    strict_at: str
    """JSON pointer of `strict`."""
    ttl: Ttl = None
    """Lifetime of the cache breakpoint after the tool."""
    ttl_at: str = ""
    """JSON pointer of the cache breakpoint."""


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """The tool choice: whether the model may, must or must not call a tool, and which."""

    mode: str = "auto"
    """One of `auto` (the model may call a tool), `none` (it must not), `any` (it must call a tool) and `tool` (it
    must call the tool `name`)."""
    name: str = ""
    """The name of the tool that must be called. It is "" if the mode is not `tool`."""
    parallel: bool = True
    """True if one reply may have several calls."""
    at: str = "/tool_choice"
    """JSON pointer of the field with the tool choice, to report the field if it is dropped."""
    parallel_at: str = "/parallel_tool_calls"
    """JSON pointer of the field that allows parallel calls, to report the field if it is dropped."""

    @property
    def is_forced(self) -> bool:
        """True if the model must call a tool."""
        return self.mode in {"any", "tool"}

    def renamed(self, names: Names) -> ToolChoice:
        """Return the choice with the alias that the provider gets in place of the tool's name, if there is an alias."""
        return replace(self, name=names.alias(self.name)) if self.name else self


@dataclass(frozen=True, slots=True)
class OfferedTools:
    """The tools that the client offers, and the tool choice."""

    tools: Sequence[Tool]
    choice: ToolChoice


def offer(tools: Sequence[Tool], choice: ToolChoice) -> OfferedTools:
    """Return the tools and the tool choice. Raises `Refused` if the choice demands a tool that is not offered."""
    if choice.is_forced and not tools:
        raise invalid(f"{param(choice.at)}: a tool is demanded but none is offered; send tools", param(choice.at))
    if choice.mode == "tool" and choice.name not in {tool.name for tool in tools}:
        raise invalid(f'{param(choice.at)}: no tool is named "{choice.name}"', param(choice.at))
    return OfferedTools(tools, choice)
