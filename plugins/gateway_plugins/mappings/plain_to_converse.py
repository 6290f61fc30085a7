"""Mapping of a plain request (`shared/plain_request.py`) to the body of a Bedrock Converse request.

Rules for every request to Converse are in `dialects/bedrock_converse/`: `demand` (turns), `tools`, `output` (the
answer's format) and `options` (parameters). What a model accepts is known only from its capabilities (`Caps`). Sources:
botocore's service model, recorded traffic, and issues of other projects that the tests name.
"""

from __future__ import annotations

from gateway.contract.flag import Drop, Target
from gateway_plugins.dialects.bedrock_converse import options as converse_options
from gateway_plugins.dialects.bedrock_converse import output as converse_output
from gateway_plugins.dialects.bedrock_converse import tools as converse_tools
from gateway_plugins.dialects.bedrock_converse.demand import (
    CacheBreakpoints,
    CachePoint,
    DocumentNames,
    arrange,
    is_blank,
    is_unsigned_loop,
    media_block,
    place_cache_points,
    thinking_blocks,
)
from gateway_plugins.shared import settings
from gateway_plugins.shared.fields import param
from gateway_plugins.shared.output_format import JSON_HINT
from gateway_plugins.shared.plain_request import Call, ConvertedRequest, Message, Part, PlainRequest
from gateway_plugins.shared.reasoning import Maker, Reasoning
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import Block, Located, Turn


def convert(request: PlainRequest, target: Target, drop: Drop, *, stream: bool) -> ConvertedRequest:
    """Return the body of the Converse request. Raises `Refused` for a request that the model cannot serve."""
    for name in request.chat_members:
        drop(request.chat_member_at(name))
    conversion = _Conversion(request, target, drop, stream=stream)
    body = conversion.body()
    return ConvertedRequest(body, conversion.names, conversion.schema_tool)


class _Conversion:
    """Conversion of one request to the body of a Converse request."""

    def __init__(self, request: PlainRequest, target: Target, drop: Drop, *, stream: bool) -> None:
        self.names = Names()
        self.schema_tool = ""
        """Name of the schema tool, whose input is the answer (`shared/output_format.py`). It is "" if there is none.

        The method `body` sets it.
        """
        self._request = request
        self._caps = target.caps
        self._maker = Maker.of(target)
        self._drop = drop
        self._stream = stream
        self._documents = DocumentNames()
        self._breakpoints = CacheBreakpoints(target.caps, drop)
        self._called: list[str] = []
        """Names of the tools that the messages call, in the form that is sent to the provider."""
        self._system: list[Block] = []
        self._turns: list[Turn] = []

    def body(self) -> Block:
        """Return the body of the Converse request, without empty fields."""
        self._read_messages()
        request, caps, drop = self._request, self._caps, self._drop
        self._breakpoints.mark_last(self._turns, request.ttl)
        loop = is_unsigned_loop(self._turns)
        planned = settings.plan(request.parameters, caps, converse_options.RULES, drop, unsigned_loop=loop)
        output, tools, tool_fields = self._tools(thinks=planned.thinks)
        decided = settings.decide(request.parameters, caps, converse_options.RULES, drop, planned=planned)
        config, top_k = converse_options.inference(decided, caps, drop)
        prefill = caps.prefill and not planned.thinks and not output  # no prefill with a schema
        messages = arrange(self._turns, caps, drop, prefill=prefill)
        self._breakpoints.limit(tools["tools"] if tools else [], self._system, messages)
        members = {
            "messages": messages,
            "system": self._system,
            "inferenceConfig": config,
            "toolConfig": tools,
            "additionalModelRequestFields": converse_options.thinking(decided.thinking) | top_k | tool_fields,
            "outputConfig": output,
            "serviceTier": {"type": request.tier} if request.tier else {},
            "guardrailConfig": self._guardrail(),
        }
        return {name: value for name, value in members.items() if value}

    def _read_messages(self) -> None:
        leading = True
        for message in self._request.messages:
            leading = leading and message.role == "system"
            blocks = self._result(message) if message.role == "tool" else self._blocks(message)
            if not leading:
                self._turns.append(Turn("user" if message.role == "tool" else message.role, blocks, message.at))
            elif self._caps.system:
                self._system += [block for block in blocks if not is_blank(block)]
            else:
                self._turns.append(Turn("user", blocks, message.at))
        self._system = place_cache_points(self._system, self._drop)

    def _blocks(self, message: Message) -> list[Block]:
        """Return the blocks of a message, in the client's order.

        A cache point follows each part with a cache breakpoint.
        """
        blocks: list[Block] = []
        for part in message.content:
            if isinstance(part, Reasoning):
                blocks += thinking_blocks(part, self._caps, self._maker, self._drop)
                continue
            blocks.append(self._call(part) if isinstance(part, Call) else self._plain(part))
            self._breakpoints.mark(blocks, part.ttl, part.ttl_at)
        self._breakpoints.mark(blocks, message.ttl, message.ttl_at)
        return blocks

    def _plain(self, part: Part) -> Block:
        if part.media is None:
            return {"text": part.text}
        return media_block(part.media, self._documents, self._caps, param(part.at))

    def _call(self, call: Call) -> Block:
        name = self.names.alias(call.name or "unnamed")
        self._called.append(name)
        input_ = self.names.plain_input(call.input) if self._caps.plain_properties else call.input
        return {"toolUse": {"toolUseId": call.id or call.at, "name": name, "input": input_}}

    def _result(self, message: Message) -> list[Block]:
        content: list[Block] = []
        for part in message.content:
            if isinstance(part, Part):
                content.append(self._plain(part))
                self._breakpoints.mark(content, part.ttl, part.ttl_at)
        points = [block for block in content if isinstance(block, CachePoint)]
        inner = [block for block in content if not isinstance(block, CachePoint)]
        result = {"toolUseId": message.call_id, "content": inner, "status": "error" if message.is_error else "success"}
        blocks: list[Block] = [Located(message.call_at, {"toolResult": result}), *points[-1:]]
        for point in points[:-1]:  # a result can have only one cache point, placed after the result
            self._drop(point.path)
        if not points:
            self._breakpoints.mark(blocks, message.ttl, message.ttl_at)
        return blocks

    def _tools(self, *, thinks: bool) -> tuple[Block, Block | None, Block]:
        """Return `outputConfig`, `toolConfig`, and fields for `additionalModelRequestFields` that set the tool
        choice.

        `thinks` is true if the model thinks (`Plan.thinks`).
        """
        request, caps, drop = self._request, self._caps, self._drop
        specs = converse_tools.build_tools(request.tools.tools, self.names, self._breakpoints, caps, drop)
        choice = request.tools.choice.renamed(self.names)
        if request.format.kind == "json_object":
            drop(request.format.at)
            self._hint(JSON_HINT)
        output = converse_output.build_output(request.format.json, specs, choice, caps, drop, thinks=thinks)
        self.schema_tool = output.schema_tool
        self._hint(output.hint)
        for spec in output.specs if caps.plain_properties else ():
            if schema := spec.get("toolSpec", {}).get("inputSchema"):
                schema["json"] = self.names.plain_schema(schema["json"])
        config = converse_tools.tool_config([*output.specs], self._called, output.choice, caps, drop, thinks=thinks)
        return output.config, *config

    def _hint(self, text: str) -> None:
        if text and self._caps.system:
            self._system.append({"text": text})
        elif text:
            self._turns.append(Turn("user", [{"text": text}], self._request.format.at))

    def _guardrail(self) -> Block:
        """Return `guardrailConfig`.

        For a reply that is not streamed, `streamProcessingMode` is left out, because Converse refuses it.
        """
        config = self._request.guardrail
        return {name: value for name, value in config.items() if self._stream or name != "streamProcessingMode"}
