"""Bedrock Converse to OpenAI Chat Completions, and the replies back.

How messages become Chat's is in `converse_to_chat.py` and `to_openai_chat.py`, how parameters are said
there in `openai_chat_options.py`; here stand the members of a Converse request and what becomes of each.
Sources: botocore's service model, OpenAI's API reference, bedrock.md 3.2 and 3.3.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from gateway.errors import invalid
from gateway.flag import Ask, Drop, Target, Translation
from gateway_plugins.parts.replies import verbs as replies
from gateway_plugins.parts.replies.emit_bedrock_converse import FIELD_PATHS, Stream, Wanted, Whole
from gateway_plugins.parts.replies.walk_openai_chat import Reader
from gateway_plugins.parts.requests import openai_chat_options as chat
from gateway_plugins.parts.requests import read_converse_options as options
from gateway_plugins.parts.requests import settings as decided
from gateway_plugins.parts.requests.converse_to_chat import Reader as Messages
from gateway_plugins.parts.requests.openai_chat_options import Choice
from gateway_plugins.parts.requests.read_converse_options import EXTRAS
from gateway_plugins.parts.requests.turns import Block
from gateway_plugins.parts.tools import Names

api = 1
operations = ("generate",)

_CARRIED: Final = frozenset({
    "frequency_penalty", "logit_bias", "parallel_tool_calls", "presence_penalty", "prompt_cache_key",
    "safety_identifier", "seed", "user", "verbosity",
})  # fmt: skip
"""Members of Chat that clients of Converse send as extra fields to OpenAI's models and the like."""
_TIERS: Final = ("default", "flex", "priority")


def open(ask: Ask, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's name)
    names = Names()
    body, stand_in = _body(ask, target, names, drop)
    wanted = Wanted(options.field_paths(ask.top, FIELD_PATHS, drop))
    reader = Reader(names, stand_in, target.caps.family, drop)
    return replies.Translation(ask.with_body("openai_chat", body), reader, Stream(wanted), partial(Whole, wanted))


def _body(ask: Ask, target: Target, names: Names, drop: Drop) -> tuple[Block, str]:
    """The Chat body, and the name of the function that stands in for a format, "" if none does."""
    top, caps = ask.top, target.caps
    options.refuse_unservable(top)
    options.refuse_guardrail(top, drop)
    options.leftovers(top, drop)
    extra = _extras(options.extras(top), drop)
    _report(ask, drop)
    config = options.config(top, drop)
    messages = Messages(caps, names, drop)
    told = messages.read(top)
    limit = decided.allowed_limit(options.limit(config), caps, drop, "/inferenceConfig/maxTokens")
    wish = options.wish(top, extra, drop)
    thought = decided.thought(wish, limit, caps, drop, unsigned_loop=False)
    offered, choice = _tools(ask, extra, messages, drop)
    output = chat.output(options.output_format(top, extra, drop), offered, choice, caps, drop)
    if output.hint:
        told.system(output.hint)
    sampling = options.sampling(config, extra)
    sampled = decided.sampling(sampling.values, caps, drop, thinks=thought.is_claudes, at=sampling.at)
    stops_at = "/inferenceConfig/stopSequences"
    stops = decided.stops(options.stops(config), caps, drop, stops_at)
    body: Block = {"model": target.model, "messages": told.messages()}
    body |= {name: value for name, value in extra.items() if name in _CARRIED}
    body |= chat.limit(decided.output_limit(limit, thought, caps, demanded=False), caps)
    body |= chat.effort(thought, caps) | chat.sampling(sampled, drop, sampling.at["top_k"])
    body |= chat.stops(stops, drop, stops_at) | output.body | _tier(ask, drop)
    return body | (chat.streamed() if ask.stream else {}), output.stand_in


def _extras(extra: dict[str, Any], drop: Drop) -> dict[str, Any]:
    """The extra fields, without those that nobody reads. Raises `Refused` for tools, which the model could not call."""
    if extra.get("tools"):
        field = f"{EXTRAS[1:]}.tools"
        raise invalid(f"{field}: these tools are Anthropic's own; leave them out, or use a Claude model", field)
    options.report_extras(extra, _CARRIED, drop)
    for index, _ in enumerate(options.betas(extra)):
        drop(f"{EXTRAS}/anthropic_beta/{index}")
    return extra


def _report(ask: Ask, drop: Drop) -> None:
    """What Chat has no word for, and what answers well without."""
    if options.metadata(ask.top):
        drop("/requestMetadata")
    if options.latency(ask.top, drop) == "optimized":
        drop("/performanceConfig")
    if options.project(ask.top) not in {"", "default"}:
        drop("/projectIdentifier")


def _tier(ask: Ask, drop: Drop) -> Block:
    tier = options.service_tier(ask.top, drop)
    if tier in _TIERS:
        return {"service_tier": tier}
    if tier:
        drop("/serviceTier")
    return {}


def _tools(ask: Ask, extra: dict[str, Any], messages: Messages, drop: Drop) -> tuple[list[Block], Choice]:
    """The functions, without those that the conversation has taken away, and the choice among them."""
    given = [tool for tool in options.tools(ask.top, drop) if tool.name not in messages.removed]
    choice = options.choice(ask.top, extra)
    options.check_choice(choice, given)
    offered = []
    for tool in given:
        made = chat.function(
            messages.names.alias(tool.name), tool.description, tool.schema, f"{tool.at}/inputSchema/json"
        )
        if tool.strict:
            chat.make_strict(made, messages.caps, drop, f"{tool.at}/strict")
        if tool.ttl is not None:
            drop(tool.marked_at)
        offered.append(made)
    name = messages.names.alias(choice.name) if choice.name else ""
    return offered, Choice(choice.mode, name, choice.parallel, choice.path)
