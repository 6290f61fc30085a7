"""Writers of a generateContent request's functions, tool choice, output limit, thinking, sampling and answer format.

Every translation to Gemini uses these writers, whatever the client's dialect. `shared/settings.py` decides which
settings to request. Contents are in `demand.py`. Source: Google's API reference (GenerationConfig, Tool, ToolConfig).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from gateway.contract.errors import invalid
from gateway.contract.flag import COUNT_TOKENS, Caps, Drop
from gateway_plugins.dialects.gemini_generate_content.models import Generation
from gateway_plugins.dialects.gemini_generate_content.schemas import json_schema
from gateway_plugins.shared import numbers, settings
from gateway_plugins.shared.offered_tools import OfferedTools, ToolChoice
from gateway_plugins.shared.output_format import JSON_HINT, SCHEMA_TOOL, FormattedOutput, JsonFormat, schema_hint
from gateway_plugins.shared.settings import Parameters, Plan, UpstreamRules
from gateway_plugins.shared.thinking import ThinkingRequest
from gateway_plugins.shared.tools import Block, Names, tool_schema, unused

RULES: Final = UpstreamRules(max_temperature=2)

_MAX_STOPS: Final = 5
"""Maximum number of stop sequences. Gemini refuses more."""
_BUDGETS: Final = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576}
"""Thinking budget in tokens for each effort (Gemini API, OpenAI compatibility)."""
_USUAL_EFFORT: Final = "high"
"""Effort if thinking is requested without an effort or a budget. Anthropic's default is the same."""
_SCHEMA_TOOL_DESCRIPTION: Final = "Give the final answer to the user as the arguments of this function."
_MODES: Final[Mapping[str, str]] = {"auto": "VALIDATED", "none": "NONE", "any": "ANY", "tool": "ANY"}
"""Google's mode for each of the gateway's modes of the tool choice. In the mode VALIDATED, as in AUTO, the model
decides whether it calls a function, but its calls must match the functions' schemas."""
_JSON: Final = {"responseMimeType": "application/json"}
_NUMBERS: Final[Mapping[str, str]] = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty",
}
"""Google's name for each sampling parameter, for the seed and for each penalty."""
_DISPLAYS: Final = ("summarized", "omitted")
"""Values of Anthropic's `thinking.display` that `includeThoughts` can express."""
CHAT_NUMBERS: Final = frozenset({"seed", "frequency_penalty", "presence_penalty"})
"""Fields of a Chat request that the function `penalties` converts: the seed and two penalties."""
_PENALTIES: Final = ("frequency_penalty", "presence_penalty")


def function_names() -> Names:
    """Return an empty table of function names. A name must begin with a letter or an underscore."""
    return Names(leading_digits=False)


def merge(*members: Block) -> Block:
    """Return one body with the fields of all `members`. The objects `generationConfig` are joined into one object."""
    body: Block = {}
    for each in members:
        body |= each | {
            name: body[name] | each[name] for name in ("generationConfig",) if name in body and name in each
        }
    return {name: value for name, value in body.items() if value}


def for_operation(body: Block, operation: str) -> Block:
    """Return the body for an operation: for countTokens, `body` in the field `generateContentRequest`.

    At its top level, countTokens accepts only `contents`.
    """
    return {"generateContentRequest": body} if operation == COUNT_TOKENS else body


class _Functions(msgspec.Struct, frozen=True):
    """Declarations of functions, and how the model may call them."""

    declarations: Sequence[Block]
    choice: ToolChoice
    strict: bool = False
    """True if the arguments of a call must match the function's schema exactly."""


def _functions(offered: OfferedTools, names: Names, drop: Drop) -> _Functions:
    """Return the functions for the offered tools. Gemini has no cache breakpoints, so they are reported as dropped."""
    declarations = []
    for tool in offered.tools:
        schema = json_schema(tool_schema(tool.schema, tool.name, tool.schema_at, drop), tool.schema_at, drop)
        declarations.append(_declaration(names.alias(tool.name), tool.description, schema))
        if tool.ttl is not None:
            drop(tool.ttl_at)
    return _Functions(declarations, offered.choice.renamed(names), any(tool.strict for tool in offered.tools))


def _declaration(name: str, description: str, schema: Block) -> Block:
    """Return the declaration of a function.

    The schema is sent as `parametersJsonSchema`, because `parameters` supports only a part of JSON Schema. A function
    without parameters has no schema: Gemini refused objects without properties for a long time.
    """
    made: Block = {"name": name}
    if description.strip():
        made["description"] = description
    if schema["properties"] or schema.get("additionalProperties"):
        made["parametersJsonSchema"] = schema
    return made


def _tool_members(functions: _Functions, caps: Caps, drop: Drop) -> Block:
    """Return `tools` and `toolConfig`, or {} if no function is offered.

    Gemini cannot be limited to one function call at a time. If the client sets this limit, it is reported as dropped.
    """
    choice = functions.choice
    if not functions.declarations:
        return {}
    if not caps.tools:
        raise invalid("tools: this model calls no tools; leave them out", "tools")
    mode = choice.mode
    if choice.is_forced and not caps.forced_tool_choice:
        drop(choice.at)
        mode = "auto"
    if not choice.parallel and mode != "none":
        drop(choice.parallel_at)
    body: Block = {"tools": [{"functionDeclarations": list(functions.declarations)}]}
    if mode != "auto" or functions.strict:
        named = {"allowedFunctionNames": [choice.name]} if mode == "tool" else {}
        body["toolConfig"] = {"functionCallingConfig": {"mode": _MODES[mode], **named}}
    return body


def plan(requested: Parameters, caps: Caps, generation: Generation, drop: Drop) -> Plan:
    """Return the planned thinking and output limit.

    Two values are reported as dropped: a thinking budget if the model accepts none, and a `thinking.display` (a field
    of Anthropic's API) that `includeThoughts` cannot express.
    """
    thinking = requested.thinking
    if thinking.anthropic is not None:
        budget = None if generation.budget else thinking.budget
        display = "" if thinking.anthropic.display in _DISPLAYS else thinking.anthropic.display
        thinking = replace(thinking, anthropic=replace(thinking.anthropic, budget=budget, display=display))
    return settings.plan(replace(requested, thinking=thinking), caps, RULES, drop)


def parameters(requested: Parameters, planned: Plan, caps: Caps, generation: Generation, drop: Drop) -> Block:
    """Return `generationConfig` with limit, thinking, sampling and stop sequences.

    If there are too many stop sequences, the last ones are left out and reported as dropped.
    """
    decided = settings.decide(requested, caps, RULES, drop, planned=planned)
    if len(decided.stops) > _MAX_STOPS:
        drop(requested.stops_at)
    members = {
        "maxOutputTokens": decided.limit,
        "stopSequences": list(decided.stops[:_MAX_STOPS]) or None,
        "thinkingConfig": _thinking(requested.thinking, planned, generation, drop) or None,
        **{_NUMBERS[name]: value for name, value in decided.sampling.items()},
    }
    return {"generationConfig": {name: value for name, value in members.items() if value is not None}}


def penalties(given: Mapping[str, Any], pointer: Callable[[str], str], caps: Caps, drop: Drop) -> Block:
    """Return `generationConfig` with the seed and the penalties.

    - `given` has the values, by their names in OpenAI's Chat API.
    - `pointer` converts such a name to the JSON pointer of the client's field, for reports of dropped fields.
    - A seed of more than 32 bits is dropped, and penalties for a model without sampling parameters.
    """
    refused = [name for name in _PENALTIES if name in given and caps.sampling == "none"]
    if not -numbers.MAX_INT32 <= given.get("seed", 0) <= numbers.MAX_INT32:
        refused.append("seed")
    for name in refused:
        drop(pointer(name))
    return {"generationConfig": {_NUMBERS[name]: value for name, value in given.items() if name not in refused}}


def _thinking(requested: ThinkingRequest, planned: Plan, generation: Generation, drop: Drop) -> Block:
    """Return `thinkingConfig`, with a level or a budget as the model requires. Return {} if no thinking is planned.

    Gemini returns its thoughts only on request. The gateway requests the thoughts if the client enables thinking,
    unless the client asks to leave the thinking out of the reply (`display` is "omitted").
    """
    effort = planned.thinking.effort
    if not planned.thinking.form:
        return {}
    hidden = requested.anthropic is not None and requested.anthropic.display == "omitted"
    config: Block = {"includeThoughts": True} if requested.is_wanted and not hidden else {}
    if generation.budget is None:
        return config | ({"thinkingLevel": effort.upper()} if effort else {})
    if effort == "none":
        return config | {"thinkingBudget": 0}
    lowest, highest = generation.budget
    if requested.is_wanted and requested.budget is not None:
        tokens = max(lowest, min(requested.budget, highest))
        if tokens != requested.budget:
            drop(requested.budget_pointer)
        if requested.level:
            drop(requested.effort_at)
    else:
        tokens = max(lowest, min(_effort_budget(effort, planned.limit), highest))
    return config | {"thinkingBudget": tokens}


def _effort_budget(effort: str, limit: int | None) -> int:
    """Return the thinking budget for an effort. It is at most half of the output limit, so that the answer has room."""
    tokens = _BUDGETS.get(effort or _USUAL_EFFORT, _BUDGETS[_USUAL_EFFORT])
    return tokens if limit is None else min(tokens, limit // 2)


def build_output(
    wanted: JsonFormat | None, offered: OfferedTools, names: Names, caps: Caps, generation: Generation, drop: Drop
) -> FormattedOutput:
    """Return the fields for the functions, the tool choice and the answer's format.

    Models before Gemini 3 refuse a format together with functions. Such models get a schema tool instead, whose
    arguments are the answer.
    """
    functions = _functions(offered, names, drop)
    declarations, choice = functions.declarations, functions.choice
    if wanted is None:
        return FormattedOutput(_tool_members(functions, caps, drop))
    if caps.json_schema and (generation.json_with_tools or not declarations):
        return FormattedOutput(_tool_members(functions, caps, drop) | _response_format(wanted, drop))
    if not (caps.tools and caps.forced_tool_choice) or choice.is_forced:
        drop(wanted.at)
        return FormattedOutput(_tool_members(functions, caps, drop), hint=schema_hint(wanted.schema))
    name = unused(SCHEMA_TOOL, {each["name"] for each in declarations})
    description = " ".join(filter(None, [_SCHEMA_TOOL_DESCRIPTION, wanted.description]))
    schema = json_schema(tool_schema(wanted.schema, name, wanted.schema_at, drop), wanted.schema_at, drop)
    schema_tool = _declaration(name, description, schema)
    is_only_one = not declarations or choice.mode == "none"
    forced = replace(choice, mode="tool" if is_only_one else "any", name=name)
    return FormattedOutput(_tool_members(_Functions([*declarations, schema_tool], forced), caps, drop), name)


def _response_format(wanted: JsonFormat, drop: Drop) -> Block:
    """Return `generationConfig` with the answer's schema. The format's description is added if the schema has none."""
    schema = json_schema(wanted.schema, wanted.schema_at, drop)
    if wanted.description:
        schema = {"description": wanted.description, **schema}
    return {"generationConfig": {**_JSON, "responseJsonSchema": schema}}


def json_object(at: str, offered: OfferedTools, generation: Generation, drop: Drop) -> FormattedOutput:
    """Return the field that demands a JSON object without a schema as the answer.

    If the model refuses this field together with functions, return a hint for the prompt instead.
    """
    if generation.json_with_tools or not offered.tools:
        return FormattedOutput({"generationConfig": dict(_JSON)})
    drop(at)
    return FormattedOutput({}, hint=JSON_HINT)
