"""Anthropic Messages to OpenAI Chat Completions, and the replies back.

This file only maps. How messages are told is in `messages_to_chat.py`; what Chat demands of everyone in
`to_openai_chat.py` and `openai_chat_options.py`; what parameters mean for a model in `settings.py`.
Sources: the API references of both; bedrock.md 3.2 and 3.3.
"""

from __future__ import annotations

from functools import partial

from gateway.flag import Ask, Caps, Drop, Members, Target
from gateway_plugins.parts.claude import anthropic_betas as betas
from gateway_plugins.parts.replies import emit_anthropic_messages as write
from gateway_plugins.parts.replies import walk_openai_chat as reply
from gateway_plugins.parts.replies.verbs import Translation
from gateway_plugins.parts.requests import openai_chat_options as to
from gateway_plugins.parts.requests import read_anthropic_options as options
from gateway_plugins.parts.requests import settings as decided
from gateway_plugins.parts.requests.messages_to_chat import Reader
from gateway_plugins.parts.requests.to_openai_chat import Conversation
from gateway_plugins.parts.requests.turns import Block
from gateway_plugins.parts.tools import Names

api = 1
operations = ("generate",)


def open(ask: Ask, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's word)
    top, caps, names = ask.top, target.caps, Names()
    options.leftovers(top, drop)
    for beta in betas.of_both(ask):
        drop(f"/{betas.HEADER}/{beta}")
    told = Conversation(caps, drop)
    Reader(caps, names, drop).read(top, told)
    found = _tools(top, names, caps, drop)
    told.hint(found.hint)
    if options.ttl(top, drop) is not None:
        drop("/cache_control")
    body = {"model": target.model, "messages": told.messages()} | found.body | _parameters(top, caps, drop)
    body |= to.streamed() if ask.stream else {}
    return Translation(
        ask.with_body("openai_chat", body),
        reply.Reader(names, found.stand_in, caps.family, drop),
        write.Stream(ask.model),
        partial(write.Whole, ask.model),
    )


def _tools(top: Members, names: Names, caps: Caps, drop: Drop) -> to.Output:
    """The tools, the choice among them, and the answer's format, which may need one of them."""
    wanted = options.tools(top, drop)
    offered = []
    for tool in wanted.offered:
        made = to.function(names.alias(tool.name), tool.description, tool.schema, f"{tool.at}/input_schema")
        if tool.strict:
            to.make_strict(made, caps, drop, f"{tool.at}/strict")
        if tool.ttl is not None:
            drop(f"{tool.at}/cache_control")
        offered.append(made)
    choice = to.Choice(wanted.mode, names.alias(wanted.name) if wanted.name else "", wanted.parallel)
    format_ = options.format_(top, drop)
    schema = None if format_ is None else to.Format(format_.schema, path=f"{format_.at}/schema")
    return to.output(schema, offered, choice, caps, drop)


def _parameters(top: Members, caps: Caps, drop: Drop) -> Block:
    asked = decided.allowed_limit(options.limit(top), caps, drop, "/max_tokens")
    wish = options.wish(top, caps, drop)
    thought = decided.thought(wish, asked, caps, drop, unsigned_loop=False)
    if options.effort_alone(top, wish, caps, drop):  # Chat's effort would make a Claude think
        drop("/output_config/effort")
    sampled = decided.sampling(options.sampling(top), caps, drop, thinks=thought.is_claudes)
    limit = decided.output_limit(asked, thought, caps, demanded=False)
    stops = decided.stops(options.stops(top), caps, drop, "/stop_sequences")
    tier = options.service_tier(top)
    return {
        **to.limit(limit, caps),
        **to.effort(thought, caps),
        **to.sampling(sampled, drop),
        **to.stops(stops, drop, "/stop_sequences"),
        **({"service_tier": tier} if tier else {}),
    }
