"""Translation of Anthropic Messages requests to OpenAI Chat Completions, and of the replies back.

This file maps the fields of a request. Messages are mapped in `mappings/messages_to_conversation.py`. Rules for every
request to Chat are in `dialects/openai_chat/demand.py` and `dialects/openai_chat/options.py`. Sources: Anthropic's and
OpenAI's API references.
"""

from __future__ import annotations

from functools import partial

from gateway.contract.flag import Caps, ClientRequest, Drop, Members, Target
from gateway_plugins.dialects.anthropic_messages import betas as messages_betas
from gateway_plugins.dialects.anthropic_messages import emit as messages_emit
from gateway_plugins.dialects.anthropic_messages import read_options as messages_read_options
from gateway_plugins.dialects.openai_chat import options as chat_options
from gateway_plugins.dialects.openai_chat import walk as chat_walk
from gateway_plugins.dialects.openai_chat.demand import Conversation
from gateway_plugins.mappings.messages_to_conversation import Mapper
from gateway_plugins.shared import settings
from gateway_plugins.shared.inline_reasoning import reply_reader
from gateway_plugins.shared.output_format import FormattedOutput
from gateway_plugins.shared.reply_events import Translation
from gateway_plugins.shared.settings import Parameters, Plan
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import Block

api = 1
operations = ("generate",)


def open(request: ClientRequest, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's name)
    top, caps, names = request.top, target.caps, Names()
    messages_read_options.leftovers(top, drop)
    for beta in messages_betas.request_betas(request):
        drop(f"/{messages_betas.HEADER}/{beta}")
    conversation = Conversation(target, drop)
    Mapper(names, drop).add_messages(top, conversation)
    requested = messages_read_options.parameters(top, caps, drop)
    planned = settings.plan(requested, caps, chat_options.RULES, drop)
    output = _output(top, names, settings.caps_beside(caps, planned), drop)
    conversation.hint(output.hint)
    if messages_read_options.ttl(top, drop) is not None:
        drop("/cache_control")
    body = {"model": target.model, "messages": conversation.messages()} | output.body
    body |= _parameters(top, requested, planned, caps, drop)
    body |= chat_options.stream_members() if request.stream else {}
    return Translation(
        request.with_body("openai_chat", body),
        reply_reader(chat_walk.Reader, names, output.schema_tool, target, drop),
        messages_emit.Stream(request.model, messages_emit.prompt_estimate(request)),
        partial(messages_emit.Whole, request.model),
    )


def _output(top: Members, names: Names, caps: Caps, drop: Drop) -> FormattedOutput:
    """Return the fields for the tools, the tool choice and the answer's format."""
    offered = messages_read_options.tools(top, drop)
    functions = chat_options.build_tools(offered.tools, names, caps, drop)
    wanted = messages_read_options.output_format(top, drop)
    return chat_options.build_output(wanted, functions, offered.choice.renamed(names), caps, drop)


def _parameters(top: Members, requested: Parameters, planned: Plan, caps: Caps, drop: Drop) -> Block:
    # this effort is not sent as Chat's effort, because Chat's effort makes Claude think
    if messages_read_options.answer_effort(top, requested.thinking, caps, drop):
        drop("/output_config/effort")
    decided = settings.decide(requested, caps, chat_options.RULES, drop, planned=planned)
    tier = messages_read_options.service_tier(top)
    body = chat_options.parameters(decided, caps, drop, stops_at=requested.stops_at)
    return body | ({"service_tier": tier} if tier else {})
