"""OpenAI Chat Completions to Anthropic Messages, and the replies back.

The body that leaves is the Messages API's own; what an envelope takes or moves (Bedrock's version, model and stream)
is that flag's. How messages become turns is in `parts/chat_to_turns.py` and `parts/to_anthropic_messages.py`; here
stand the other members, and the reply. Sources: the API references of both; bedrock.md 3.2 and 3.3.

Structured output is native where the model has it. Elsewhere a JSON schema becomes a tool that must be called and
whose input is the answer; where no tool can be demanded (and for `json_object`) the system prompt asks for it, and
the field is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import orjson

from gateway.errors import invalid
from gateway.flag import Ask, Caps, Drop, Target
from gateway_plugins.parts import anthropic_settings as settings
from gateway_plugins.parts import emit_openai_chat as write
from gateway_plugins.parts import read_openai_chat as chat
from gateway_plugins.parts import read_openai_options as options
from gateway_plugins.parts import settings as decided
from gateway_plugins.parts import to_anthropic_messages as to
from gateway_plugins.parts import walk_anthropic_messages as reply
from gateway_plugins.parts.anthropic_settings import Body
from gateway_plugins.parts.chat_to_turns import Reader
from gateway_plugins.parts.fields import member
from gateway_plugins.parts.replies import Translation
from gateway_plugins.parts.to_anthropic_messages import Marks
from gateway_plugins.parts.tools import Names, tool_schema, unused
from gateway_plugins.parts.turns import Block

api = 1
loses = 1
operations = ("generate",)

_CARRIED: Final = frozenset({
    "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "tools", "functions",
    "tool_choice", "function_call", "parallel_tool_calls", "stop", "temperature", "top_p", "top_k",
    "reasoning_effort", "thinking", "response_format", "cache_control", "service_tier",
})  # fmt: skip
_THINKING: Final = ("thinking", "redacted_thinking")

_JSON_TOOL: Final = "json_answer"
_JSON_TOOL_SAYS: Final = "Give the final answer to the user as the input of this tool."


def open(ask: Ask, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's name)
    top, caps = ask.top, target.caps
    options.refuse_unservable(top)
    options.leftovers(top, _CARRIED, drop)
    names, marks = Names(), Marks(caps, drop)
    body: Body = {"model": target.model}
    system, turns = Reader(caps, names, marks, drop).read(top)
    wish, format_ = options.wish(top), options.response_format(top)
    native = format_.kind == "json_schema" and caps.json_schema
    prefill = caps.prefill and not wish.on and caps.reasoning != "always" and not native
    body["messages"] = messages = to.arrange(turns, caps, drop, prefill=prefill)
    limit = options.limit(top)
    thought = decided.thought(wish, limit, caps, drop, unsigned_loop=_is_unsigned_loop(messages))
    body["max_tokens"] = decided.output_limit(limit, thought, caps, demanded=True)
    body |= settings.thinking(thought)
    thinks = thought.is_claudes or caps.reasoning == "always"
    tools = chat.offer(top)
    body |= _tools(tools, caps, names, marks, drop)
    body |= _tool_choice(tools, caps, body, names, drop, thinks=thinks)
    json_tool = _format(format_, caps, body, system, drop, thinks=thinks)
    if system:
        body["system"] = system
    ttl = chat.cache_ttl({"cache_control": member(top, "cache_control")}, "")
    marks.put(ttl, messages[-1]["content"], "messages", "/cache_control")
    marks.limit()
    body |= decided.sampling(options.sampling(top), caps, drop, thinks=thinks)
    # Bedrock's words for the tier; its envelope takes them out of the body, and another drops them
    more = {
        "stop_sequences": decided.stops(options.stops(top), caps, drop, "/stop"),
        "service_tier": options.service_tier(top),
    }
    body |= {name: value for name, value in more.items() if value}
    if ask.stream:
        body["stream"] = True
    include_usage = options.include_usage(top, drop)
    return Translation(
        ask.with_body("anthropic_messages", body),
        reply.Reader(names, json_tool, caps.family, drop),
        write.Stream(ask.model, drop, include_usage=include_usage),
        partial(write.Whole, ask.model, drop),
    )


def _is_unsigned_loop(messages: Sequence[Block]) -> bool:
    """The last tools were called by a turn that does not begin with its thinking."""
    turns = [message for message in messages if message["role"] != "system"]
    if turns[-1]["role"] != "user" or turns[-1]["content"][0]["type"] != "tool_result":
        return False
    return turns[-2]["content"][0]["type"] not in _THINKING


def _tools(wanted: chat.Tools, caps: Caps, names: Names, marks: Marks, drop: Drop) -> Body:
    tools = []
    for offered in wanted.offered:
        schema = tool_schema(offered.schema, offered.name, f"{offered.at}/function/parameters")
        tool: Block = {"name": names.alias(offered.name), "input_schema": schema}
        if offered.description.strip():
            tool["description"] = offered.description
        if offered.strict and caps.strict_tools:
            tool["strict"] = True
        elif offered.strict:
            drop(f"{offered.at}/function/strict")
        marks.put(offered.ttl, [tool], "tools", f"{offered.at}/cache_control")
        tools.append(tool)
    if tools and not caps.tools:
        raise invalid("tools: this model takes no tools", "tools")
    return {"tools": tools} if tools else {}


def _tool_choice(wanted: chat.Tools, caps: Caps, body: Body, names: Names, drop: Drop, *, thinks: bool) -> Body:
    if "tools" not in body:
        return _unoffered(body["messages"])
    made: Block = {"type": wanted.mode}
    if wanted.mode == "tool":
        made["name"] = names.alias(wanted.name)
    if wanted.mode in {"any", "tool"} and (thinks or not caps.forced_tool_choice):
        drop(wanted.path)
        made = {"type": "auto"}
    if not wanted.parallel and wanted.mode != "none":
        made["disable_parallel_tool_use"] = True
    return {"tool_choice": made} if made != {"type": "auto"} else {}


def _unoffered(messages: Sequence[Block]) -> Body:
    """A history with tool calls demands tools (agentgateway#2192): those that it names, not to be called again."""
    called = {
        block["name"]: {"name": block["name"], "input_schema": {"type": "object", "properties": {}}}
        for message in messages
        for block in message["content"]
        if block["type"] == "tool_use"
    }
    return {"tools": list(called.values()), "tool_choice": {"type": "none"}} if called else {}


def _format(wanted: options.Format, caps: Caps, body: Body, system: list[Block], drop: Drop, *, thinks: bool) -> str:
    """Put the wanted format into the body; returns the name of the tool that stands for it, "" if none does."""
    if wanted.kind == "text":
        return ""
    if wanted.kind == "json_schema" and caps.json_schema:
        schema = settings.closed_schema(wanted.schema)
        if wanted.description:
            schema.setdefault("description", wanted.description)
        output = {"format": {"type": "json_schema", "schema": schema}}
        body["output_config"] = body.get("output_config", {}) | output
        return ""
    if wanted.kind == "json_schema" and caps.tools and caps.forced_tool_choice and not thinks:
        return _json_tool(wanted, body)
    drop("/response_format")
    says = decided.JSON_HINT
    if wanted.kind == "json_schema":
        says += f" It must match this JSON schema: {orjson.dumps(wanted.schema).decode()}"
    system.append(to.text(says))
    return ""


def _json_tool(wanted: options.Format, body: Body) -> str:
    """The answer as a forced tool's input. With other tools, one of all must be called; a demanded one stays so."""
    name = unused(_JSON_TOOL, {tool["name"] for tool in body.get("tools", ())})
    schema = tool_schema(wanted.schema, name, "/response_format/json_schema/schema")
    description = " ".join(filter(None, [_JSON_TOOL_SAYS, wanted.description]))
    choice = body.get("tool_choice", {"type": "auto"})
    body["tools"] = [*body.get("tools", ()), {"name": name, "description": description, "input_schema": schema}]
    if len(body["tools"]) == 1 or choice["type"] == "none":
        body["tool_choice"] = {"type": "tool", "name": name}
    elif choice["type"] == "auto":
        body["tool_choice"] = {**choice, "type": "any"}
    return name
