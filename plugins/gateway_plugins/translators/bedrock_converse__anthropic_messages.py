"""Bedrock Converse to Anthropic Messages, and the replies back.

The body that leaves is the Messages API's own; what an envelope takes or moves (Bedrock's version, model and stream) is
that flag's. How messages become turns is in `mappings/converse_to_turns.py` and
`dialects/anthropic_messages/demand.py`, what stands beside the conversation in `mappings/converse_on_invoke.py`; here
stand the other members. Sources: botocore's service model, Anthropic's API reference, bedrock.md 3.2 and 3.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Caps, ClientRequest, Drop, Target, Translation
from gateway_plugins.dialects.anthropic_messages import demand as messages_demand
from gateway_plugins.dialects.anthropic_messages import settings as messages_settings
from gateway_plugins.dialects.anthropic_messages import tools as messages_tools
from gateway_plugins.dialects.anthropic_messages.demand import CacheBreakpoints
from gateway_plugins.dialects.anthropic_messages.settings import Body
from gateway_plugins.dialects.anthropic_messages.walk import Reader
from gateway_plugins.dialects.bedrock_converse import read_options as converse_read_options
from gateway_plugins.dialects.bedrock_converse.emit import FIELD_PATHS, Stream, Wanted, Whole
from gateway_plugins.dialects.bedrock_converse.read import listed
from gateway_plugins.dialects.bedrock_converse.read_options import EXTRAS
from gateway_plugins.mappings import converse_on_invoke
from gateway_plugins.mappings.converse_to_turns import Reader as Turns
from gateway_plugins.shared import reply_events, settings
from gateway_plugins.shared.settings import ThinkingRequest
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import Block

api = 1
operations = ("generate", "count_tokens")

_CARRIED: Final = frozenset({
    "cache_control", "container", "context_management", "inference_geo", "mcp_servers", "metadata", "safeguards",
    "service_tier", "speed",
})  # fmt: skip
"""Members of the Messages API that clients of Converse send as extra fields; envelopes report what they do not take."""
_TOOL_CHANGES: Final = "mid-conversation-tool-changes-2026-07-01"
"""The beta that Converse's toolAddition and toolRemoval are members of there."""
_ANSWERS_EFFORT: Final = ("/outputConfig/effort", f"{EXTRAS}/output_config/effort")
"""Where an effort is one of the whole answer, which Claude has apart from thinking."""


def open(ask: ClientRequest, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's name)
    request = _Request(ask, target, drop)
    body = request.body()
    headers = {**ask.headers, **converse_on_invoke.headers(ask.top, target, drop)}
    wanted = Wanted(converse_read_options.field_paths(ask.top, FIELD_PATHS, drop))
    return reply_events.Translation(
        replace(ask.with_body("anthropic_messages", body), headers=headers),
        Reader(request.names, request.schema_tool, target.caps.family, drop),
        Stream(wanted),
        partial(Whole, wanted),
    )


class _Request:
    """One Converse request on its way to a Messages body."""

    def __init__(self, ask: ClientRequest, target: Target, drop: Drop) -> None:
        self.names = Names()
        self.schema_tool = ""
        """Name of the tool that stands in for structured output; "" while there is none."""
        self._ask = ask
        self._target = target
        self._drop = drop
        self._extra = converse_read_options.extras(ask.top)
        self._marks = CacheBreakpoints(target.caps, drop)

    def body(self) -> Body:
        top, caps, extra, drop = self._ask.top, self._target.caps, self._extra, self._drop
        converse_read_options.refuse_unservable(top)
        converse_read_options.leftovers(top, drop)
        converse_read_options.report_extras(extra, _CARRIED | {"tools"}, drop)
        config = converse_read_options.config(top, drop)
        wish, effort = _effort(converse_read_options.wish(top, extra, drop), caps, drop)
        turns = Turns(caps, self.names, self._marks, drop)
        system, messages = self._conversation(turns, prefill=caps.prefill and not wish.on)
        limit = settings.allowed_limit(converse_read_options.limit(config), caps, drop, "/inferenceConfig/maxTokens")
        loop = messages_demand.is_unsigned_loop(messages)
        thought = settings.plan_thinking(wish, limit, caps, drop, unsigned_loop=loop)
        thinks = thought.is_anthropic or caps.reasoning == "always"
        output = self._output(messages, system, thinks=thinks)
        self._marks.limit()
        sampling = converse_read_options.sampling(config, extra)
        stops = settings.supported_stops(
            converse_read_options.stops(config), caps, drop, "/inferenceConfig/stopSequences"
        )
        members = {
            "model": self._target.model,
            "max_tokens": settings.output_limit(limit, thought, caps, demanded=True),
            "messages": messages,
            "system": system,
            "stop_sequences": stops,
            "stream": self._ask.stream,
        }
        body: Body = {name: value for name, value in members.items() if value}
        body |= settings.supported_sampling(sampling.values, caps, drop, thinks=thinks, at=sampling.at)
        betas = [*converse_read_options.betas(extra), *([_TOOL_CHANGES] if turns.changes_tools else [])]
        named = {"anthropic_beta": betas} if betas else {}
        body |= messages_settings.merge(named, messages_settings.thinking(thought), effort, output)
        return body | {name: value for name, value in extra.items() if name in _CARRIED}

    def _conversation(self, turns: Turns, *, prefill: bool) -> tuple[list[Block], list[Block]]:
        """`system` and `messages`. An answer of a schema is not begun by the client."""
        caps = self._target.caps
        format_ = converse_read_options.output_format(self._ask.top, self._extra, self._drop)
        prefill = prefill and caps.reasoning != "always" and (format_ is None or not caps.json_schema)
        system, said = turns.read(self._ask.top)
        return system, messages_demand.arrange(said, caps, self._drop, prefill=prefill)

    def _output(self, messages: list[Block], system: list[Block], *, thinks: bool) -> Body:
        """`tools`, `tool_choice`, and the format of `output_config`; may add a hint to the system's text."""
        caps, drop = self._target.caps, self._drop
        offered = converse_read_options.tools(self._ask.top, drop)
        choice = converse_read_options.choice(self._ask.top, self._extra)
        own = _own_tools(self._extra)
        if not own:
            converse_read_options.check_choice(choice, offered)
        tools = [*map(self._tool, offered), *own]
        if choice.name:
            choice = replace(choice, name=self.names.alias(choice.name))
        chosen = messages_tools.choose(tools, choice, messages, caps, drop, thinks=thinks)
        format_ = converse_read_options.output_format(self._ask.top, self._extra, lambda _: None)
        output = messages_tools.output(format_, chosen, caps, drop, thinks=thinks)
        self.schema_tool = output.schema_tool
        if output.hint:
            system.append(messages_demand.text(output.hint))
        return output.body

    def _tool(self, offered: converse_read_options.Tool) -> Block:
        name = self.names.alias(offered.name)
        schema_at = f"{offered.at}/inputSchema/json"
        made = messages_tools.tool(name, offered.description, offered.schema, schema_at)
        if offered.strict:
            messages_tools.make_strict(made, self._target.caps, self._drop, f"{offered.at}/strict", schema_at)
        self._marks.put(offered.ttl, [made], "tools", offered.marked_at)
        return made


def _own_tools(extra: Mapping[str, Any]) -> list[Block]:
    """Anthropic's tools, such as that for a computer's use, which Converse has no word for."""
    found = listed(extra.get("tools"), f"{EXTRAS}/tools")
    if not all(isinstance(tool, dict) for tool in found):
        raise invalid(f"{EXTRAS[1:]}.tools must be objects", f"{EXTRAS[1:]}.tools")
    return found


def _effort(wish: ThinkingRequest, caps: Caps, drop: Drop) -> tuple[ThinkingRequest, Body]:
    """The wish for thinking without an effort of the whole answer, and the latter as members."""
    if wish.anthropic or wish.effort_at not in _ANSWERS_EFFORT or caps.reasoning not in {"adaptive", "budget"}:
        return wish, {}
    effort = settings.nearest_effort(wish.effort, caps.efforts)
    taken = caps.reasoning == "adaptive" or caps.effort_beta
    if not taken or effort != wish.effort:
        drop(wish.effort_at)
    betas = {"anthropic_beta": [caps.effort_beta]} if caps.reasoning == "budget" else {}
    return ThinkingRequest(), {"output_config": {"effort": effort}, **betas} if taken else {}
