"""Writers of a Chat Completions request's tools, tool choice, output limit, effort, sampling and answer format.

Every translation to Chat uses these writers, whatever the client's dialect. `shared/settings.py` decides which settings
to send. Messages are in `demand.py`. Source: OpenAI's API reference (Chat, Structured outputs, Function calling).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Caps, Drop
from gateway_plugins.shared.lenient import mapping, sequence
from gateway_plugins.shared.offered_tools import Tool, ToolChoice
from gateway_plugins.shared.output_format import SCHEMA_TOOL, FormattedOutput, JsonFormat, schema_hint
from gateway_plugins.shared.settings import Settings, UpstreamRules
from gateway_plugins.shared.thinking import ThinkingPlan, effort_for_budget, nearest_effort
from gateway_plugins.shared.tools import Block, Names, fit_schema, unused

RULES: Final = UpstreamRules(max_temperature=2)

_USUAL_EFFORT: Final = "high"
"""Effort if thinking is requested without an effort or a token budget. Anthropic's default is the same."""
_NOT_STRICT: Final = ("allOf", "oneOf", "not", "if", "patternProperties", "dependentRequired", "dependentSchemas")
"""Keywords that OpenAI refuses in a strict schema (OpenAI's guide to structured outputs, supported schemas)."""
_PENALTIES: Final = ("frequency_penalty", "presence_penalty")
_MAX_STOPS: Final = 4
"""Maximum number of stop sequences. OpenAI refuses more."""
_SCHEMA_TOOL_DESCRIPTION: Final = "Give the final answer to the user as the arguments of this function."
_NOT_IN_NAMES: Final = re.compile(r"[^a-zA-Z0-9_-]+")
_MAX_NAME: Final = 64
"""Maximum number of characters in the name of the answer's JSON schema. OpenAI refuses a longer name."""


def stream_members() -> Block:
    """Return the fields that request a stream with a usage report. Clients of other dialects expect usage."""
    return {"stream": True, "stream_options": {"include_usage": True}}


def build_tools(offered: Sequence[Tool], names: Names, caps: Caps, drop: Drop) -> list[Block]:
    """Return the definitions of the functions. Cache breakpoints are reported as dropped, because Chat has none."""
    functions = []
    for tool in offered:
        schema = fit_schema(tool.schema, tool.name, tool.schema_at, caps, drop)
        made = _function(names.alias(tool.name), tool.description, schema)
        if tool.strict and caps.strict_tools and is_strict_schema(made["function"]["parameters"]):
            made["function"]["strict"] = True
        elif tool.strict:
            drop(tool.strict_at)
        if tool.ttl is not None:
            drop(tool.ttl_at)
        functions.append(made)
    return functions


def _function(name: str, description: str, schema: Block) -> Block:
    made: Block = {"name": name}
    if description.strip():
        made["description"] = description
    made["parameters"] = schema
    return {"type": "function", "function": made}


def is_strict_schema(schema: Any) -> bool:
    """Return whether OpenAI accepts the schema as strict.

    A strict schema forbids additional properties, has no optional properties, and has no keyword of `_NOT_STRICT`.
    """
    if isinstance(schema, list):
        return all(map(is_strict_schema, schema))
    if not isinstance(schema, dict):
        return True
    if any(name in schema for name in _NOT_STRICT):
        return False
    if schema.get("type") == "object" or "properties" in schema:
        required = {name for name in sequence(schema.get("required")) if isinstance(name, str)}
        if schema.get("additionalProperties") is not False or mapping(schema.get("properties")).keys() - required:
            return False
    inner = [*_values(schema.get("properties")), *_values(schema.get("$defs")), *_values(schema.get("definitions"))]
    return is_strict_schema([*inner, schema.get("items"), schema.get("anyOf")])


def _values(named: Any) -> list[Any]:
    return list(named.values()) if isinstance(named, dict) else []


def _tool_members(functions: Sequence[Block], choice: ToolChoice, caps: Caps, drop: Drop) -> Block:
    """Return `tools`, `tool_choice` and `parallel_tool_calls`, or {} if no function is offered.

    Earlier messages may call tools that are not offered. Chat accepts such calls, unlike Anthropic's API.
    """
    if not functions:
        return {}
    if not caps.tools:
        raise invalid("tools: this model calls no tools; leave them out", "tools")
    body: Block = {"tools": list(functions)}
    mode = choice.mode
    if choice.is_forced and not caps.forced_tool_choice:
        drop(choice.at)
        mode = "auto"
    if mode == "tool":
        body["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    elif mode != "auto":
        body["tool_choice"] = {"any": "required", "none": "none"}[mode]
    if not choice.parallel and mode != "none":
        body["parallel_tool_calls"] = False
    return body


def parameters(settings: Settings, caps: Caps, drop: Drop, *, stops_at: str) -> Block:
    """Return the fields for output limit, thinking, sampling and stop sequences.

    Chat has no `top_k`, and at most `_MAX_STOPS` stop sequences. So `top_k` and further stop sequences are reported as
    dropped. `stops_at` is the JSON pointer of the stop sequences in the client's body.
    """
    return (
        _limit(settings.limit, caps)
        | _thinking(settings.thinking, caps)
        | _sampling(settings.sampling, drop, settings.top_k_at)
        | _stops(settings.stops, drop, stops_at)
    )


def penalties(given: Mapping[str, Any], pointer: Callable[[str], str], caps: Caps, drop: Drop) -> Block:
    """Return the seed and the penalties in `given`.

    For a model without sampling parameters, the penalties are left out and reported as dropped. `pointer` converts a
    name in `given` to the JSON pointer of the client's field.
    """
    refused = [name for name in _PENALTIES if name in given and caps.sampling == "none"]
    for name in refused:
        drop(pointer(name))
    return {name: value for name, value in given.items() if name not in refused}


def _limit(tokens: int | None, caps: Caps) -> Block:
    """Return the output limit in the field that the model accepts, or {} without a limit."""
    if tokens is None:
        return {}
    return {"max_completion_tokens" if caps.max_completion_tokens else "max_tokens": tokens}


def _thinking(plan: ThinkingPlan, caps: Caps) -> Block:
    """Return the fields that request thinking or switch it off. Return {} if the plan does neither.

    Most servers have only the field `reasoning_effort`. Some models have their own field (`Caps.reasoning`).
    """
    if not plan.form:
        return {}
    switches: dict[str, Block] = {
        "thinking.type": {"thinking": {"type": plan.off or "enabled"}},
        "enable_thinking": {"enable_thinking": not plan.off},
        "chat_template_kwargs": {"chat_template_kwargs": {"enable_thinking": not plan.off}},
    }
    if plan.form in switches:
        return switches[plan.form] | ({"reasoning_effort": plan.effort} if plan.effort else {})
    if plan.off:
        return {"reasoning_effort": "none"}
    effort = plan.effort or (effort_for_budget(plan.tokens) if plan.tokens else _USUAL_EFFORT)
    return {"reasoning_effort": nearest_effort(effort, caps.efforts) or effort}


def _sampling(sampling: Mapping[str, float], drop: Drop, top_k_at: str) -> Block:
    if "top_k" in sampling:
        drop(top_k_at)
    return {name: value for name, value in sampling.items() if name != "top_k"}


def _stops(stops: Sequence[str], drop: Drop, at: str) -> Block:
    if len(stops) > _MAX_STOPS:
        drop(at)
    return {"stop": list(stops[:_MAX_STOPS])} if stops else {}


def build_output(
    wanted: JsonFormat | None, functions: Sequence[Block], choice: ToolChoice, caps: Caps, drop: Drop
) -> FormattedOutput:
    """Return the fields for the functions, the tool choice and the answer's format."""
    if wanted is None:
        return FormattedOutput(_tool_members(functions, choice, caps, drop))
    if caps.json_schema:
        body = _tool_members(functions, choice, caps, drop) | {"response_format": _response_format(wanted)}
        return FormattedOutput(body)
    if not (caps.tools and caps.forced_tool_choice) or choice.is_forced:
        drop(wanted.at)
        return FormattedOutput(_tool_members(functions, choice, caps, drop), hint=schema_hint(wanted.schema))
    name = unused(SCHEMA_TOOL, {tool["function"]["name"] for tool in functions})
    description = " ".join(filter(None, [_SCHEMA_TOOL_DESCRIPTION, wanted.description]))
    schema_tool = _function(name, description, fit_schema(wanted.schema, name, wanted.schema_at, caps, drop))
    is_only_one = not functions or choice.mode == "none"
    forced = ToolChoice("tool" if is_only_one else "any", name, choice.parallel, choice.at)
    body = _tool_members([*functions, schema_tool], forced, caps, drop)
    return FormattedOutput(body, schema_tool=name)


def _response_format(wanted: JsonFormat) -> Block:
    strict = is_strict_schema(wanted.schema) if wanted.strict is None else wanted.strict
    name = _NOT_IN_NAMES.sub("_", wanted.name)[:_MAX_NAME] or SCHEMA_TOOL
    made: Block = {"name": name, "schema": wanted.schema, "strict": strict}
    if wanted.description:
        made["description"] = wanted.description
    return {"type": "json_schema", "json_schema": made}
