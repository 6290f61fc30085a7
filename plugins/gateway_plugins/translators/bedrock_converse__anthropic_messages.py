"""Translation of Bedrock Converse requests to Anthropic Messages, and of the replies back.

- The body is written for Anthropic's own Messages API. Other APIs, such as Bedrock's InvokeModel, have the same body
  except for a few fields (version, model and stream). The provider's plugin changes these fields.
- Messages are mapped in `mappings/converse_to_turns.py`, and fields that become headers in
  `mappings/converse_on_invoke.py`. The other fields are mapped here.
- Rules for every request to Messages are in `dialects/anthropic_messages/`.

Sources: botocore's service model, Anthropic's API reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Caps, ClientRequest, Drop, Target, Translation
from gateway_plugins.dialects.anthropic_messages import betas as messages_betas
from gateway_plugins.dialects.anthropic_messages import demand as messages_demand
from gateway_plugins.dialects.anthropic_messages import settings as messages_settings
from gateway_plugins.dialects.anthropic_messages import tools as messages_tools
from gateway_plugins.dialects.anthropic_messages import walk as messages_walk
from gateway_plugins.dialects.anthropic_messages.demand import CacheBreakpoints
from gateway_plugins.dialects.anthropic_messages.settings import Body
from gateway_plugins.dialects.bedrock_converse import emit as converse_emit
from gateway_plugins.dialects.bedrock_converse import read_options as converse_read_options
from gateway_plugins.dialects.bedrock_converse.read_options import EXTRAS
from gateway_plugins.mappings import converse_on_invoke
from gateway_plugins.mappings.converse_to_turns import Mapper
from gateway_plugins.shared import reply_events, settings
from gateway_plugins.shared.checks import list_of
from gateway_plugins.shared.inline_reasoning import reply_reader
from gateway_plugins.shared.offered_tools import offer
from gateway_plugins.shared.reasoning import Maker
from gateway_plugins.shared.settings import Parameters
from gateway_plugins.shared.thinking import ANTHROPIC_FORMS, answer_effort
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import Block

api = 1
operations = ("generate", "count_tokens")

_CARRIED: Final = frozenset({
    "cache_control", "container", "context_management", "inference_geo", "mcp_servers", "metadata", "safeguards",
    "service_tier", "speed",
})  # fmt: skip
"""Fields of the Messages API that clients of Converse send in `additionalModelRequestFields`. They are passed on. The
provider's plugin later drops the fields that its API does not accept.
"""
_TOOL_CHANGES: Final = "mid-conversation-tool-changes-2026-07-01"
"""Anthropic's beta for adding and removing tools within a conversation (toolAddition and toolRemoval in Converse)."""
_ANSWER_EFFORT_AT: Final = ("/outputConfig/effort", f"{EXTRAS}/output_config/effort")
"""JSON pointers of the fields that set the effort of the whole answer. Other fields set only the effort of thinking.
Claude distinguishes the two efforts."""


def open(request: ClientRequest, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's name)
    conversion = _Conversion(request, target, drop)
    body = conversion.body()
    headers = {**request.headers, **converse_on_invoke.headers(request.top, target, drop)}
    options = converse_emit.ReplyOptions(
        converse_read_options.field_paths(request.top, converse_emit.FIELD_PATHS, drop)
    )
    return reply_events.Translation(
        replace(request.with_body("anthropic_messages", body), headers=headers),
        reply_reader(messages_walk.Reader, conversion.names, conversion.schema_tool, target, drop),
        converse_emit.Stream(options),
        partial(converse_emit.Whole, options),
    )


class _Conversion:
    """Conversion of one Converse request to the body of a Messages request."""

    def __init__(self, request: ClientRequest, target: Target, drop: Drop) -> None:
        self.names = Names()
        self.schema_tool = ""
        """Name of the schema tool, whose input is the answer (`shared/output_format.py`). It is "" if there is none.

        The method `body` sets it.
        """
        self._request = request
        self._target = target = messages_betas.able(target, request.without)
        self._drop = drop
        self._extra = converse_read_options.extras(request.top)
        self._breakpoints = CacheBreakpoints(target.caps, drop)

    def body(self) -> Body:
        """Return the body of the Messages request, without empty fields."""
        top, caps, extra, drop = self._request.top, self._target.caps, self._extra, self._drop
        converse_read_options.refuse_unservable(top)
        converse_read_options.leftovers(top, drop)
        converse_read_options.report_extras(extra, _CARRIED | {"tools"}, drop)
        requested, effort = _split_effort(converse_read_options.parameters(top, extra, drop), caps, drop)
        guard_tag = converse_on_invoke.guard_tag(top, self._target)
        mapper = Mapper(caps, Maker.of(self._target), self.names, self._breakpoints, drop, guard_tag)
        system, messages = self._conversation(mapper, prefill=caps.prefill and not requested.thinking.is_wanted)
        loop = messages_demand.is_unsigned_loop(messages)
        planned = settings.plan(requested, caps, messages_settings.RULES, drop, unsigned_loop=loop)
        output = self._output(messages, system, thinks=planned.thinks)
        self._breakpoints.limit()
        decided = settings.decide(requested, caps, messages_settings.RULES, drop, planned=planned)
        members = {
            "model": self._target.model,
            "max_tokens": decided.limit,
            "messages": messages,
            "system": system,
            "stop_sequences": decided.stops,
            "stream": self._request.stream,
        }
        body: Body = {name: value for name, value in members.items() if value}
        body |= decided.sampling
        betas = [*converse_read_options.betas(extra), *([_TOOL_CHANGES] if mapper.changes_tools else [])]
        named: Body = {"anthropic_beta": betas} if betas else {}
        named |= converse_on_invoke.guard_config(guard_tag) if mapper.guards else {}
        body |= messages_settings.merge(named, messages_settings.thinking(decided.thinking), effort, output)
        return body | {name: value for name, value in extra.items() if name in _CARRIED}

    def _conversation(self, mapper: Mapper, *, prefill: bool) -> tuple[list[Block], list[Block]]:
        """Return the fields `system` and `messages`.

        An assistant message at the end is sent unchanged, for the model to continue, only if three conditions hold:
        `prefill` is true, the model does not always think, and the provider enforces no schema for the answer.
        """
        caps = self._target.caps
        wanted = converse_read_options.output_format(self._request.top, self._extra, self._drop)
        prefill = prefill and caps.reasoning != "always" and (wanted is None or not caps.json_schema)
        system, turns = mapper.read(self._request.top)
        return system, messages_demand.arrange(turns, caps, self._drop, prefill=prefill)

    def _output(self, messages: list[Block], system: list[Block], *, thinks: bool) -> Body:
        """Return the fields `tools`, `tool_choice` and `output_config`.

        If the client requests a format for the answer, the returned fields enforce it. If the model cannot enforce a
        format, a hint about the format is appended to `system` instead. `thinks` is true if the model thinks
        (`Plan.thinks`).
        """
        caps, drop = self._target.caps, self._drop
        offered = converse_read_options.tools(self._request.top, drop)
        choice = converse_read_options.choice(self._request.top, self._extra)
        anthropic_tools = _anthropic_tools(self._extra)
        if not anthropic_tools:
            offer(offered, choice)
        tools = messages_tools.build_tools(offered, self.names, self._breakpoints, caps, drop) + anthropic_tools
        chosen = messages_tools.choose(tools, choice.renamed(self.names), messages, caps, drop, thinks=thinks)
        wanted = converse_read_options.output_format(self._request.top, self._extra, lambda _: None)
        output = messages_tools.build_output(wanted, chosen, caps, drop, thinks=thinks)
        self.schema_tool = output.schema_tool
        if output.hint:
            system.append(messages_demand.text(output.hint))
        return output.body


def _anthropic_tools(extra: Mapping[str, Any]) -> list[Block]:
    """Return Anthropic's own tools, such as computer use. Clients of Converse send them in
    `additionalModelRequestFields`.
    """
    tools = list_of(extra.get("tools"), f"{EXTRAS}/tools")
    if not all(isinstance(tool, dict) for tool in tools):
        raise invalid(f"{EXTRAS[1:]}.tools must be objects", f"{EXTRAS[1:]}.tools")
    return tools


def _split_effort(requested: Parameters, caps: Caps, drop: Drop) -> tuple[Parameters, Body]:
    """Move Claude's effort for the whole answer from the parameters to fields of a Messages body.

    Return the parameters without this effort, and the fields. The effort is for the whole answer if the client's field
    is in `_ANSWER_EFFORT_AT`. An effort in any other field is for thinking.

    In three cases, nothing is moved:

    - The effort is `none`, or it is for thinking.
    - The model is not Claude.
    - The client requests thinking, and the model has no `effort_beta`.
    """
    thinking = requested.thinking
    is_answers = thinking.effort_at in _ANSWER_EFFORT_AT and thinking.effort not in {"", "none"}
    thinks = thinking.anthropic is not None and thinking.anthropic.mode != "disabled"
    if not is_answers or caps.reasoning not in ANTHROPIC_FORMS or (thinks and not caps.effort_beta):
        return requested, {}
    effort = answer_effort(thinking.effort, thinking.effort_at, caps, drop, off=thinking.is_off)
    betas = {"anthropic_beta": [caps.effort_beta]} if caps.effort_beta else {}
    members = {"output_config": {"effort": effort}, **betas} if effort else {}
    return replace(requested, thinking=replace(thinking, effort="")), members
