"""Tools and schemas as Converse takes them: specs, the choice among them, structured output.

Shared by the conversions that end in Converse, like `demand.py`, which holds the turns. Nothing here knows the
client's dialect; what a model takes of a schema is read from its capabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.contract.errors import invalid
from gateway.contract.flag import Caps, Drop
from gateway_plugins.shared.fields import escape_step, param
from gateway_plugins.shared.schemas import is_recursive, restrict_schema
from gateway_plugins.shared.tools import Block, tool_schema

_MAPS: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_LISTS: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_SINGLE: Final = frozenset(
    {"items", "additionalProperties", "not", "contains", "if", "then", "else", "propertyNames", "unevaluatedProperties"}
)
"""Where JSON Schema has schemas inside schemas: in these places only, for a property may have any of these names."""


def tool_spec(name: str, description: str, schema: Any, caps: Caps, at: str) -> Block:
    """A tool. An empty description is refused upstream (litellm#24668), so that it is left out."""

    def cleaned(node: Block, path: str) -> Block:
        if not isinstance(node.get("type", ""), (str, list)):
            raise invalid(f'{param(path)}.type: the schema of tool "{name}" must name a type', param(path))
        if not isinstance(node.get("required", []), list):
            del node["required"]
        if not caps.additional_properties:  # opensre#2391
            node.pop("additionalProperties", None)
        return node

    spec: Block = {"name": name}
    if description.strip():
        spec["description"] = description
    spec["inputSchema"] = {"json": tool_schema(_walked(schema, cleaned, at), name, at)}
    return {"toolSpec": spec}


def make_strict(tool: Block, caps: Caps, drop: Drop, at: str, schema_at: str) -> None:
    """`strict` on a tool, where the model takes it: its schema is then held to the same limits as an answer's.

    `at` is the JSON pointer of the client's wish, `schema_at` of the schema.
    """
    spec = tool["toolSpec"]
    if not caps.strict_tools or is_recursive(spec["inputSchema"]["json"]):
        drop(at)
        return
    spec["inputSchema"] = {"json": restrict_schema(spec["inputSchema"]["json"], drop, schema_at)}
    spec["strict"] = True


def text_format(name: str, description: str, schema: Block, drop: Drop, at: str) -> Block:
    """`outputConfig` for an answer of a schema. What is taken out of the schema is reported, place by place."""
    defined = {"schema": orjson.dumps(restrict_schema(schema, drop, at)).decode()}
    if name:
        defined["name"] = name
    if description:
        defined["description"] = description
    return {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": defined}}}


def _walked(schema: Any, change: Callable[[Block, str], Block], at: str) -> Any:
    """A copy of the schema with every schema in it changed. `true` and `false` become objects that mean the same."""
    if isinstance(schema, bool):
        return {} if schema else {"not": {}}
    if not isinstance(schema, dict):
        return schema
    node = change({key: value for key, value in schema.items() if key != "$schema"}, at)
    for key, value in node.items():
        path = f"{at}/{key}"
        if key in _MAPS:
            inner = value if isinstance(value, dict) else {}
            node[key] = {name: _walked(sub, change, f"{path}/{escape_step(name)}") for name, sub in inner.items()}
        elif key in _LISTS or (key == "items" and isinstance(value, list)):
            node[key] = [
                _walked(sub, change, f"{path}/{index}")
                for index, sub in enumerate(value if isinstance(value, list) else ())
            ]
        elif key in _SINGLE and isinstance(value, dict):
            node[key] = _walked(value, change, path)
    return node


@dataclass(frozen=True, slots=True)
class Choice:
    """What the client says of calling tools. `mode` is auto, none, any or tool; `path` is where it says so."""

    mode: str
    name: str = ""
    """As Converse gets it."""
    parallel: bool = True
    path: str = "/tool_choice"
    parallel_path: str = "/parallel_tool_calls"


def tool_config(
    specs: list[Block], history: Sequence[str], choice: Choice, caps: Caps, drop: Drop, *, thinking: bool
) -> tuple[Block | None, Block]:
    """`toolConfig`, and what of `additionalModelRequestFields` belongs to it.

    A history with calls needs a toolConfig even where no tool is offered any more (vercel/ai#7528): the tools that were
    called stand in for it. Converse has no word for "none"; Claude takes its own.
    """
    mode = choice.mode
    if not specs:
        if not history:
            return None, {}
        specs = [tool_spec(name, "", None, caps, "") for name in dict.fromkeys(history)]
        mode = "none"
    elif mode == "none":
        if not history:
            return None, {}
        if not caps.tool_choice_fields:
            drop(choice.path)
    if mode in {"any", "tool"} and (thinking or not caps.forced_tool_choice):
        drop(choice.path)
        mode = "auto"
    config: Block = {"tools": specs}
    if mode == "any":
        config["toolChoice"] = {"any": {}}
    elif mode == "tool":
        config["toolChoice"] = {"tool": {"name": choice.name}}
    return config, _choice_fields(mode, choice, caps, drop)


def _choice_fields(mode: str, choice: Choice, caps: Caps, drop: Drop) -> Block:
    if mode == "none":
        return {"tool_choice": {"type": "none"}} if caps.tool_choice_fields else {}
    if choice.parallel:
        return {}
    if not caps.tool_choice_fields:
        drop(choice.parallel_path)
        return {}
    kind = {"type": "auto"} if mode == "auto" else {}  # beside a toolChoice the type is refused
    return {"tool_choice": {**kind, "disable_parallel_tool_use": True}}
