"""Writers of the tools of a Converse request: tool specs, their input schemas, the tool choice.

Every translation to Converse uses these writers, whatever the client's dialect. The model's capabilities decide which
keywords a schema may have. Messages are in `demand.py`, the answer's format in `output.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Caps, Drop
from gateway_plugins.dialects.bedrock_converse.demand import CacheBreakpoints
from gateway_plugins.shared.fields import escape_step, param
from gateway_plugins.shared.offered_tools import Tool, ToolChoice
from gateway_plugins.shared.remembered_schemas import converted
from gateway_plugins.shared.schemas import is_recursive, restrict_schema
from gateway_plugins.shared.settings import can_force
from gateway_plugins.shared.tools import Block, Names, fit_schema_anew

_MAPS: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_LISTS: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_SINGLE: Final = frozenset(
    {"items", "additionalProperties", "not", "contains", "if", "then", "else", "propertyNames", "unevaluatedProperties"}
)
"""Keywords of JSON Schema whose value is one schema. Keywords in `_MAPS` have an object of schemas, and keywords in
`_LISTS` a list."""


def build_tools(
    offered: Sequence[Tool], names: Names, breakpoints: CacheBreakpoints, caps: Caps, drop: Drop
) -> list[Block]:
    """Return the specs of the tools, each followed by a cache point if the client put a breakpoint on the tool.

    Raises `Refused` if tools are offered to a model that cannot call tools.
    """
    if offered and not caps.tools:
        raise invalid("tools: this model calls no tools; leave them out", "tools")
    specs: list[Block] = []
    for tool in offered:
        specs.append(tool_spec(names.alias(tool.name), tool.description, tool.schema, tool.schema_at, caps, drop))
        if tool.strict:
            _make_strict(specs[-1]["toolSpec"], tool, caps, drop)
        breakpoints.mark(specs, tool.ttl, f"{tool.at}/cache_control", tool=True)
    return specs


def tool_spec(name: str, description: str, schema: Any, at: str, caps: Caps, drop: Drop) -> Block:
    """Return the spec of a tool. An empty description is left out, because Bedrock refuses it (litellm#24668)."""
    spec: Block = {"name": name}
    if description.strip():
        spec["description"] = description
    options = (caps.additional_properties, caps.schema_references)
    spec["inputSchema"] = {"json": converted(_input_schema, schema, name, at, options, drop)}
    return {"toolSpec": spec}


def _input_schema(schema: Any, name: str, at: str, options: tuple[bool, bool], drop: Drop) -> Block:
    """Return a tool's schema as Converse and the model accept it.

    `options` are the capabilities `additional_properties` and `schema_references` of the model.
    """
    additional_properties, references = options

    def clean(node: Block, path: str) -> Block:
        if not isinstance(node.get("type", ""), (str, list)):
            raise invalid(f'{param(path)}.type: the schema of tool "{name}" must name a type', param(path))
        if not isinstance(node.get("required", []), list):
            del node["required"]
        # some models refuse it (opensre#2391); only a schema says what the model should write
        if not additional_properties and node.pop("additionalProperties", None) not in (None, True, False, {}):
            drop(f"{path}/additionalProperties")
        return node

    return fit_schema_anew(_map_schemas(schema, clean, at), name, at, references, drop)


def _make_strict(spec: Block, tool: Tool, caps: Caps, drop: Drop) -> None:
    """Set `strict` on a tool's spec, and remove the schema keywords that Bedrock then refuses (`restrict_schema`).

    If the model does not accept `strict`, or the schema is recursive, `strict` is left out and reported as dropped.
    """
    if not caps.strict_tools or is_recursive(spec["inputSchema"]["json"]):
        drop(tool.strict_at)
        return
    spec["inputSchema"] = {"json": restrict_schema(spec["inputSchema"]["json"], drop, tool.schema_at)}
    spec["strict"] = True


def _map_schemas(schema: Any, change: Callable[[Block, str], Block], at: str) -> Any:
    """Return a copy of the schema, with `change` applied to the schema and to every schema inside it.

    The schemas `true` and `false` are replaced by objects with the same meaning.
    """
    if isinstance(schema, bool):
        return {} if schema else {"not": {}}
    if not isinstance(schema, dict):
        return schema
    node = change({key: value for key, value in schema.items() if key != "$schema"}, at)
    for key, value in node.items():
        path = f"{at}/{key}"
        if key in _MAPS:
            inner = value if isinstance(value, dict) else {}
            node[key] = {name: _map_schemas(sub, change, f"{path}/{escape_step(name)}") for name, sub in inner.items()}
        elif key in _LISTS or (key == "items" and isinstance(value, list)):
            node[key] = [
                _map_schemas(sub, change, f"{path}/{index}")
                for index, sub in enumerate(value if isinstance(value, list) else ())
            ]
        elif key in _SINGLE and isinstance(value, dict):
            node[key] = _map_schemas(value, change, path)
    return node


def tool_config(
    specs: list[Block], history: Sequence[str], choice: ToolChoice, caps: Caps, drop: Drop, *, thinks: bool
) -> tuple[Block | None, Block]:
    """Return `toolConfig`, and the fields for the tool choice in `additionalModelRequestFields`.

    - `history` has the names of the tools that earlier messages call. If the request offers no tools, `toolConfig` has
      these tools, because Converse requires definitions for the calls (vercel/ai#7528).
    - The choice "none", which Converse lacks, is sent in Claude's own field `tool_choice` if the model accepts it.
    - `thinks` is true if the model thinks. Some thinking models refuse a forced tool choice.
    """
    mode = choice.mode
    if not specs:
        if not history:
            return None, {}
        specs = [tool_spec(name, "", None, "", caps, drop) for name in dict.fromkeys(history)]
        mode = "none"
    elif mode == "none":
        if not history:
            return None, {}
        if not caps.tool_choice_fields:
            drop(choice.at)
    if mode in {"any", "tool"} and not can_force(caps, thinks=thinks):
        drop(choice.at)
        mode = "auto"
    config: Block = {"tools": specs}
    if mode == "any":
        config["toolChoice"] = {"any": {}}
    elif mode == "tool":
        config["toolChoice"] = {"tool": {"name": choice.name}}
    return config, _choice_fields(mode, choice, caps, drop)


def _choice_fields(mode: str, choice: ToolChoice, caps: Caps, drop: Drop) -> Block:
    if mode == "none":
        return {"tool_choice": {"type": "none"}} if caps.tool_choice_fields else {}
    if choice.parallel:
        return {}
    if not caps.tool_choice_fields:
        drop(choice.parallel_at)
        return {}
    kind = {"type": "auto"} if mode == "auto" else {}  # the type is refused if toolChoice is set too
    return {"tool_choice": {**kind, "disable_parallel_tool_use": True}}
