"""Writers of tools for a Messages request: definitions, the tool choice, the answer's format.

Every translation to Messages uses these writers, whatever the client's dialect. The model's capabilities (`Caps`)
determine which fields are written. Messages are in `demand.py`.

Sources: Anthropic's API reference (Tool use, Structured outputs, Extended thinking), and the issues of other gateways
that the docstrings name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Caps, Drop
from gateway_plugins.dialects.anthropic_messages.demand import CacheBreakpoints
from gateway_plugins.dialects.anthropic_messages.settings import Body
from gateway_plugins.shared.offered_tools import Tool, ToolChoice
from gateway_plugins.shared.output_format import SCHEMA_TOOL, FormattedOutput, JsonFormat, schema_hint
from gateway_plugins.shared.schemas import is_recursive, restrict_schema
from gateway_plugins.shared.settings import can_force
from gateway_plugins.shared.tools import Names, fit_schema, unused
from gateway_plugins.shared.turns import Block

_SCHEMA_TOOL_DESCRIPTION: Final = "Give the final answer to the user as the input of this tool."


def build_tools(
    offered: Sequence[Tool], names: Names, breakpoints: CacheBreakpoints, caps: Caps, drop: Drop
) -> list[Block]:
    """Return the definitions of the tools, with the client's cache breakpoints."""
    tools = []
    for tool in offered:
        schema = fit_schema(tool.schema, tool.name, tool.schema_at, caps, drop)
        made = _definition(names.alias(tool.name), tool.description, schema)
        if tool.strict:
            _make_strict(made, tool, caps, drop)
        breakpoints.put(tool.ttl, [made], "tools", tool.ttl_at)
        tools.append(made)
    return tools


def _definition(name: str, description: str, schema: Block) -> Block:
    made: Block = {"name": name, "input_schema": schema}
    if description.strip():
        made["description"] = description
    return made


def _make_strict(made: Block, tool: Tool, caps: Caps, drop: Drop) -> None:
    """Set `strict` on a tool, and remove the schema keywords that the API then refuses (`restrict_schema`).

    If the model does not accept `strict`, or the schema is recursive, `strict` is left out and reported as dropped.
    """
    if not caps.strict_tools or is_recursive(made["input_schema"]):
        drop(tool.strict_at)
        return
    made["input_schema"] = restrict_schema(made["input_schema"], drop, tool.schema_at)
    made["strict"] = True


def choose(
    tools: Sequence[Block], choice: ToolChoice, messages: Sequence[Block], caps: Caps, drop: Drop, *, thinks: bool
) -> Body:
    """Return the fields `tools` and `tool_choice`.

    `thinks` is true if the model thinks. Some thinking models refuse a forced tool choice.
    """
    if not tools:
        return _unoffered(messages)
    if not caps.tools:
        raise invalid("tools: this model takes no tools", "tools")
    made: Block = {"type": choice.mode}
    if choice.mode == "tool":
        made["name"] = choice.name
    if choice.is_forced and not can_force(caps, thinks=thinks):
        drop(choice.at)
        made = {"type": "auto"}
    if not choice.parallel and choice.mode != "none":
        made["disable_parallel_tool_use"] = True
    return {"tools": list(tools)} | ({"tool_choice": made} if made != {"type": "auto"} else {})


def _unoffered(messages: Sequence[Block]) -> Body:
    """Return definitions of the tools that earlier messages call, and the tool choice `none`.

    A request that offers no tools needs them, because the API refuses calls of undefined tools (agentgateway#2192).
    """
    called = {
        block["name"]: {"name": block["name"], "input_schema": {"type": "object", "properties": {}}}
        for message in messages
        for block in message["content"]
        if block["type"] == "tool_use"
    }
    return {"tools": list(called.values()), "tool_choice": {"type": "none"}} if called else {}


def build_output(wanted: JsonFormat | None, chosen: Body, caps: Caps, drop: Drop, *, thinks: bool) -> FormattedOutput:
    """Return the fields for the tools, the tool choice and the answer's format `wanted`.

    `chosen` is the result of `choose`. `thinks` is true if the model thinks. Some thinking models refuse a forced tool
    choice.
    """
    if wanted is None:
        return FormattedOutput(chosen)
    if caps.json_schema and not is_recursive(wanted.schema):
        schema = restrict_schema(wanted.schema, drop, wanted.schema_at)
        if wanted.description:
            schema.setdefault("description", wanted.description)
        return FormattedOutput(chosen | {"output_config": {"format": {"type": "json_schema", "schema": schema}}})
    if not caps.tools or not can_force(caps, thinks=thinks):
        drop(wanted.at)
        return FormattedOutput(chosen, hint=schema_hint(wanted.schema))
    return _schema_tool_output(wanted, chosen, caps, drop)


def _schema_tool_output(wanted: JsonFormat, chosen: Body, caps: Caps, drop: Drop) -> FormattedOutput:
    """Add a schema tool: a tool whose input has the requested format, so that the input of its call is the answer.

    - If the client offers no tools or forbids calls, the tool choice forces the schema tool.
    - The client's choice `auto` becomes `any`. A choice that forces a call is not changed.
    """
    tools = chosen.get("tools", [])
    name = unused(SCHEMA_TOOL, {tool["name"] for tool in tools})
    description = " ".join(filter(None, [_SCHEMA_TOOL_DESCRIPTION, wanted.description]))
    choice = chosen.get("tool_choice", {"type": "auto"})
    if not tools or choice["type"] == "none":
        choice = {"type": "tool", "name": name}
    elif choice["type"] == "auto":
        choice = {**choice, "type": "any"}
    schema = fit_schema(wanted.schema, name, wanted.schema_at, caps, drop)
    schema_tool = _definition(name, description, schema)
    body = {**chosen, "tools": [*tools, schema_tool], "tool_choice": choice}
    return FormattedOutput(body, schema_tool=name)
