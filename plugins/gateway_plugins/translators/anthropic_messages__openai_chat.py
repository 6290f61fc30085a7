"""Anthropic Messages to OpenAI Chat Completions, and the replies back.

This file only maps. How messages are told is in `mappings/messages_to_chat.py`; what Chat demands of everyone in
`dialects/openai_chat/demand.py` and `dialects/openai_chat/options.py`; what parameters mean for a model in
`shared/settings.py`. Sources: the API references of both; bedrock.md 3.2 and 3.3.
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
from gateway_plugins.mappings.messages_to_chat import Reader
from gateway_plugins.shared import settings
from gateway_plugins.shared.reply_events import Translation
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import Block

api = 1
operations = ("generate",)


def open(ask: ClientRequest, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's word)
    top, caps, names = ask.top, target.caps, Names()
    messages_read_options.leftovers(top, drop)
    for beta in messages_betas.request_betas(ask):
        drop(f"/{messages_betas.HEADER}/{beta}")
    told = Conversation(caps, drop)
    Reader(caps, names, drop).read(top, told)
    found = _tools(top, names, caps, drop)
    told.hint(found.hint)
    if messages_read_options.ttl(top, drop) is not None:
        drop("/cache_control")
    body = {"model": target.model, "messages": told.messages()} | found.body | _parameters(top, caps, drop)
    body |= chat_options.stream_members() if ask.stream else {}
    return Translation(
        ask.with_body("openai_chat", body),
        chat_walk.Reader(names, found.schema_tool, caps.family, drop),
        messages_emit.Stream(ask.model),
        partial(messages_emit.Whole, ask.model),
    )


def _tools(top: Members, names: Names, caps: Caps, drop: Drop) -> chat_options.Output:
    """The tools, the choice among them, and the answer's format, which may need one of them."""
    wanted = messages_read_options.tools(top, drop)
    offered = []
    for tool in wanted.offered:
        made = chat_options.function(names.alias(tool.name), tool.description, tool.schema, f"{tool.at}/input_schema")
        if tool.strict:
            chat_options.make_strict(made, caps, drop, f"{tool.at}/strict")
        if tool.ttl is not None:
            drop(f"{tool.at}/cache_control")
        offered.append(made)
    choice = chat_options.Choice(wanted.mode, names.alias(wanted.name) if wanted.name else "", wanted.parallel)
    format_ = messages_read_options.format_(top, drop)
    schema = None if format_ is None else chat_options.Format(format_.schema, path=f"{format_.at}/schema")
    return chat_options.output(schema, offered, choice, caps, drop)


def _parameters(top: Members, caps: Caps, drop: Drop) -> Block:
    asked = settings.allowed_limit(messages_read_options.limit(top), caps, drop, "/max_tokens")
    wish = messages_read_options.wish(top, caps, drop)
    thought = settings.plan_thinking(wish, asked, caps, drop, unsigned_loop=False)
    if messages_read_options.effort_alone(top, wish, caps, drop):  # Chat's effort would make a Claude think
        drop("/output_config/effort")
    sampled = settings.supported_sampling(messages_read_options.sampling(top), caps, drop, thinks=thought.is_anthropic)
    limit = settings.output_limit(asked, thought, caps, demanded=False)
    stops = settings.supported_stops(messages_read_options.stops(top), caps, drop, "/stop_sequences")
    tier = messages_read_options.service_tier(top)
    return {
        **chat_options.limit(limit, caps),
        **chat_options.effort(thought, caps),
        **chat_options.sampling(sampled, drop),
        **chat_options.stops(stops, drop, "/stop_sequences"),
        **({"service_tier": tier} if tier else {}),
    }
