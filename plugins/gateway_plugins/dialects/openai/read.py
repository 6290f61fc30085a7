"""Readers that Chat Completions and Responses requests have in common: files by role, the tier, the choice of tools.

Member names that differ between the two dialects belong to their own readers, general checks of values to
`shared/checks.py`, and the values that requests are read into to `values.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Members
from gateway_plugins.dialects.openai.values import Part
from gateway_plugins.shared.checks import flag_of
from gateway_plugins.shared.fields import member, param
from gateway_plugins.shared.offered_tools import OfferedTools, Tool, ToolChoice

_TIERS: Final = ("flex", "priority")
MODES: Final[Mapping[str, str]] = {"auto": "auto", "none": "none", "required": "any", "any": "any"}
"""Modes by the words that `tool_choice` takes."""
MAX_TEMPERATURE: Final = 2
"""Largest temperature on OpenAI's scale."""


@dataclass(frozen=True, slots=True)
class ChoiceMember:
    """The member `tool_choice` as the client sent it, before the tools that it allows are selected."""

    mode: str = "auto"
    """One of auto, none, any and tool."""
    name: str = ""
    """The tool that must be called; "" unless the mode is tool."""
    allowed: tuple[str, ...] | None = None
    """The only tools that may be called (`allowed_tools`); None if all may."""


def refuse_files(parts: Iterable[Part], role: str) -> None:
    """Raise `Refused` for a file in a message of a role that has texts only."""
    for part in parts:
        if part.media is not None:
            raise invalid(f"{param(part.at)}: a message of role {role} holds text only", param(part.at))


def service_tier(top: Members) -> str:
    """Return the tier to request, "" for none: `auto` asks for none (bifrost#7266), and `default` is what none gets."""
    tier = member(top, "service_tier")
    if tier in (None, "auto", "default"):
        return ""
    if tier not in _TIERS:
        raise invalid(f'service_tier: "{tier}" is not one of auto, default, {", ".join(_TIERS)}', "service_tier")
    return str(tier)


def offer(tools: Sequence[Tool], choice: ChoiceMember, top: Members, field: str = "tool_choice") -> OfferedTools:
    """Return the tools that may be called, and the choice among them.

    Raises `Refused` for a choice that no tool can meet. `field` is the name of the choice in the error.
    """
    if choice.allowed is not None:
        tools = [tool for tool in tools if tool.name in choice.allowed]
    if choice.mode in {"any", "tool"} and not tools:
        raise invalid(f"{field}: a tool is demanded but none is offered; send tools", field)
    if choice.mode == "tool" and choice.name not in {tool.name for tool in tools}:
        raise invalid(f'{field}: no tool is named "{choice.name}"', field)
    parallel = flag_of(member(top, "parallel_tool_calls"), "/parallel_tool_calls") is not False
    return OfferedTools(tools, ToolChoice(choice.mode, choice.name, parallel, f"/{field}"))
