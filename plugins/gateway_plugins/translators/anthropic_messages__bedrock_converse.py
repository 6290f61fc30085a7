"""Translation of Anthropic Messages requests to Bedrock Converse, and of the replies back.

This file maps the fields of a request. Messages are mapped in `mappings/messages_to_converse.py`. Rules for every
request to Converse are in `dialects/bedrock_converse/`. What a model accepts is known only from its capabilities
(`Caps`). Sources: Anthropic's API reference, botocore's service model, recorded traffic.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from gateway.contract.flag import ClientRequest, Drop, Target
from gateway_plugins.dialects.anthropic_messages import betas as messages_betas
from gateway_plugins.dialects.anthropic_messages import emit as messages_emit
from gateway_plugins.dialects.anthropic_messages import read_options as messages_read_options
from gateway_plugins.dialects.bedrock_converse import options as converse_options
from gateway_plugins.dialects.bedrock_converse import output as converse_output
from gateway_plugins.dialects.bedrock_converse import tools as converse_tools
from gateway_plugins.dialects.bedrock_converse import walk as converse_walk
from gateway_plugins.dialects.bedrock_converse.demand import CacheBreakpoints, arrange, is_unsigned_loop
from gateway_plugins.mappings.messages_to_converse import Mapper
from gateway_plugins.shared import settings
from gateway_plugins.shared.inline_reasoning import reply_reader
from gateway_plugins.shared.reasoning import Maker
from gateway_plugins.shared.reply_events import Translation
from gateway_plugins.shared.thinking import ThinkingRequest
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import Block, Turn

api = 1
operations = ("generate", "count_tokens")


def open(request: ClientRequest, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's name)
    conversion = _Conversion(request, target, drop)
    body = conversion.body()
    return Translation(
        request.with_body("bedrock_converse", body),
        reply_reader(converse_walk.Reader, conversion.names, conversion.schema_tool, target, drop),
        messages_emit.Stream(request.model, messages_emit.prompt_estimate(request)),
        partial(messages_emit.Whole, request.model),
    )


class _Conversion:
    """Conversion of one Messages request to the body of a Converse request."""

    def __init__(self, request: ClientRequest, target: Target, drop: Drop) -> None:
        self.names = Names()
        self.schema_tool = ""
        """Name of the schema tool, whose input is the answer (`shared/output_format.py`). It is "" if there is none.

        The method `body` sets it.
        """
        target = messages_betas.able(target, request.without)
        self._request = request
        self._top = request.top
        self._target = target
        self._caps = target.caps
        self._drop = drop
        self._breakpoints = CacheBreakpoints(target.caps, drop)
        self._system: list[Block] = []
        self._turns: list[Turn] = []

    def body(self) -> Block:
        """Return the body of the Converse request, without empty fields."""
        top, caps, drop = self._top, self._caps, self._drop
        messages_read_options.leftovers(top, drop)
        mapper = Mapper(caps, Maker.of(self._target), self.names, self._breakpoints, drop)
        self._system, self._turns = mapper.read(top)
        self._breakpoints.mark_last(self._turns, messages_read_options.ttl(top, drop))
        requested = messages_read_options.parameters(top, caps, drop)
        loop = is_unsigned_loop(self._turns)
        planned = settings.plan(requested, caps, converse_options.RULES, drop, unsigned_loop=loop)
        output, tools, fields = self._tools(mapper.called, thinks=planned.thinks)
        decided = settings.decide(requested, caps, converse_options.RULES, drop, planned=planned)
        config, top_k = converse_options.inference(decided, caps, drop)
        messages = arrange(self._turns, caps, drop, prefill=caps.prefill and not planned.thinks and not output)
        self._breakpoints.limit(tools["tools"] if tools else [], self._system, messages)
        fields = converse_options.thinking(decided.thinking) | top_k | fields | self._claude_fields(requested.thinking)
        tier = messages_read_options.service_tier(top)
        members = {
            "messages": messages,
            "system": self._system,
            "inferenceConfig": config,
            "toolConfig": tools,
            "additionalModelRequestFields": fields,
            "outputConfig": output,
            "serviceTier": {"type": tier} if tier else {},
            **converse_options.response_fields(decided.stops, caps, stream=self._request.stream),
        }
        return {name: value for name, value in members.items() if value}

    def _tools(self, called: Sequence[str], *, thinks: bool) -> tuple[Block, Block | None, Block]:
        """Return `outputConfig`, `toolConfig`, and fields for `additionalModelRequestFields` that set the tool choice.

        `called` has the names of the tools that were called earlier in the conversation. `thinks` is true if the model
        thinks (`Plan.thinks`).
        """
        caps, drop = self._caps, self._drop
        offered = messages_read_options.tools(self._top, drop)
        specs = converse_tools.build_tools(offered.tools, self.names, self._breakpoints, caps, drop)
        choice = offered.choice.renamed(self.names)
        wanted = messages_read_options.output_format(self._top, drop)
        output = converse_output.build_output(wanted, specs, choice, caps, drop, thinks=thinks)
        self.schema_tool = output.schema_tool
        self._hint(output.hint)
        config = converse_tools.tool_config([*output.specs], called, output.choice, caps, drop, thinks=thinks)
        return output.config, *config

    def _hint(self, text: str) -> None:
        if text and self._caps.system:
            self._system.append({"text": text})
        elif text:
            self._turns.append(Turn("user", [{"text": text}], "/output_config/format"))

    def _claude_fields(self, thinking: ThinkingRequest) -> Block:
        """Return the fields of `additionalModelRequestFields` that only Claude accepts: betas and
        `output_config.effort`.

        For other models, the betas are reported as dropped.
        """
        caps, drop, named = self._caps, self._drop, messages_betas.request_betas(self._request)
        if not caps.tool_choice_fields:
            for name in named:
                drop(f"/{messages_betas.HEADER}/{name}")
            return {}
        without = self._request.without
        betas = messages_betas.select_betas(named, "converse", self._target.options, drop, without=without)
        fields: Block = {}
        effort = messages_read_options.answer_effort(self._top, thinking, caps, drop)
        if effort:
            fields["output_config"] = {"effort": effort}
            betas += [beta for beta in (caps.effort_beta,) if beta and beta not in betas]
        return fields | ({"anthropic_beta": betas} if betas else {})
