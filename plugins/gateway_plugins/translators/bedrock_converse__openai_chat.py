"""Translation of Bedrock Converse requests to OpenAI Chat Completions, and of the replies back.

This file maps the fields of a request. Messages are mapped in `mappings/converse_to_conversation.py`. Rules for every
request to Chat are in `dialects/openai_chat/demand.py` and `dialects/openai_chat/options.py`. Sources: botocore's
service model, OpenAI's API reference.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from gateway.contract.flag import Caps, ClientRequest, Drop, Target, Translation
from gateway_plugins.dialects.bedrock_converse import emit as converse_emit
from gateway_plugins.dialects.bedrock_converse import read_options as converse_read_options
from gateway_plugins.dialects.bedrock_converse.read_options import EXTRAS
from gateway_plugins.dialects.openai_chat import options as chat_options
from gateway_plugins.dialects.openai_chat import walk as chat_walk
from gateway_plugins.dialects.openai_chat.demand import Conversation
from gateway_plugins.mappings.converse_to_conversation import Mapper
from gateway_plugins.shared import numbers, reply_events, settings
from gateway_plugins.shared.inline_reasoning import reply_reader
from gateway_plugins.shared.offered_tools import offer
from gateway_plugins.shared.output_format import FormattedOutput
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import Block

api = 1
operations = ("generate",)

_CARRIED: Final = frozenset({
    "logit_bias", "parallel_tool_calls", "prompt_cache_key", "safety_identifier", "user", "verbosity",
})  # fmt: skip
"""Fields of Chat that clients of Converse send in `additionalModelRequestFields`. They are passed on unchecked.
The numbers in `numbers.CHAT` are passed on too, after a check."""
_TIERS: Final = ("default", "flex", "priority")


def open(request: ClientRequest, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's name)
    names = Names()
    body, schema_tool = _body(request, target, names, drop)
    options = converse_emit.ReplyOptions(
        converse_read_options.field_paths(request.top, converse_emit.FIELD_PATHS, drop)
    )
    return reply_events.Translation(
        request.with_body("openai_chat", body),
        reply_reader(chat_walk.Reader, names, schema_tool, target, drop),
        converse_emit.Stream(options),
        partial(converse_emit.Whole, options),
    )


def _body(request: ClientRequest, target: Target, names: Names, drop: Drop) -> tuple[Block, str]:
    """Return the body of the Chat request, and the name of the tool whose input is the answer.

    The name is "" if the answer is not the input of a tool.
    """
    top, caps = request.top, target.caps
    converse_read_options.refuse_unservable(top)
    converse_read_options.refuse_guardrail(top, drop)
    converse_read_options.leftovers(top, drop)
    extra = converse_read_options.extras(top)
    converse_read_options.check_extras(extra, _CARRIED | numbers.CHAT.keys(), drop)
    converse_read_options.report_settings(top, drop)
    conversation = Conversation(target, drop)
    mapper = Mapper(conversation, names, drop)
    mapper.add_messages(top)
    requested = converse_read_options.parameters(top, extra, drop)
    planned = settings.plan(requested, caps, chat_options.RULES, drop)
    output = _output(request, extra, mapper, settings.caps_beside(caps, planned), drop)
    if output.hint:
        conversation.system(output.hint)
    body: Block = {"model": target.model, "messages": conversation.messages()}
    carried = {name: value for name, value in extra.items() if name in _CARRIED}
    carried |= numbers.checked(numbers.CHAT, extra, {name: f"{EXTRAS}/{name}" for name in numbers.CHAT})
    body |= chat_options.penalties(carried, f"{EXTRAS}/{{}}".format, caps, drop)
    decided = settings.decide(requested, caps, chat_options.RULES, drop, planned=planned)
    body |= chat_options.parameters(decided, caps, drop, stops_at=requested.stops_at)
    body |= output.body | _tier(request, drop)
    return body | (chat_options.stream_members() if request.stream else {}), output.schema_tool


def _tier(request: ClientRequest, drop: Drop) -> Block:
    tier = converse_read_options.service_tier(request.top, drop)
    if tier in _TIERS:
        return {"service_tier": tier}
    if tier:
        drop("/serviceTier")
    return {}


def _output(request: ClientRequest, extra: dict[str, Any], mapper: Mapper, caps: Caps, drop: Drop) -> FormattedOutput:
    """Return the fields for the tools, the tool choice and the answer's format.

    A tool is left out if a message of the conversation removes it (`Mapper.removed`).
    """
    tools = [tool for tool in converse_read_options.tools(request.top, drop) if tool.name not in mapper.removed]
    offered = offer(tools, converse_read_options.choice(request.top, extra))
    functions = chat_options.build_tools(offered.tools, mapper.names, caps, drop)
    choice = offered.choice.renamed(mapper.names)
    wanted = converse_read_options.output_format(request.top, extra, drop)
    return chat_options.build_output(wanted, functions, choice, caps, drop)
