"""Readers of a Messages request's tools and parameters, for any conversion from it: the second half of
`read.py`, by the same rules.

What parameters mean for a model is decided in `shared/settings.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Caps, Drop, Members
from gateway_plugins.dialects.anthropic_messages.read import ttl_of
from gateway_plugins.shared import checks
from gateway_plugins.shared.fields import Ttl, member, param
from gateway_plugins.shared.settings import SAMPLING, ThinkingRequest, nearest_effort, parse_thinking

_CARRIED: Final = frozenset(
    {
        "anthropic_beta", "anthropic_version", "cache_control", "max_tokens", "messages", "metadata", "model",
        "output_config", "output_format", "service_tier", "stop_sequences", "stream", "system", "temperature",
        "thinking", "tool_choice", "tools", "top_k", "top_p",
    }
)  # fmt: skip
"""Members that are carried, refused, or reported by name; `metadata` says who asks, which is nobody's business."""
_NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    # values that ask for nothing, so that leaving them out loses nothing
    "speed": ("standard",),
    "mcp_servers": ([],),
    "context_management": ({}, {"edits": []}),
}
REFUSED_MEMBERS: Final[Mapping[str, str]] = {
    # what cannot be left out without changing what the client gets, and what to do instead
    "thread": "no conversations are stored here: send the whole conversation as messages",
    "compaction": "only Anthropic's own servers compact a conversation: leave it out",
    "mcp_servers": "only Anthropic's own servers call MCP servers: leave it out, and offer their tools yourself",
}
_USUAL_TIERS: Final = (None, "auto", "standard_only")
_TIERS: Final = ("flex", "priority")
"""Bedrock's words for a tier, which clients may send that know where they talk to."""
_MODES: Final = ("auto", "any", "tool", "none")
_ON_TOOLS: Final = (
    "type", "name", "description", "input_schema", "strict", "cache_control", "allowed_callers",
    "eager_input_streaming",
)  # fmt: skip
"""The last says how soon a call's input streams, not what comes: opencode and the AI SDK send it with every tool."""
_ALONE_AT: Final = "/tool_choice/disable_parallel_tool_use"
_EFFORT_AT: Final = "/output_config/effort"
_DIRECT: Final[tuple[Any, ...]] = (None, [], ["direct"])


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the client runs."""

    at: str
    name: str
    description: str
    schema: Any
    """As it came."""
    strict: bool
    ttl: Ttl = None


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools, and the choice among them: `mode` is auto, any, tool or none, `name` belongs to tool."""

    offered: tuple[Tool, ...]
    mode: str
    name: str
    parallel: bool


@dataclass(frozen=True, slots=True)
class Format:
    """An answer of a JSON schema. `at` is the JSON pointer of what asks for it."""

    schema: dict[str, Any]
    at: str


def leftovers(top: Members, drop: Drop) -> None:
    """Report every member that no conversion from Messages carries and that asked for something.

    Raises `Refused` for one without which the answer would be another.
    """
    checks.refuse(top, REFUSED_MEMBERS, _NEUTRAL)
    checks.leftovers(top, _CARRIED, _NEUTRAL, drop)


def tools(top: Members, drop: Drop) -> Tools:
    """Raises `Refused` for a tool that Anthropic's servers would run, and for a demand that no tool can meet."""
    raws = checks.list_of(member(top, "tools"), "/tools")
    offered = tuple(_tool(raw, f"/tools/{index}", drop) for index, raw in enumerate(raws))
    choice = checks.object_of(member(top, "tool_choice"), "/tool_choice")
    mode, name = choice.get("type", "auto"), choice.get("name")
    if not isinstance(mode, str) or mode not in _MODES:
        raise invalid(f'tool_choice.type: "{mode}" is not one of {", ".join(_MODES)}', "tool_choice.type")
    if mode in {"any", "tool"} and not offered:
        raise invalid("tool_choice: a tool is demanded but none is offered; send tools", "tool_choice")
    if mode == "tool" and name not in [tool.name for tool in offered]:  # of any type
        raise invalid(f'tool_choice.name: no tool is named "{name}"', "tool_choice.name")
    parallel = checks.flag_of(choice.get("disable_parallel_tool_use"), _ALONE_AT) is not True
    return Tools(offered, str(mode), str(name) if mode == "tool" else "", parallel)


def _tool(raw: Any, at: str, drop: Drop) -> Tool:
    tool = checks.object_of(raw, at)
    name = tool.get("name")
    if tool.get("type") not in (None, "custom"):
        what = f'"{name}" of type "{tool["type"]}"' if name else f'of type "{tool["type"]}"'
        raise invalid(f"{param(at)}: the tool {what} is not one that this model can call; leave it out", param(at))
    if not isinstance(name, str) or not name.strip():
        raise invalid(f"{param(at)}.name must not be empty", f"{param(at)}.name")
    checks.inner_leftovers(tool, _ON_TOOLS, at, drop)
    if tool.get("allowed_callers") not in _DIRECT:
        drop(f"{at}/allowed_callers")
    return Tool(
        at=at,
        name=name,
        description=checks.text_of(tool.get("description"), f"{at}/description"),
        schema=tool.get("input_schema"),
        strict=checks.flag_of(tool.get("strict"), f"{at}/strict") is True,
        ttl=ttl_of(tool, at, drop),
    )


def ttl(top: Members, drop: Drop) -> Ttl:
    """A cache mark on the whole prompt."""
    return ttl_of({"cache_control": member(top, "cache_control")}, "", drop)


def limit(top: Members) -> int | None:
    return checks.limit(top, "max_tokens")


def sampling(top: Members) -> dict[str, float]:
    """temperature, top_p and top_k, as far as they are given."""
    return checks.numbers(top, SAMPLING)


def stops(top: Members) -> list[str]:
    """Empty ones are left out: they stop nothing, and are refused upstream."""
    found = checks.list_of(member(top, "stop_sequences"), "/stop_sequences")
    if not all(isinstance(stop, str) for stop in found):
        raise invalid("stop_sequences must be a list of strings", "stop_sequences")
    return [stop for stop in found if stop]


def effort(top: Members) -> str:
    """`output_config.effort`, "" when nothing is said."""
    config = checks.object_of(member(top, "output_config"), "/output_config")
    return checks.effort(config.get("effort"), "output_config.effort")


def wish(top: Members, caps: Caps, drop: Drop) -> ThinkingRequest:
    """What is said of thinking.

    To Claude an effort without thinking does not mean that it should think: it says how much to write. To other models
    it is the only word that they have for both.
    """
    raw = member(top, "thinking")
    if isinstance(raw, dict):
        if raw.get("type") == "between_tools":  # thinking that is not shown, and only after calls
            drop("/thinking/type")
            raw = {"type": "adaptive"}
        checks.inner_leftovers(raw, ("type", "budget_tokens", "display"), "/thinking", drop)
    own = parse_thinking(raw)
    wanted = effort(top)
    thinks = own is not None and own.mode != "disabled"
    if caps.reasoning in {"budget", "adaptive"} and not (thinks and not caps.effort_beta):
        wanted = ""
    return ThinkingRequest(wanted, own, effort_at=_EFFORT_AT)


def effort_alone(top: Members, wished: ThinkingRequest, caps: Caps, drop: Drop) -> str:
    """The effort that a Claude is asked for beside its thinking, or without any; "" where the wish holds it."""
    wanted = effort(top)
    if not wanted or wished.effort:
        return ""
    nearest = nearest_effort(wanted, caps.efforts) if caps.reasoning == "adaptive" or caps.effort_beta else ""
    if nearest != wanted:
        drop(_EFFORT_AT)
    return nearest


def format_(top: Members, drop: Drop) -> Format | None:
    """`output_config.format`, or `output_format`, its older name."""
    config = checks.object_of(member(top, "output_config"), "/output_config")
    checks.inner_leftovers(config, ("effort", "format"), "/output_config", drop)
    at = "/output_config/format" if config.get("format") is not None else "/output_format"
    raw = config.get("format") or member(top, "output_format")
    if raw is None:
        return None
    schema = raw.get("schema") if isinstance(raw, dict) and raw.get("type") == "json_schema" else None
    if not isinstance(schema, dict):
        raise invalid(f"{param(at)} must be of type json_schema, with a schema", param(at))
    return Format(schema, at)


def service_tier(top: Members) -> str:
    """Bedrock's `flex` or `priority`; "" for the usual one, by either of Anthropic's words."""
    tier = member(top, "service_tier")
    if tier in _USUAL_TIERS:
        return ""
    if tier not in _TIERS:
        known = ", ".join(("auto", "standard_only", *_TIERS))
        raise invalid(f'service_tier: "{tier}" is not one of {known}', "service_tier")
    return str(tier)
