"""Readers of the tools and parameters in a Messages request, for every translation from Messages.

The beginning of `read.py` says which values are refused, and which are reported as dropped. `shared/settings.py`
decides which settings are sent to a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Caps, Drop, Members
from gateway_plugins.dialects.anthropic_messages.read import ttl_of
from gateway_plugins.dialects.anthropic_messages.system_messages import CLIENT_TOOLS, inline_tools
from gateway_plugins.shared import checks, numbers
from gateway_plugins.shared import thinking as thinking_efforts
from gateway_plugins.shared.fields import Ttl, member, param
from gateway_plugins.shared.offered_tools import OfferedTools, Tool, ToolChoice
from gateway_plugins.shared.output_format import JsonFormat
from gateway_plugins.shared.settings import Parameters
from gateway_plugins.shared.thinking import ANTHROPIC_FORMS, BETWEEN_TOOLS, ThinkingRequest, parse_thinking

_CARRIED: Final = frozenset(
    {
        "anthropic_beta", "anthropic_version", "cache_control", "max_tokens", "messages", "model",
        "output_config", "output_format", "service_tier", "stop_sequences", "stream", "system", "temperature",
        "thinking", "tool_choice", "tools", "top_k", "top_p",
    }
)  # fmt: skip
"""Fields of a request that are read. `leftovers` does not report them as dropped."""
_NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    # field: values without effect. A field with such a value is left out without a report
    "speed": ("standard",),
    "mcp_servers": ([],),
    "context_management": ({}, {"edits": []}),
    # no other dialect has a place for `user_id`: AWS logs `requestMetadata`, and allows few characters in it
    "metadata": ({}, {"user_id": None}),
}
REFUSED_MEMBERS: Final[Mapping[str, str]] = {
    # field that cannot be ignored, because the reply would not be what the client wants: the advice in the error
    "thread": "no conversations are stored here: send the whole conversation as messages",
    "compaction": "only Anthropic's own servers compact a conversation: leave it out",
    "mcp_servers": "only Anthropic's own servers call MCP servers: leave it out, and offer their tools yourself",
}
MEMBERS: Final = frozenset({*_CARRIED, *_NEUTRAL, *REFUSED_MEMBERS, "betas", "container", "inference_geo"})
"""All fields of a request that Anthropic's APIs know."""
_USUAL_TIERS: Final = (None, "auto", "standard_only")
_TIERS: Final = ("flex", "priority")
"""Bedrock's service tiers, which are accepted besides Anthropic's. A client may send them if it knows that its provider
is Bedrock."""
_MODES: Final = ("auto", "any", "tool", "none")
_TOOL_MEMBERS: Final = (
    "type", "name", "description", "input_schema", "strict", "cache_control", "allowed_callers",
    "eager_input_streaming",
)  # fmt: skip
"""Fields of a tool that are not reported as dropped, because they are read, or have no effect on the answer.

`eager_input_streaming` only makes the input of tool calls stream sooner. opencode and the AI SDK send it with every
tool."""
_PARALLEL_AT: Final = "/tool_choice/disable_parallel_tool_use"
EFFORT_AT: Final = "/output_config/effort"
_DIRECT_CALLERS: Final[tuple[Any, ...]] = (None, [], ["direct"])


def leftovers(top: Members, drop: Drop) -> None:
    """Report as dropped the request's fields that only Anthropic's API has. Values without effect are not reported.

    Raises `Refused` if the request has a field of `REFUSED_MEMBERS`.
    """
    checks.refuse(top, REFUSED_MEMBERS, _NEUTRAL)
    checks.leftovers(top, _CARRIED, _NEUTRAL, drop)


def tools(top: Members, drop: Drop) -> OfferedTools:
    """Return the offered tools and the tool choice. Tools that a message defines are offered too.

    Raises `Refused` for a tool that runs on Anthropic's servers, and for a choice that the tools cannot satisfy.
    """
    raws = checks.list_of(member(top, "tools"), "/tools")
    offered = [_tool(raw, f"/tools/{index}", drop) for index, raw in enumerate(raws)]
    inline = {tool.name: tool for raw, at in inline_tools(top) for tool in [_tool(raw, at, drop)]}
    offered = [*(tool for tool in offered if tool.name not in inline), *inline.values()]
    choice = checks.object_of(member(top, "tool_choice"), "/tool_choice")
    mode, name = choice.get("type", "auto"), choice.get("name")
    if not isinstance(mode, str) or mode not in _MODES:
        raise invalid(f'tool_choice.type: "{mode}" is not one of {", ".join(_MODES)}', "tool_choice.type")
    if mode in {"any", "tool"} and not offered:
        raise invalid("tool_choice: a tool is demanded but none is offered; send tools", "tool_choice")
    if mode == "tool" and name not in [tool.name for tool in offered]:  # the name may be of any type
        raise invalid(f'tool_choice.name: no tool is named "{name}"', "tool_choice.name")
    parallel = checks.flag_of(choice.get("disable_parallel_tool_use"), _PARALLEL_AT) is not True
    name = str(name) if mode == "tool" else ""
    return OfferedTools(offered, ToolChoice(mode, name, parallel, parallel_at=_PARALLEL_AT))


def _tool(raw: Any, at: str, drop: Drop) -> Tool:
    tool = checks.object_of(raw, at)
    name = tool.get("name")
    if tool.get("type") not in CLIENT_TOOLS:
        what = f'"{name}" of type "{tool["type"]}"' if name else f'of type "{tool["type"]}"'
        raise invalid(f"{param(at)}: the tool {what} is not one that this model can call; leave it out", param(at))
    if not isinstance(name, str) or not name.strip():
        raise invalid(f"{param(at)}.name must not be empty", f"{param(at)}.name")
    checks.inner_leftovers(tool, _TOOL_MEMBERS, at, drop)
    if tool.get("allowed_callers") not in _DIRECT_CALLERS:
        drop(f"{at}/allowed_callers")
    return Tool(
        at=at,
        name=name,
        description=checks.text_of(tool.get("description"), f"{at}/description"),
        schema=tool.get("input_schema"),
        schema_at=f"{at}/input_schema",
        strict=checks.flag_of(tool.get("strict"), f"{at}/strict") is True,
        strict_at=f"{at}/strict",
        ttl=ttl_of(tool, at, drop),
        ttl_at=f"{at}/cache_control",
    )


def ttl(top: Members, drop: Drop) -> Ttl:
    """Return the lifetime in the top-level `cache_control`. This field applies to the whole prompt."""
    return ttl_of({"cache_control": member(top, "cache_control")}, "", drop)


def parameters(top: Members, caps: Caps, drop: Drop) -> Parameters:
    """Return the thinking, output limit, sampling and stop sequences. Raises `Refused` for a malformed value."""
    return Parameters(
        thinking=_thinking(top, caps, drop),
        limit=numbers.limit(top, "max_tokens"),
        limit_at="/max_tokens",
        sampling=numbers.members(top, numbers.SAMPLING),
        stops=_stops(top),
        stops_at="/stop_sequences",
    )


def _stops(top: Members) -> list[str]:
    """Return the stop sequences that are not empty. Providers refuse empty ones."""
    stops = checks.list_of(member(top, "stop_sequences"), "/stop_sequences")
    if not all(isinstance(stop, str) for stop in stops):
        raise invalid("stop_sequences must be a list of strings", "stop_sequences")
    return [stop for stop in stops if stop]


def _effort(top: Members) -> str:
    """Return `output_config.effort`, or "" if it is missing."""
    config = checks.object_of(member(top, "output_config"), "/output_config")
    return checks.effort(config.get("effort"), "output_config.effort")


def _thinking(top: Members, caps: Caps, drop: Drop) -> ThinkingRequest:
    raw = member(top, "thinking")
    if isinstance(raw, dict):
        checks.inner_leftovers(raw, ("type", "budget_tokens", "display"), "/thinking", drop)
    return thinking_request(raw, _effort(top), caps, drop)


def thinking_request(raw: Any, effort: str, caps: Caps, drop: Drop) -> ThinkingRequest:
    """Return the requested thinking, from the field `thinking` (`raw`) and from `effort` in `output_config`.

    For most models, an effort requests thinking. Claude's effort applies to the whole answer instead, so it is left to
    `answer_effort`, with two exceptions:

    - The effort is `none`, which switches thinking off.
    - The request also has `thinking`, and the model needs no beta for efforts.
    """
    if isinstance(raw, dict) and raw.get("type") == BETWEEN_TOOLS:
        if caps.thinking_off != BETWEEN_TOOLS:  # adaptive thinking is the nearest
            drop("/thinking/type")
        raw = {"type": "disabled" if caps.thinking_off == BETWEEN_TOOLS else "adaptive"}
    anthropic = parse_thinking(raw)
    thinks = anthropic is not None and anthropic.mode != "disabled"
    if caps.reasoning in ANTHROPIC_FORMS and effort != "none" and not (thinks and not caps.effort_beta):
        effort = ""
    return ThinkingRequest(effort, anthropic, effort_at=EFFORT_AT)


def answer_effort(top: Members, thinking: ThinkingRequest, caps: Caps, drop: Drop) -> str:
    """Return the effort to request from Claude for the whole answer, or "" for none.

    The result is "" too if `thinking` already has the effort.
    """
    effort = _effort(top)
    if not effort or thinking.effort:
        return ""
    return thinking_efforts.answer_effort(effort, EFFORT_AT, caps, drop, off=thinking.is_off)


def output_format(top: Members, drop: Drop) -> JsonFormat | None:
    """Return the answer's format from `output_config.format` or the older `output_format`.

    Return None if the request has neither.
    """
    config = checks.object_of(member(top, "output_config"), "/output_config")
    checks.inner_leftovers(config, ("effort", "format"), "/output_config", drop)
    at = "/output_config/format" if config.get("format") is not None else "/output_format"
    raw = config.get("format") or member(top, "output_format")
    if raw is None:
        return None
    schema = raw.get("schema") if isinstance(raw, dict) and raw.get("type") == "json_schema" else None
    if not isinstance(schema, dict):
        raise invalid(f"{param(at)} must be of type json_schema, with a schema", param(at))
    return JsonFormat(schema, f"{at}/schema", f"{at}/schema")


def service_tier(top: Members) -> str:
    """Return Bedrock's tier `flex` or `priority`. Return "" for `auto`, `standard_only` or no tier."""
    tier = member(top, "service_tier")
    if tier in _USUAL_TIERS:
        return ""
    if tier not in _TIERS:
        known = ", ".join(("auto", "standard_only", *_TIERS))
        raise invalid(f'service_tier: "{tier}" is not one of {known}', "service_tier")
    return str(tier)
