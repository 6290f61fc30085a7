"""Tools as a Messages request has them: definitions, the choice among them, an answer's format.

Shared by conversions that end in Messages, like `demand.py`, which holds the turns. Nothing here knows the
client's dialect; what a model takes is read from its capabilities. Sources: Anthropic's API reference (Tool use,
Structured outputs, Extended thinking); the defects of peers named beside the rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from gateway.contract.errors import invalid
from gateway.contract.flag import Caps, Drop
from gateway_plugins.dialects.anthropic_messages.settings import Body
from gateway_plugins.dialects.bedrock_converse.tools import Choice
from gateway_plugins.dialects.openai_chat.options import Format, Output
from gateway_plugins.shared.schemas import is_recursive, restrict_schema
from gateway_plugins.shared.settings import JSON_HINT
from gateway_plugins.shared.tools import tool_schema, unused
from gateway_plugins.shared.turns import Block

_JSON_TOOL: Final = "json_answer"
_JSON_TOOL_SAYS: Final = "Give the final answer to the user as the input of this tool."


def tool(name: str, description: str, schema: Any, at: str) -> Block:
    """A tool. `name` is as `tools.Names` gives it, `at` the JSON pointer of the schema in the client's request."""
    made: Block = {"name": name, "input_schema": tool_schema(schema, name, at)}
    if description.strip():
        made["description"] = description
    return made


def make_strict(tool: Block, caps: Caps, drop: Drop, at: str, schema_at: str) -> None:
    """`strict` on a tool, where the model takes it: its schema is then held to the same limits as an answer's.

    `at` is the JSON pointer of the client's wish, `schema_at` of the schema.
    """
    if not caps.strict_tools or is_recursive(tool["input_schema"]):
        drop(at)
        return
    tool["input_schema"] = restrict_schema(tool["input_schema"], drop, schema_at)
    tool["strict"] = True


def choose(
    tools: Sequence[Block], choice: Choice, messages: Sequence[Block], caps: Caps, drop: Drop, *, thinks: bool
) -> Body:
    """`tools` and `tool_choice`. `thinks`: Anthropic's thinking stands beside them, which takes no forced tool."""
    if not tools:
        return _unoffered(messages)
    if not caps.tools:
        raise invalid("tools: this model takes no tools", "tools")
    made: Block = {"type": choice.mode}
    if choice.mode == "tool":
        made["name"] = choice.name
    if choice.mode in {"any", "tool"} and (thinks or not caps.forced_tool_choice):
        drop(choice.path)
        made = {"type": "auto"}
    if not choice.parallel and choice.mode != "none":
        made["disable_parallel_tool_use"] = True
    return {"tools": list(tools)} | ({"tool_choice": made} if made != {"type": "auto"} else {})


def _unoffered(messages: Sequence[Block]) -> Body:
    """A history with tool calls demands tools (agentgateway#2192): those that it names, not to be called again."""
    called = {
        block["name"]: {"name": block["name"], "input_schema": {"type": "object", "properties": {}}}
        for message in messages
        for block in message["content"]
        if block["type"] == "tool_use"
    }
    return {"tools": list(called.values()), "tool_choice": {"type": "none"}} if called else {}


def output(wanted: Format | None, chosen: Body, caps: Caps, drop: Drop, *, thinks: bool, schema_at: str = "") -> Output:
    """The format natively, by a tool that must be called, or by a hint that is reported.

    `chosen` is what `choose` made; the result's body stands in its place. `schema_at` is the JSON pointer of the schema
    where it is not that of the wish.
    """
    if wanted is None:
        return Output(chosen)
    if caps.json_schema and not is_recursive(wanted.schema):
        schema = restrict_schema(wanted.schema, drop, schema_at or wanted.path)
        if wanted.description:
            schema.setdefault("description", wanted.description)
        return Output(chosen | {"output_config": {"format": {"type": "json_schema", "schema": schema}}})
    if not caps.tools or not caps.forced_tool_choice or thinks:
        drop(wanted.path)
        schema_text = orjson.dumps(wanted.schema).decode()
        return Output(chosen, hint=f"{JSON_HINT} It must match this JSON schema: {schema_text}")
    return _by_tool(wanted, chosen, schema_at or wanted.path)


def _by_tool(wanted: Format, chosen: Body, schema_at: str) -> Output:
    """The answer as a forced tool's input. With other tools, one of all must be called; a demanded one stays so."""
    tools = chosen.get("tools", [])
    name = unused(_JSON_TOOL, {tool["name"] for tool in tools})
    says = " ".join(filter(None, [_JSON_TOOL_SAYS, wanted.description]))
    choice = chosen.get("tool_choice", {"type": "auto"})
    if not tools or choice["type"] == "none":
        choice = {"type": "tool", "name": name}
    elif choice["type"] == "auto":
        choice = {**choice, "type": "any"}
    schema_tool = tool(name, says, wanted.schema, schema_at)
    return Output({**chosen, "tools": [*tools, schema_tool], "tool_choice": choice}, schema_tool=name)
