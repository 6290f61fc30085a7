"""Tools and parameters as Chat Completions takes them: functions, the choice among them, limits, effort, format.

Shared by the conversions that end in Chat, like `demand.py`, which holds the messages. What is asked for is decided in
`shared/settings.py`. Nothing here knows the client's dialect. Source: OpenAI's API reference (Chat, Structured outputs,
Function calling).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.contract.errors import invalid
from gateway.contract.flag import Caps, Drop
from gateway_plugins.shared.settings import JSON_HINT, ThinkingPlan, effort_for_budget, nearest_effort
from gateway_plugins.shared.tools import Block, tool_schema, unused

_USUAL_EFFORT: Final = "high"
"""Of thinking that was asked for without a word on how much, as Anthropic's has it."""
_NOT_STRICT: Final = ("allOf", "oneOf", "not", "if", "patternProperties", "dependentRequired", "dependentSchemas")
"""What OpenAI refuses in a schema that is to be kept to (Structured outputs, supported schemas)."""
_MAX_STOPS: Final = 4
_OUTPUT: Final = "json_output"
_OUTPUT_SAYS: Final = "Give the final answer to the user as the arguments of this function."
_NOT_IN_NAMES: Final = re.compile(r"[^a-zA-Z0-9_-]+")
_MAX_NAME: Final = 64


def stream_members() -> Block:
    """Of a translated stream: usage is always asked for, since every other dialect reports it."""
    return {"stream": True, "stream_options": {"include_usage": True}}


def function(name: str, description: str, schema: Any, at: str) -> Block:
    """A tool. `name` is as `tools.Names` gives it, `at` the JSON pointer of the schema in the client's request."""
    made: Block = {"name": name}
    if description.strip():
        made["description"] = description
    made["parameters"] = tool_schema(schema, name, at)
    return {"type": "function", "function": made}


def make_strict(tool: Block, caps: Caps, drop: Drop, at: str) -> None:
    """`strict` on a tool, where the model takes it and the schema is one that it can be kept to.

    `at` is the JSON pointer of the client's wish.
    """
    if caps.strict_tools and fits_strict(tool["function"]["parameters"]):
        tool["function"]["strict"] = True
    else:
        drop(at)


def fits_strict(schema: Any) -> bool:
    """OpenAI keeps to schemas only whose objects are closed and demand every property that they have."""
    if isinstance(schema, list):
        return all(map(fits_strict, schema))
    if not isinstance(schema, dict):
        return True
    if any(name in schema for name in _NOT_STRICT):
        return False
    if schema.get("type") == "object" or "properties" in schema:
        names, required = schema.get("properties") or {}, schema.get("required") or []
        if schema.get("additionalProperties") is not False or set(names) - set(required):
            return False
    inner = [*_values(schema.get("properties")), *_values(schema.get("$defs")), *_values(schema.get("definitions"))]
    return fits_strict([*inner, schema.get("items"), schema.get("anyOf")])


def _values(named: Any) -> list[Any]:
    return list(named.values()) if isinstance(named, dict) else []


@dataclass(frozen=True, slots=True)
class Choice:
    """What the client says of calling tools. `mode` is auto, none, any or tool; the paths are where it says so."""

    mode: str = "auto"
    name: str = ""
    """As the provider gets it."""
    parallel: bool = True
    path: str = "/tool_choice"


def tools(offered: Sequence[Block], choice: Choice, caps: Caps, drop: Drop) -> Block:
    """The members `tools`, `tool_choice` and `parallel_tool_calls`; {} where none is offered.

    A history with calls demands no tools here.
    """
    if not offered:
        return {}
    if not caps.tools:
        raise invalid("tools: this model calls no tools; leave them out", "tools")
    body: Block = {"tools": list(offered)}
    mode = choice.mode
    if mode in {"any", "tool"} and not caps.forced_tool_choice:
        drop(choice.path)
        mode = "auto"
    if mode == "tool":
        body["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    elif mode != "auto":
        body["tool_choice"] = {"any": "required", "none": "none"}[mode]
    if not choice.parallel and mode != "none":
        body["parallel_tool_calls"] = False
    return body


def limit(tokens: int | None, caps: Caps) -> Block:
    """The output limit by the name that the model takes; no server takes both."""
    if tokens is None:
        return {}
    return {"max_completion_tokens" if caps.max_completion_tokens else "max_tokens": tokens}


def effort(thought: ThinkingPlan, caps: Caps) -> Block:
    """How the model is asked to think; Chat has one word for all forms."""
    if not thought.form:
        return {}
    wanted = thought.effort or (effort_for_budget(thought.tokens) if thought.tokens else _USUAL_EFFORT)
    return {"reasoning_effort": nearest_effort(wanted, caps.efforts) if caps.efforts else wanted}


def sampling(sampled: Mapping[str, float], drop: Drop, top_k_at: str = "/top_k") -> Block:
    """Of what `settings.sampling` left; Chat has no top_k."""
    if "top_k" in sampled:
        drop(top_k_at)
    return {name: value for name, value in sampled.items() if name != "top_k"}


def stops(wished: Sequence[str], drop: Drop, at: str) -> Block:
    """Of what `settings.stops` left; Chat takes four."""
    if len(wished) > _MAX_STOPS:
        drop(at)
    return {"stop": list(wished[:_MAX_STOPS])} if wished else {}


@dataclass(frozen=True, slots=True)
class Format:
    """An answer of a JSON schema."""

    schema: Block
    name: str = ""
    description: str = ""
    strict: bool | None = None
    """None: as strict as the schema allows."""
    path: str = "/response_format"
    """JSON pointer of the wish in the client's request."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a wished format becomes."""

    body: Block
    """Members of the request; those of `tools` are among them."""
    schema_tool: str = ""
    """The function whose arguments are the answer; "" while there is none."""
    hint: str = ""
    """For the system's text; "" for none."""


def output(wanted: Format | None, offered: Sequence[Block], choice: Choice, caps: Caps, drop: Drop) -> Output:
    """The format natively, by a function that must be called, or by a hint that is reported."""
    if wanted is None:
        return Output(tools(offered, choice, caps, drop))
    if caps.json_schema:
        return Output(tools(offered, choice, caps, drop) | {"response_format": _native(wanted)})
    if not (caps.tools and caps.forced_tool_choice) or choice.mode in {"any", "tool"}:
        drop(wanted.path)
        said = f"{JSON_HINT} It must match this JSON schema: {orjson.dumps(wanted.schema).decode()}"
        return Output(tools(offered, choice, caps, drop), hint=said)
    name = unused(_OUTPUT, {tool["function"]["name"] for tool in offered})
    says = " ".join(filter(None, [_OUTPUT_SAYS, wanted.description]))
    schema_tool = function(name, says, wanted.schema, wanted.path)
    alone = not offered or choice.mode == "none"
    demanded = Choice("tool" if alone else "any", name, choice.parallel, choice.path)
    return Output(tools([*offered, schema_tool], demanded, caps, drop), schema_tool=name)


def _native(wanted: Format) -> Block:
    strict = fits_strict(wanted.schema) if wanted.strict is None else wanted.strict
    name = _NOT_IN_NAMES.sub("_", wanted.name)[:_MAX_NAME] or _OUTPUT
    made: Block = {"name": name, "schema": wanted.schema, "strict": strict}
    if wanted.description:
        made["description"] = wanted.description
    return {"type": "json_schema", "json_schema": made}
