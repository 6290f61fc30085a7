"""A request of OpenAI's (`openai_values.py`) as the body of Bedrock's Converse.

This file only maps. What Converse demands of everyone is in `to_bedrock_converse.py`, `converse_tools.py` and
`converse_options.py`. No model is named here: the capabilities tell. Source of the mapping: botocore's service model,
recorded traffic, and the defects of peers named in the tests.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Final

import orjson

from gateway.errors import invalid
from gateway.flag import Caps, Drop, Target
from gateway_plugins.parts import settings as decided
from gateway_plugins.parts.converse_options import inference, thinking
from gateway_plugins.parts.converse_tools import Choice, text_format, tool_config, tool_spec
from gateway_plugins.parts.fields import param
from gateway_plugins.parts.openai_values import Asked, Call, Made, Message, Part, Thinking
from gateway_plugins.parts.reasoning import untagged
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

_SCHEMA_HINT: Final = "Answer with one JSON object that fits this JSON Schema, and nothing else:\n"
_TOOL_HINT: Final = "Give your final answer by calling the tool "
_OUTPUT: Final = "json_output"


def request(asked: Asked, target: Target, drop: Drop, *, stream: bool) -> Made:
    """Raises `Refused` for what the model cannot be asked."""
    mapper = _Request(asked, target.caps, drop, stream=stream)
    body = mapper.body()
    return Made(body, mapper.names, mapper.stand_in)


class _Request:
    """One request on its way to a Converse body."""

    def __init__(self, asked: Asked, caps: Caps, drop: Drop, *, stream: bool) -> None:
        self.names = Names()
        self.stand_in = ""
        self._asked = asked
        self._caps = caps
        self._drop = drop
        self._stream = stream
        self._documents = DocumentNames()
        self._points = CachePoints(caps, drop)
        self._called: list[str] = []
        self._system: list[Block] = []
        self._turns: list[Turn] = []

    def body(self) -> Block:
        self._read_messages()
        asked, caps, drop = self._asked, self._caps, self._drop
        loop = _unthinking_loop(self._turns)
        thought = decided.thought(asked.wish, asked.limit, caps, drop, unsigned_loop=loop)
        thinks = thought.is_claudes
        output, tools, tool_fields = self._tools(thinks=thinks)
        sampled = decided.sampling(asked.sampling, caps, drop, thinks=thinks)
        limit = decided.output_limit(asked.limit, thought, caps, demanded=False)
        config, top_k = inference(limit, sampled, decided.stops(asked.stops, caps, drop, "/stop"), caps, drop)
        messages = arrange(self._turns, caps, drop, prefill=caps.prefill and not thinks)
        self._points.limit(tools["tools"] if tools else [], self._system, messages)
        if asked.ttl is not None:
            drop("/cache_control")
        members = {
            "messages": messages,
            "system": self._system,
            "inferenceConfig": config,
            "toolConfig": tools,
            "additionalModelRequestFields": thinking(thought) | top_k | tool_fields,
            "outputConfig": output,
            "serviceTier": {"type": asked.tier} if asked.tier else {},
            "guardrailConfig": self._guardrail(),
        }
        return {name: value for name, value in members.items() if value}

    def _read_messages(self) -> None:
        leading = True
        for message in self._asked.messages:
            leading = leading and message.role == "system"
            blocks = self._result(message) if message.role == "tool" else self._blocks(message)
            if message.role == "system":
                _refuse_files(message)
            if not leading:
                self._turns.append(Turn("user" if message.role == "tool" else message.role, blocks, message.at))
            elif self._caps.system:
                self._system += [block for block in blocks if not is_blank(block)]
            else:
                self._turns.append(Turn("user", blocks, message.at))
        self._system = with_points_placed(self._system, self._drop)

    def _blocks(self, message: Message) -> list[Block]:
        """Content in the client's order, each part with the cache point that the client put on it."""
        blocks: list[Block] = []
        for part in message.content:
            if isinstance(part, Thinking):
                blocks += self._thinking(part)
                continue
            blocks.append(self._call(part) if isinstance(part, Call) else self._plain(part))
            self._points.mark(blocks, part.ttl, part.at)
        self._points.mark(blocks, message.ttl, message.at)
        return blocks

    def _plain(self, part: Part) -> Block:
        if part.media is None:
            return {"text": part.text}
        return media_block(part.media, self._documents, self._caps, param(part.at))

    def _call(self, call: Call) -> Block:
        name = self.names.alias(call.name or "unnamed")
        self._called.append(name)
        return {"toolUse": {"toolUseId": call.id or call.at, "name": name, "input": call.input}}

    def _thinking(self, thought: Thinking) -> list[Block]:
        """Thinking exactly as it came, where this family made it; any other is dropped aloud."""
        taken = self._caps.redacted_reasoning if thought.data else self._caps.signed_reasoning
        own = untagged(self._caps.family, thought.data or thought.signature)
        if not taken or not own:
            self._drop(thought.at)
            return []
        if thought.data:
            # Converse wraps Anthropic's base64 text in base64 once more
            redacted = b64encode(own.encode("latin-1", "replace")).decode()
            return [{"reasoningContent": {"redactedContent": redacted}}]
        return [{"reasoningContent": {"reasoningText": {"text": thought.text, "signature": own}}}]

    def _result(self, message: Message) -> list[Block]:
        content: list[Block] = []
        for part in message.content:
            if isinstance(part, Part):
                content.append(self._plain(part))
                self._points.mark(content, part.ttl, part.at)
        points = [block for block in content if isinstance(block, CachePoint)]
        inner = [block for block in content if not isinstance(block, CachePoint)]
        result = {"toolUseId": message.call_id, "content": inner, "status": "success"}
        blocks: list[Block] = [{"toolResult": result}, *points[-1:]]
        for point in points[:-1]:  # a result takes one point, behind it
            self._drop(point.path)
        if not points:
            self._points.mark(blocks, message.ttl, message.at)
        return blocks

    def _tools(self, *, thinks: bool) -> tuple[Block, Block | None, Block]:
        """outputConfig, toolConfig, and the fields that go with the latter."""
        wanted = self._asked.tools
        if wanted.offered and not self._caps.tools:
            raise invalid("tools: this model calls no tools; leave them out", "tools")
        specs: list[Block] = []
        for tool in wanted.offered:
            if tool.strict and not self._caps.strict_tools:
                self._drop(tool.strict_at)
            strict = tool.strict and self._caps.strict_tools
            name = self.names.alias(tool.name)
            specs.append(tool_spec(name, tool.description, tool.schema, self._caps, tool.schema_at, strict=strict))
            self._points.mark(specs, tool.ttl, tool.at, tool=True)
        name = self.names.alias(wanted.name) if wanted.name else ""
        output, mode, name = self._output(specs, wanted.mode, name, thinks=thinks)
        choice = Choice(mode, name, wanted.parallel, wanted.path)
        return output, *tool_config(specs, self._called, choice, self._caps, self._drop, thinking=thinks)

    def _output(self, specs: list[Block], mode: str, name: str, *, thinks: bool) -> tuple[Block, str, str]:
        """What is to come out, and the choice among tools with it; may add a tool, or a hint to the system's text."""
        wanted = self._asked.format
        if wanted.kind == "text":
            return {}, mode, name
        if wanted.kind == "json_object":
            self._drop(wanted.at)
            self._hint(decided.JSON_HINT)
        elif self._caps.json_schema:
            form = text_format(wanted.name, wanted.description, wanted.schema, self._drop, wanted.schema_at)
            return form, mode, name
        elif not self._caps.tools or mode in {"any", "tool"}:
            self._hint(_SCHEMA_HINT + orjson.dumps(wanted.schema).decode())
        else:
            taken = {spec["toolSpec"]["name"] for spec in specs if "toolSpec" in spec}
            self.stand_in = unused(_OUTPUT, taken)
            specs.append(tool_spec(self.stand_in, wanted.description, wanted.schema, self._caps, wanted.schema_at))
            if not thinks and self._caps.forced_tool_choice:
                return {}, *(("any", "") if len(specs) > 1 and mode == "auto" else ("tool", self.stand_in))
            self._hint(f"{_TOOL_HINT}{self.stand_in}.")
            return {}, "auto", ""
        return {}, mode, name

    def _hint(self, text: str) -> None:
        if self._caps.system:
            self._system.append({"text": text})
        else:
            self._turns.append(Turn("user", [{"text": text}], self._asked.format.at))

    def _guardrail(self) -> Block:
        config = self._asked.guardrail
        return {name: value for name, value in config.items() if self._stream or name != "streamProcessingMode"}


def _refuse_files(message: Message) -> None:
    for part in message.content:
        if isinstance(part, Part) and part.media is not None:
            raise invalid(f"{param(part.at)}: a {message.role} message holds text only", param(part.at))


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
