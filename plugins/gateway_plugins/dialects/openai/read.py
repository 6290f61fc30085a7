"""Readers for requests of both Chat Completions and Responses: the service tier, the tool choice, misplaced files.

Code for only one of the two dialects is in that dialect's own readers. General checks are in `shared/checks.py`. The
classes of the values that are read are in `shared/plain_request.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Members
from gateway_plugins.shared import offered_tools
from gateway_plugins.shared.checks import flag_of
from gateway_plugins.shared.fields import member, param
from gateway_plugins.shared.offered_tools import OfferedTools, Tool, ToolChoice
from gateway_plugins.shared.plain_request import Part

_TIERS: Final = ("flex", "priority")
MODES: Final[Mapping[str, str]] = {"auto": "auto", "none": "none", "required": "any", "any": "any"}
"""The gateway's mode of tool choice, by the words that clients send in `tool_choice`."""
MAX_TEMPERATURE: Final = 2
"""Maximum temperature in OpenAI's API."""


@dataclass(frozen=True, slots=True)
class ChoiceMember:
    """The client's `tool_choice`, before the tools that it does not allow are removed from the offered tools."""

    mode: str = "auto"
    """One of `auto`, `none`, `any` and `tool`, with the meanings in `shared/offered_tools.py`."""
    name: str = ""
    """Name of the tool that must be called; "" if the mode is not `tool`."""
    allowed: tuple[str, ...] | None = None
    """Names of the only tools that may be called (`allowed_tools`); None if all tools may be called."""


def refuse_files(parts: Iterable[Part], role: str) -> None:
    """Raise `Refused` if a message has a file although its role allows only text."""
    for part in parts:
        if part.media is not None:
            raise invalid(f"{param(part.at)}: a message of role {role} holds text only", param(part.at))


def service_tier(top: Members) -> str:
    """Return the service tier to request; "" for `auto` (bifrost#7266) and `default`, which mean the same as no
    tier.
    """
    tier = member(top, "service_tier")
    if tier in (None, "auto", "default"):
        return ""
    if tier not in _TIERS:
        raise invalid(f'service_tier: "{tier}" is not one of auto, default, {", ".join(_TIERS)}', "service_tier")
    return str(tier)


def offer(tools: Sequence[Tool], choice: ChoiceMember, top: Members, field: str = "tool_choice") -> OfferedTools:
    """Return the tools that may be called, and the tool choice.

    Raises `Refused` for a choice that the offered tools cannot satisfy. `field` is the name of the member in the error.
    """
    if choice.allowed is not None:
        tools = [tool for tool in tools if tool.name in choice.allowed]
    parallel = flag_of(member(top, "parallel_tool_calls"), "/parallel_tool_calls") is not False
    return offered_tools.offer(tools, ToolChoice(choice.mode, choice.name, parallel, f"/{field}"))
