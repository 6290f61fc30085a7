"""OpenAI Chat Completions to Anthropic Messages, and the replies back.

The body that leaves is the Messages API's own; what an envelope takes or moves (Bedrock's version, model and stream)
is that flag's. How messages become turns is in `parts/chat_to_turns.py` and `parts/to_anthropic_messages.py`; here
stand the other members, and the reply. Sources: the API references of both; bedrock.md 3.2 and 3.3.

Structured output is native where the model has it. Elsewhere a JSON schema becomes a tool that must be called and
whose input is the answer; where no tool can be demanded (and for `json_object`) the system prompt asks for it, and
the field is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway import plain
from gateway.errors import BadFrame, invalid
from gateway.flag import Ask, Caps, Drop, Event, Target
from gateway_plugins.parts import anthropic_settings as settings
from gateway_plugins.parts import lenient, reasoning
from gateway_plugins.parts import read_openai_chat as chat
from gateway_plugins.parts import read_openai_options as options
from gateway_plugins.parts import settings as decided
from gateway_plugins.parts import to_anthropic_messages as to
from gateway_plugins.parts.anthropic_facts import Counts
from gateway_plugins.parts.anthropic_settings import Body
from gateway_plugins.parts.chat_to_turns import Reader
from gateway_plugins.parts.emit_openai_chat import ChatStream, Completion, completion
from gateway_plugins.parts.fields import member
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

_FINISH: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
"""Reasons that are not here are new ones, and stop."""


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
    return Translation(ask.with_body("anthropic_messages", body), names, caps.family, json_tool, include_usage, drop)


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


@dataclass(slots=True)
class _Open:
    """A content block of the stream that has begun."""

    block: Block
    tool: int = -1
    """Index among the client's tool calls."""
    fragments: bool = False
    """Input has come in pieces; otherwise what the block began with is all of it."""

    def add(self, name: str, delta: Block) -> str:
        """A piece of one of the block's texts."""
        piece = lenient.text(delta.get(name))
        self.block[name] = lenient.text(self.block.get(name)) + piece
        return piece


@dataclass(slots=True)
class Translation:
    """The ask, and the way back for its reply."""

    ask: Ask
    names: Names
    family: str
    json_tool: str
    include_usage: bool
    drop: Drop
    _out: ChatStream = field(init=False)
    _open: dict[int, _Open] = field(init=False, default_factory=dict)
    _counts: Counts = field(init=False, default_factory=Counts)
    _stop: str = field(init=False, default="")

    def __post_init__(self) -> None:
        self._out = ChatStream(self.ask.model, include_usage=self.include_usage)

    def feed(self, event: Event) -> Sequence[Event]:
        read = _EVENTS.get(event.kind)
        if read is None:
            return ()
        read(self, lenient.mapping(event.data))
        return self._out.take()

    def close(self) -> Sequence[Event]:
        return ()

    def whole(self, body: bytes) -> bytes:
        data = plain.decoded(body)
        if not isinstance(data.get("content"), list) or not lenient.text(data.get("stop_reason")):
            raise BadFrame("the provider's reply has no content or no stop_reason")
        self._counts.merge(data.get("usage"))
        usage = self._counts.usage() if self._counts.told else None
        reply = Completion(self.ask.model, usage=usage, reply_id=str(data.get("id") or ""))
        for index, block in enumerate(lenient.sequence(data.get("content"))):
            self._whole_block(reply, lenient.mapping(block), index)
        reply.native = lenient.text(data.get("stop_reason"))
        reply.finish_reason = _finish(reply.native, has_tools=bool(reply.tool_calls))
        return completion(reply)

    def _whole_block(self, reply: Completion, block: Block, index: int) -> None:
        kind = block.get("type")
        if kind == "text":
            reply.text.append(lenient.text(block.get("text")))
            if block.get("citations"):
                self.drop(f"/content/{index}/citations")
        elif kind == "tool_use":
            name = lenient.text(block.get("name"))
            if name and name == self.json_tool:
                reply.text.append(lenient.encoded(block.get("input") or {}))
            else:
                reply.tool(lenient.text(block.get("id")), self.names.restore(name), block.get("input"))
        elif kind in _THINKING:
            reply.reasoning.append(lenient.text(block.get("thinking")))
            if (carried := self._carried(block)) is not None:
                reply.thinking_blocks.append(carried)
        else:
            self.drop(f"/content/{index}")

    def _carried(self, block: Mapping[str, Any]) -> Block | None:
        """The block as the client keeps it for us; None for thinking without a signature, which nobody takes back."""
        data, signature = lenient.text(block.get("data")), lenient.text(block.get("signature"))
        if block.get("type") == "redacted_thinking":
            return {"type": "redacted_thinking", "data": reasoning.tagged(self.family, data)} if data else None
        if not signature:
            return None
        signature = reasoning.tagged(self.family, signature)
        return {"type": "thinking", "thinking": lenient.text(block.get("thinking")), "signature": signature}

    def _message_start(self, data: Any) -> None:
        message = lenient.mapping(data.get("message"))
        self._counts.merge(message.get("usage"))
        if self._open:  # a start in the middle starts nothing anew: blocks are open in the stream that there is
            return
        self._out = ChatStream(self.ask.model, include_usage=self.include_usage, reply_id=str(message.get("id") or ""))
        self._out.start()

    def _block_start(self, data: Any) -> None:
        index, block = lenient.whole_number(data.get("index")), dict(lenient.mapping(data.get("content_block")))
        begun = self._open[index] = _Open(block)
        kind = block.get("type")
        if kind == "text":
            self._out.text(lenient.text(block.get("text")))
        elif kind == "thinking":
            self._out.reasoning(lenient.text(block.get("thinking")))
        elif kind == "tool_use":
            name = lenient.text(block.get("name"))
            if not name or name != self.json_tool:
                begun.tool = self._out.tool(lenient.text(block.get("id")), self.names.restore(name))
        elif kind != "redacted_thinking":
            self.drop(f"/content/{index}")

    def _delta(self, data: Any) -> None:
        index, delta = lenient.whole_number(data.get("index")), lenient.mapping(data.get("delta"))
        begun = self._open.setdefault(index, _Open({"type": "text"}))
        kind = delta.get("type")
        if kind == "text_delta":
            self._out.text(lenient.text(delta.get("text")))
        elif kind == "thinking_delta":
            self._out.reasoning(begun.add("thinking", delta))
        elif kind == "signature_delta":
            begun.add("signature", delta)
        elif kind == "input_json_delta" and begun.block.get("type") == "tool_use":
            self._fragment(begun, lenient.text(delta.get("partial_json")))
        elif kind == "citations_delta":
            self.drop(f"/content/{index}/citations")

    def _fragment(self, begun: _Open, fragment: str) -> None:
        if not fragment:
            return
        begun.fragments = True
        if begun.tool < 0:
            self._out.text(fragment)
        else:
            self._out.arguments(begun.tool, fragment)

    def _block_stop(self, data: Any) -> None:
        begun = self._open.pop(lenient.whole_number(data.get("index")), None)
        if begun is None:
            return
        block = begun.block
        if block.get("type") == "tool_use" and not begun.fragments:
            self._fragment(begun, lenient.encoded(block.get("input") or {}))
        elif block.get("type") in _THINKING and (carried := self._carried(block)) is not None:
            self._out.reasoning_block(carried)

    def _message_delta(self, data: Any) -> None:
        self._stop = lenient.text(lenient.mapping(data.get("delta")).get("stop_reason")) or self._stop
        self._counts.merge(data.get("usage"))

    def _message_stop(self, data: Any) -> None:
        self._counts.merge(data.get("usage"))
        self._out.finish(_finish(self._stop, has_tools=self._out.tools > 0), self._stop)
        if self._counts.told:
            self._out.usage(self._counts.usage())


_EVENTS: Final[Mapping[str, Callable[[Translation, Any], None]]] = {
    "message_start": Translation._message_start,  # noqa: SLF001 (its own table)
    "content_block_start": Translation._block_start,  # noqa: SLF001
    "content_block_delta": Translation._delta,  # noqa: SLF001
    "content_block_stop": Translation._block_stop,  # noqa: SLF001
    "message_delta": Translation._message_delta,  # noqa: SLF001
    "message_stop": Translation._message_stop,  # noqa: SLF001
}


def _finish(native: str, *, has_tools: bool) -> str:
    """The reason as Chat names it. A call of the tool that only stands for a format is no call to the client."""
    reason = _FINISH.get(native, "stop")
    return "stop" if reason == "tool_calls" and not has_tools else reason
