"""Readers that Chat Completions and Responses share.

They read the service tier, the tool choice and cache breakpoints. They refuse a file in a message whose role allows
only text. General checks are in `shared/checks.py`. The classes of the returned values are in
`shared/plain_request.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from gateway.contract.errors import invalid
from gateway.contract.flag import Drop, Members
from gateway_plugins.shared import offered_tools
from gateway_plugins.shared.checks import flag_of
from gateway_plugins.shared.fields import Ttl, member, param
from gateway_plugins.shared.lenient import mapping
from gateway_plugins.shared.offered_tools import OfferedTools, Tool, ToolChoice
from gateway_plugins.shared.plain_request import Part

_TIERS: Final = ("flex", "priority")
BREAKPOINT: Final = "prompt_cache_breakpoint"
"""Field of a message part. It asks the provider to cache the prompt up to the end of this part (GPT-5.6 and later)."""
_LIFETIMES: Final = ("30m", "12h")
MODES: Final[Mapping[str, str]] = {"auto": "auto", "none": "none", "required": "any", "any": "any"}
"""The gateway's mode of tool choice, for each word that clients send in `tool_choice`."""
MAX_TEMPERATURE: Final = 2
"""Maximum temperature in OpenAI's API."""


class ChoiceMember(msgspec.Struct, frozen=True):
    """The value of the client's `tool_choice`."""

    mode: str = "auto"
    """`auto`, `none`, `any` or `tool` (`shared/offered_tools.py`)."""
    name: str = ""
    """Name of the tool that must be called. It is "" if the mode is not `tool`."""
    allowed: tuple[str, ...] | None = None
    """Names of the tools that the model may call (`allowed_tools`), or None if it may call all offered tools."""


def refuse_files(parts: Iterable[Part], role: str) -> None:
    """Raise `Refused` if a message has a file although its role allows only text."""
    for part in parts:
        if part.media is not None:
            raise invalid(f"{param(part.at)}: a message of role {role} holds text only", param(part.at))


def breakpoint_ttl(raw: Mapping[str, Any], at: str, drop: Drop) -> Ttl:
    """Return the lifetime of a part's cache breakpoint, or "" for the default. Return None if the part has no
    breakpoint.

    OpenAI's lifetimes (30 minutes or twelve hours) become one hour, the longest that other providers have. Twelve hours
    are also reported as dropped.
    """
    mark = raw.get(BREAKPOINT)
    if mark is None:
        return None
    ttl = mark.get("ttl") if isinstance(mark, dict) else None
    if not isinstance(mark, dict) or mark.get("mode") != "explicit" or ttl not in (None, *_LIFETIMES):
        field = f"{param(at)}.{BREAKPOINT}"
        raise invalid(
            f'{field} must be {{"mode": "explicit"}}, with a "ttl" of {" or ".join(_LIFETIMES)} or none', field
        )
    if ttl == _LIFETIMES[-1]:
        drop(f"{at}/{BREAKPOINT}/ttl")
    return "1h" if ttl else ""


def refuse_promises(top: Members) -> None:
    """Raise `Refused` if the request relies on one of two services that only OpenAI has:

    - `prompt_cache_options.prewarm`: OpenAI fills the prompt cache and gives no answer.
    - `moderation.policy` with the mode `block`: OpenAI blocks a harmful input or answer.
    """
    if mapping(member(top, "prompt_cache_options")).get("prewarm") is True:
        field = "prompt_cache_options.prewarm"
        raise invalid(f"{field}: this model cannot prepare its cache without an answer: leave it out", field)
    policy = mapping(mapping(member(top, "moderation")).get("policy"))
    for name in ("input", "output"):
        if mapping(policy.get(name)).get("mode") == "block":
            field = f"moderation.policy.{name}"
            raise invalid(f"{field}: no moderation runs for this model: leave it out", field)


def service_tier(top: Members) -> str:
    """Return the service tier to request, or "" for the default tier.

    A missing tier, `auto` (bifrost#7266) and `default` all mean the default tier.
    """
    tier = member(top, "service_tier")
    if tier in (None, "auto", "default"):
        return ""
    if tier not in _TIERS:
        raise invalid(f'service_tier: "{tier}" is not one of auto, default, {", ".join(_TIERS)}', "service_tier")
    return str(tier)


def offer(tools: Sequence[Tool], choice: ChoiceMember, top: Members, field: str = "tool_choice") -> OfferedTools:
    """Return the tools that may be called, and the tool choice. Tools that `choice.allowed` excludes are left out.

    Raises `Refused` for a choice that the offered tools cannot satisfy. The error names `field`.
    """
    if choice.allowed is not None:
        tools = [tool for tool in tools if tool.name in choice.allowed]
    parallel = flag_of(member(top, "parallel_tool_calls"), "/parallel_tool_calls") is not False
    return offered_tools.offer(tools, ToolChoice(choice.mode, choice.name, parallel, f"/{field}"))
