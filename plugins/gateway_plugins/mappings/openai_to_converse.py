"""A request of OpenAI's (`dialects/openai/values.py`) as the body of Bedrock's Converse.

This file only maps. What Converse demands of everyone is in `dialects/bedrock_converse/demand.py`,
`dialects/bedrock_converse/tools.py` and `dialects/bedrock_converse/options.py`. No model is named here: the
capabilities tell. Source of the mapping: botocore's service model, recorded traffic, and the defects of peers named in
the tests.
"""

from __future__ import annotations

from base64 import b64encode

from gateway.contract.errors import invalid
from gateway.contract.flag import Caps, Drop, Target
from gateway_plugins.dialects.bedrock_converse import output as converse_output
from gateway_plugins.dialects.bedrock_converse.demand import (
    CacheBreakpoints,
    CachePoint,
    DocumentNames,
    arrange,
    is_blank,
    is_unsigned_loop,
    media_block,
    with_points_placed,
)
from gateway_plugins.dialects.bedrock_converse.options import inference, thinking
from gateway_plugins.dialects.bedrock_converse.tools import Choice, make_strict, tool_config, tool_spec
from gateway_plugins.dialects.openai.values import Call, ConvertedRequest, Message, OpenAIRequest, Part
from gateway_plugins.shared import settings
from gateway_plugins.shared.fields import param
from gateway_plugins.shared.reasoning import Reasoning, untagged
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import Block, Turn


def request(asked: OpenAIRequest, target: Target, drop: Drop, *, stream: bool) -> ConvertedRequest:
    """Raises `Refused` for what the model cannot be asked."""
    mapper = _Request(asked, target.caps, drop, stream=stream)
    body = mapper.body()
    return ConvertedRequest(body, mapper.names, mapper.schema_tool)


class _Request:
    """One request on its way to a Converse body."""

    def __init__(self, asked: OpenAIRequest, caps: Caps, drop: Drop, *, stream: bool) -> None:
        self.names = Names()
        self.schema_tool = ""
        self._asked = asked
        self._caps = caps
        self._drop = drop
        self._stream = stream
        self._documents = DocumentNames()
        self._points = CacheBreakpoints(caps, drop)
        self._called: list[str] = []
        self._system: list[Block] = []
        self._turns: list[Turn] = []

    def body(self) -> Block:
        self._read_messages()
        asked, caps, drop = self._asked, self._caps, self._drop
        self._points.mark_last(self._turns, asked.ttl)
        loop = is_unsigned_loop(self._turns)
        limit = settings.allowed_limit(asked.limit, caps, drop, asked.limit_at)
        thought = settings.plan_thinking(asked.thinking, limit, caps, drop, unsigned_loop=loop)
        thinks = thought.is_anthropic
        output, tools, tool_fields = self._tools(thinks=thinks)
        sampled = settings.supported_sampling(asked.sampling, caps, drop, thinks=thinks)
        limit = settings.output_limit(limit, thought, caps, demanded=False)
        config, top_k = inference(
            limit, sampled, settings.supported_stops(asked.stops, caps, drop, "/stop"), caps, drop
        )
        prefill = caps.prefill and not thinks and not output  # an answer of a schema is not begun by the client
        messages = arrange(self._turns, caps, drop, prefill=prefill)
        self._points.limit(tools["tools"] if tools else [], self._system, messages)
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
            if isinstance(part, Reasoning):
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
        given = self.names.plain_input(call.input) if self._caps.plain_properties else call.input
        return {"toolUse": {"toolUseId": call.id or call.at, "name": name, "input": given}}

    def _thinking(self, thought: Reasoning) -> list[Block]:
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
        wanted, caps, drop = self._asked.tools, self._caps, self._drop
        if wanted.offered and not caps.tools:
            raise invalid("tools: this model calls no tools; leave them out", "tools")
        specs: list[Block] = []
        for tool in wanted.offered:
            specs.append(tool_spec(self.names.alias(tool.name), tool.description, tool.schema, caps, tool.schema_at))
            if tool.strict:
                make_strict(specs[-1], caps, drop, tool.strict_at, tool.schema_at)
            self._points.mark(specs, tool.ttl, tool.at, tool=True)
        name = self.names.alias(wanted.name) if wanted.name else ""
        choice = Choice(wanted.mode, name, wanted.parallel, wanted.path)
        found = converse_output.output(self._format(), specs, choice, caps, drop, thinks=thinks)
        self.schema_tool = found.schema_tool
        self._hint(found.hint)
        for spec in found.specs if caps.plain_properties else ():
            if schema := spec.get("toolSpec", {}).get("inputSchema"):
                schema["json"] = self.names.plain_schema(schema["json"])
        return found.config, *tool_config([*found.specs], self._called, found.choice, caps, drop, thinking=thinks)

    def _format(self) -> converse_output.Format | None:
        """The schema that is wished for; JSON without one is asked for in words."""
        wanted = self._asked.format
        if wanted.kind == "json_object":
            self._drop(wanted.at)
            self._hint(settings.JSON_HINT)
        if wanted.kind != "json_schema":
            return None
        return converse_output.Format(wanted.schema, wanted.schema_at, wanted.name, wanted.description, wanted.at)

    def _hint(self, text: str) -> None:
        if text and self._caps.system:
            self._system.append({"text": text})
        elif text:
            self._turns.append(Turn("user", [{"text": text}], self._asked.format.at))

    def _guardrail(self) -> Block:
        config = self._asked.guardrail
        return {name: value for name, value in config.items() if self._stream or name != "streamProcessingMode"}
