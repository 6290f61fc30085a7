"""Anthropic Messages to Bedrock Converse, and what Converse answers back to Messages.

This file only maps. How messages become turns is in `mappings/messages_to_converse.py`; what Converse demands of
everyone in `dialects/bedrock_converse/demand.py` and `parts/converse_*.py`; what parameters mean for a model in
`shared/settings.py`. No model is named here: `target.caps` tells. Sources: Anthropic's API reference, botocore's
service model, recorded traffic; bedrock.md 3.2 and 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from gateway.contract.errors import invalid
from gateway.contract.flag import ClientRequest, Drop, Target
from gateway_plugins.dialects.anthropic_messages import betas as messages_betas
from gateway_plugins.dialects.anthropic_messages import emit as messages_emit
from gateway_plugins.dialects.anthropic_messages import read_options as messages_read_options
from gateway_plugins.dialects.bedrock_converse import output as converse_output
from gateway_plugins.dialects.bedrock_converse import walk as converse_walk
from gateway_plugins.dialects.bedrock_converse.demand import CacheBreakpoints, arrange, is_unsigned_loop
from gateway_plugins.dialects.bedrock_converse.options import inference, response_fields, thinking
from gateway_plugins.dialects.bedrock_converse.tools import Choice, make_strict, tool_config, tool_spec
from gateway_plugins.mappings.messages_to_converse import Conversation
from gateway_plugins.shared import settings
from gateway_plugins.shared.reply_events import Translation
from gateway_plugins.shared.settings import ThinkingRequest
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import Block, Turn

api = 1
operations = ("generate", "count_tokens")


def open(ask: ClientRequest, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's word)
    request = _Request(ask, target, drop)
    body = request.body()
    return Translation(
        ask.with_body("bedrock_converse", body),
        converse_walk.Reader(request.names, request.schema_tool, target.caps.family, drop),
        messages_emit.Stream(ask.model),
        partial(messages_emit.Whole, ask.model),
    )


class _Request:
    """One Messages request on its way to a Converse body."""

    def __init__(self, ask: ClientRequest, target: Target, drop: Drop) -> None:
        self.names = Names()
        self.schema_tool = ""
        """Name of the tool that stands in for structured output; "" while there is none."""
        self._ask = ask
        self._top = ask.top
        self._target = target
        self._caps = target.caps
        self._drop = drop
        self._points = CacheBreakpoints(target.caps, drop)
        self._system: list[Block] = []
        self._turns: list[Turn] = []

    def body(self) -> Block:
        top, caps, drop = self._top, self._caps, self._drop
        messages_read_options.leftovers(top, drop)
        told = Conversation(caps, self.names, self._points, drop)
        self._system, self._turns = told.read(top)
        self._points.mark_last(self._turns, messages_read_options.ttl(top, drop))
        wish = messages_read_options.wish(top, caps, drop)
        asked = settings.allowed_limit(messages_read_options.limit(top), caps, drop, "/max_tokens")
        thought = settings.plan_thinking(wish, asked, caps, drop, unsigned_loop=is_unsigned_loop(self._turns))
        thinks = thought.is_anthropic
        output, tools, fields = self._tools(told.called, thinks=thinks)
        sampled = settings.supported_sampling(messages_read_options.sampling(top), caps, drop, thinks=thinks)
        stops = settings.supported_stops(messages_read_options.stops(top), caps, drop, "/stop_sequences")
        limit = settings.output_limit(asked, thought, caps, demanded=False)
        config, top_k = inference(limit, sampled, stops, caps, drop)
        messages = arrange(self._turns, caps, drop, prefill=caps.prefill and not thinks)
        self._points.limit(tools["tools"] if tools else [], self._system, messages)
        tier = messages_read_options.service_tier(top)
        members = {
            "messages": messages,
            "system": self._system,
            "inferenceConfig": config,
            "toolConfig": tools,
            "additionalModelRequestFields": thinking(thought) | top_k | fields | self._claudes(wish),
            "outputConfig": output,
            "serviceTier": {"type": tier} if tier else {},
            **response_fields(stops, caps, stream=self._ask.stream),
        }
        return {name: value for name, value in members.items() if value}

    def _tools(self, called: Sequence[str], *, thinks: bool) -> tuple[Block, Block | None, Block]:
        """outputConfig, toolConfig, and the fields that go with the latter."""
        wanted, caps, drop = messages_read_options.tools(self._top, self._drop), self._caps, self._drop
        if wanted.offered and not caps.tools:
            raise invalid("tools: this model calls no tools; leave them out", "tools")
        specs: list[Block] = []
        for tool in wanted.offered:
            schema_at = f"{tool.at}/input_schema"
            specs.append(tool_spec(self.names.alias(tool.name), tool.description, tool.schema, caps, schema_at))
            if tool.strict:
                make_strict(specs[-1], caps, drop, f"{tool.at}/strict", schema_at)
            self._points.mark(specs, tool.ttl, tool.at, tool=True)
        name = self.names.alias(wanted.name) if wanted.name else ""
        choice = Choice(wanted.mode, name, wanted.parallel, parallel_path="/tool_choice/disable_parallel_tool_use")
        found = converse_output.output(self._format(), specs, choice, caps, drop, thinks=thinks)
        self.schema_tool = found.schema_tool
        self._hint(found.hint)
        return found.config, *tool_config([*found.specs], called, found.choice, caps, drop, thinking=thinks)

    def _format(self) -> converse_output.Format | None:
        wanted = messages_read_options.format_(self._top, self._drop)
        return None if wanted is None else converse_output.Format(wanted.schema, f"{wanted.at}/schema")

    def _hint(self, text: str) -> None:
        if text and self._caps.system:
            self._system.append({"text": text})
        elif text:
            self._turns.append(Turn("user", [{"text": text}], "/output_config/format"))

    def _claudes(self, wish: ThinkingRequest) -> Block:
        """What only Claude has: betas, and an effort that does not come with thinking."""
        caps, drop, named = self._caps, self._drop, messages_betas.request_betas(self._ask)
        if not caps.tool_choice_fields:
            for name in named:
                drop(f"/{messages_betas.HEADER}/{name}")
            return {}
        taken = messages_betas.select_betas(named, "converse", self._target.options, drop)
        fields: Block = {}
        effort = messages_read_options.effort_alone(self._top, wish, caps, drop)
        if effort:
            fields["output_config"] = {"effort": effort}
            taken += [beta for beta in (caps.effort_beta,) if beta and beta not in taken]
        return fields | ({"anthropic_beta": taken} if taken else {})
