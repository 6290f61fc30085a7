"""Chat Completions to Bedrock Converse, and what Converse answers back to Chat.

This file only maps. What Converse demands of everyone is in `parts/to_bedrock_converse.py`, `parts/converse_tools.py`
and `parts/converse_options.py`; how Chat is read and written in `parts/read_openai_chat.py`,
`parts/read_openai_options.py` and `parts/emit_openai_chat.py`. No model is named here: `target.caps` tells.
Source of the mapping: botocore's service model, recorded traffic, and the defects of peers named in the tests.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from functools import partial
from typing import Final

import orjson

from gateway.errors import invalid
from gateway.flag import Ask, Caps, Drop, Target
from gateway_plugins.parts import emit_openai_chat as write
from gateway_plugins.parts import read_openai_chat as chat
from gateway_plugins.parts import read_openai_options as options
from gateway_plugins.parts import settings as decided
from gateway_plugins.parts import walk_bedrock_converse as reply
from gateway_plugins.parts.converse_options import inference, thinking
from gateway_plugins.parts.converse_tools import Choice, text_format, tool_config, tool_spec
from gateway_plugins.parts.fields import escaped, member, param
from gateway_plugins.parts.read_openai_chat import Message, Part
from gateway_plugins.parts.reasoning import untagged
from gateway_plugins.parts.replies import Translation
from gateway_plugins.parts.to_bedrock_converse import (
    CachePoint,
    CachePoints,
    DocumentNames,
    arrange,
    is_blank,
    media_block,
    with_points_placed,
)
from gateway_plugins.parts.tools import Names, unused
from gateway_plugins.parts.turns import Block, Turn

api = 1
loses = 2
operations = ("generate",)

_CARRIED: Final = frozenset(
    {
        "audio", "function_call", "functions", "guardrailConfig", "logprobs", "max_completion_tokens", "max_tokens",
        "messages", "modalities", "model", "n", "parallel_tool_calls", "reasoning_effort", "response_format",
        "service_tier", "stop", "stream", "stream_options", "temperature", "thinking", "tool_choice", "tools", "top_k",
        "top_logprobs", "top_p", "web_search_options",
    }
)  # fmt: skip
"""Members that are carried, refused, or dropped aloud by name; all others are reported as they stand."""

_ON_MESSAGES: Final = {
    "system": frozenset({"role", "content", "cache_control"}),
    "user": frozenset({"role", "content", "cache_control"}),
    "assistant": frozenset({"role", "content", "cache_control", "refusal", "tool_calls", "thinking_blocks"}),
    "tool": frozenset({"role", "content", "cache_control", "tool_call_id", "name"}),  # the call names it already
}

_SCHEMA_HINT: Final = "Answer with one JSON object that fits this JSON Schema, and nothing else:\n"
_TOOL_HINT: Final = "Give your final answer by calling the tool "
_OUTPUT: Final = "json_output"


def open(ask: Ask, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's word)
    request = _Request(ask, target.caps, drop)
    body = request.body()
    include_usage = options.include_usage(ask.top, drop)
    return Translation(
        ask.with_body("bedrock_converse", body),
        reply.Reader(request.names, request.output_tool, target.caps.family, drop),
        write.Stream(ask.model, drop, include_usage=include_usage),
        partial(write.Whole, ask.model, drop),
    )


class _Request:
    """One chat request on its way to a Converse body."""

    def __init__(self, ask: Ask, caps: Caps, drop: Drop) -> None:
        self.names = Names()
        self.output_tool = ""
        """Name of the tool that stands in for structured output; "" while there is none."""
        self._ask = ask
        self._top = ask.top
        self._caps = caps
        self._drop = drop
        self._documents = DocumentNames()
        self._points = CachePoints(caps, drop)
        self._called: list[str] = []
        self._system: list[Block] = []
        self._turns: list[Turn] = []

    def body(self) -> Block:
        options.refuse_unservable(self._top)
        options.leftovers(self._top, _CARRIED, self._drop)
        self._read_messages()
        caps, drop, asked = self._caps, self._drop, options.limit(self._top)
        loop = _unthinking_loop(self._turns)
        thought = decided.thought(options.wish(self._top), asked, caps, drop, unsigned_loop=loop)
        thinks = thought.is_claudes
        output, tools, tool_fields = self._tools(thinks=thinks)
        sampled = decided.sampling(options.sampling(self._top), caps, drop, thinks=thinks)
        limit = decided.output_limit(asked, thought, caps, demanded=False)
        config, top_k = inference(
            limit, sampled, decided.stops(options.stops(self._top), caps, drop, "/stop"), caps, drop
        )
        messages = arrange(self._turns, caps, drop, prefill=caps.prefill and not thinks)
        self._points.limit(tools["tools"] if tools else [], self._system, messages)
        members = {
            "messages": messages,
            "system": self._system,
            "inferenceConfig": config,
            "toolConfig": tools,
            "additionalModelRequestFields": thinking(thought) | top_k | tool_fields,
            "outputConfig": output,
            "serviceTier": self._service_tier(),
            "guardrailConfig": self._guardrail(),
        }
        return {name: value for name, value in members.items() if value}

    def _read_messages(self) -> None:
        leading = True
        for message in chat.messages(self._top):
            leading = leading and message.role == "system"
            self._report_members(message)
            blocks = _READERS[message.role](self, message)
            if not leading:
                self._turns.append(Turn("user" if message.role == "tool" else message.role, blocks, message.at))
            elif self._caps.system:
                self._system += [block for block in blocks if not is_blank(block)]
            else:
                self._turns.append(Turn("user", blocks, message.at))
        self._system = with_points_placed(self._system, self._drop)

    def _report_members(self, message: Message) -> None:
        for name, value in message.raw.items():
            replayed = name == "reasoning_content" and message.raw.get("thinking_blocks")
            if value and name not in _ON_MESSAGES[message.role] and not replayed:
                self._drop(f"{message.at}/{escaped(name)}")

    def _content(self, message: Message) -> list[Block]:
        """Parts as blocks, each with the cache point that the client put on it."""
        blocks: list[Block] = []
        for part in chat.parts(message, self._drop):
            blocks.append(self._block(part))
            self._points.mark(blocks, part.ttl, part.at)
        return blocks

    def _block(self, part: Part) -> Block:
        if part.media is None:
            return {"text": part.text}
        return media_block(part.media, self._documents, self._caps, param(part.at))

    def _user(self, message: Message) -> list[Block]:
        blocks = self._content(message)
        self._points.mark(blocks, message.ttl, message.at)
        return blocks

    def _instructions(self, message: Message) -> list[Block]:
        for part in chat.parts(message, self._drop):
            if part.media is not None:
                raise invalid(f"{param(part.at)}: a {message.role} message holds text only", param(part.at))
        return self._user(message)

    def _assistant(self, message: Message) -> list[Block]:
        blocks = self._thinking(message) + self._content(message)
        refusal = {"text": chat.text_of(message.raw.get("refusal"), f"{message.at}/refusal")}
        if refusal not in blocks:  # it may stand in the content too
            blocks.append(refusal)
        for call in chat.calls(message):
            name = self.names.alias(call.name or "unnamed")
            self._called.append(name)
            blocks.append({"toolUse": {"toolUseId": call.id or call.at, "name": name, "input": call.input}})
            self._points.mark(blocks, call.ttl, call.at)
        self._points.mark(blocks, message.ttl, message.at)
        return blocks

    def _thinking(self, message: Message) -> list[Block]:
        """Thinking exactly as it came, where this family made it; any other is dropped aloud."""
        blocks: list[Block] = []
        for thought in chat.thinking(message):
            taken = self._caps.redacted_reasoning if thought.data else self._caps.signed_reasoning
            own = untagged(self._caps.family, thought.data or thought.signature)
            if not taken or not own:
                self._drop(thought.at)
            elif thought.data:
                # Converse wraps Anthropic's base64 text in base64 once more
                redacted = b64encode(own.encode("latin-1", "replace")).decode()
                blocks.append({"reasoningContent": {"redactedContent": redacted}})
            else:
                inner = {"text": thought.text, "signature": own}
                blocks.append({"reasoningContent": {"reasoningText": inner}})
        return blocks

    def _tool(self, message: Message) -> list[Block]:
        content = self._content(message)
        points = [block for block in content if isinstance(block, CachePoint)]
        inner = [block for block in content if not isinstance(block, CachePoint)]
        result = {"toolUseId": chat.tool_call_id(message), "content": inner, "status": "success"}
        blocks: list[Block] = [{"toolResult": result}, *points[-1:]]
        for point in points[:-1]:  # a result takes one point, behind it
            self._drop(point.path)
        if not points:
            self._points.mark(blocks, message.ttl, message.at)
        return blocks

    def _tools(self, *, thinks: bool) -> tuple[Block, Block | None, Block]:
        """outputConfig, toolConfig, and the fields that go with the latter."""
        wanted = chat.offer(self._top)
        if wanted.offered and not self._caps.tools:
            raise invalid("tools: this model calls no tools; leave them out", "tools")
        specs: list[Block] = []
        for tool in wanted.offered:
            if tool.strict and not self._caps.strict_tools:
                self._drop(f"{tool.at}/function/strict")
            strict = tool.strict and self._caps.strict_tools
            name = self.names.alias(tool.name)
            at = f"{tool.at}/function/parameters"
            specs.append(tool_spec(name, tool.description, tool.schema, self._caps, at, strict=strict))
            self._points.mark(specs, tool.ttl, tool.at, tool=True)
        name = self.names.alias(wanted.name) if wanted.name else ""
        output, mode, name = self._output(specs, wanted.mode, name, thinks=thinks)
        choice = Choice(mode, name, wanted.parallel, wanted.path)
        return output, *tool_config(specs, self._called, choice, self._caps, self._drop, thinking=thinks)

    def _output(self, specs: list[Block], mode: str, name: str, *, thinks: bool) -> tuple[Block, str, str]:
        """What is to come out, and the choice among tools with it; may add a tool, or a hint to the system's text."""
        wanted = options.response_format(self._top)
        at = "/response_format/json_schema/schema"
        if wanted.kind == "text":
            return {}, mode, name
        if wanted.kind == "json_object":
            self._drop("/response_format")
            self._hint(decided.JSON_HINT)
        elif self._caps.json_schema:
            return text_format(wanted.name, wanted.description, wanted.schema, self._drop, at), mode, name
        elif not self._caps.tools or mode in {"any", "tool"}:
            self._hint(_SCHEMA_HINT + orjson.dumps(wanted.schema).decode())
        else:
            taken = {spec["toolSpec"]["name"] for spec in specs if "toolSpec" in spec}
            self.output_tool = unused(_OUTPUT, taken)
            specs.append(tool_spec(self.output_tool, wanted.description, wanted.schema, self._caps, at))
            if not thinks and self._caps.forced_tool_choice:
                return {}, *(("any", "") if len(specs) > 1 and mode == "auto" else ("tool", self.output_tool))
            self._hint(f"{_TOOL_HINT}{self.output_tool}.")
            return {}, "auto", ""
        return {}, mode, name

    def _hint(self, text: str) -> None:
        if self._caps.system:
            self._system.append({"text": text})
        else:
            self._turns.append(Turn("user", [{"text": text}], "/response_format"))

    def _service_tier(self) -> Block:
        tier = options.service_tier(self._top)
        return {"type": tier} if tier else {}

    def _guardrail(self) -> Block:
        """Bedrock's own member, which clients that know where they talk to send in chat bodies."""
        config = member(self._top, "guardrailConfig")
        if not isinstance(config, dict):
            return {}
        return {name: value for name, value in config.items() if self._ask.stream or name != "streamProcessingMode"}


_READERS: Final = {
    "system": _Request._instructions,  # noqa: SLF001 (its own table)
    "user": _Request._user,  # noqa: SLF001
    "assistant": _Request._assistant,  # noqa: SLF001
    "tool": _Request._tool,  # noqa: SLF001
}


def _unthinking_loop(turns: Sequence[Turn]) -> bool:
    """The last assistant turn calls tools and does not begin with thinking: with a budget, that is refused.

    It happens when a client does not send `thinking_blocks` back (RooCode#11238); the model then answers without
    thinking rather than not at all.
    """
    first: list[Block] = []
    calls = False
    for turn in reversed(turns):
        if turn.role == "assistant":
            first = turn.blocks or first
            calls = calls or any("toolUse" in block for block in turn.blocks)
        elif first:
            break
    return calls and "reasoningContent" not in first[0]
