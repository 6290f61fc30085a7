"""Bedrock Converse to OpenAI Chat Completions, and the replies back.

How messages become Chat's is in `mappings/converse_to_chat.py` and `dialects/openai_chat/demand.py`, how parameters are
said there in `dialects/openai_chat/options.py`; here stand the members of a Converse request and what becomes of each.
Sources: botocore's service model, OpenAI's API reference, bedrock.md 3.2 and 3.3.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from gateway.contract.errors import invalid
from gateway.contract.flag import ClientRequest, Drop, Target, Translation
from gateway_plugins.dialects.bedrock_converse import read_options as converse_read_options
from gateway_plugins.dialects.bedrock_converse.emit import FIELD_PATHS, Stream, Wanted, Whole
from gateway_plugins.dialects.bedrock_converse.read_options import EXTRAS
from gateway_plugins.dialects.openai_chat import options as chat_options
from gateway_plugins.dialects.openai_chat.options import Choice
from gateway_plugins.dialects.openai_chat.walk import Reader
from gateway_plugins.mappings.converse_to_chat import Reader as Messages
from gateway_plugins.shared import reply_events, settings
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import Block

api = 1
operations = ("generate",)

_CARRIED: Final = frozenset({
    "frequency_penalty", "logit_bias", "parallel_tool_calls", "presence_penalty", "prompt_cache_key",
    "safety_identifier", "seed", "user", "verbosity",
})  # fmt: skip
"""Members of Chat that clients of Converse send as extra fields to OpenAI's models and the like."""
_TIERS: Final = ("default", "flex", "priority")


def open(ask: ClientRequest, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's name)
    names = Names()
    body, schema_tool = _body(ask, target, names, drop)
    wanted = Wanted(converse_read_options.field_paths(ask.top, FIELD_PATHS, drop))
    reader = Reader(names, schema_tool, target.caps.family, drop)
    return reply_events.Translation(ask.with_body("openai_chat", body), reader, Stream(wanted), partial(Whole, wanted))


def _body(ask: ClientRequest, target: Target, names: Names, drop: Drop) -> tuple[Block, str]:
    """The Chat body, and the name of the function that stands in for a format, "" if none does."""
    top, caps = ask.top, target.caps
    converse_read_options.refuse_unservable(top)
    converse_read_options.refuse_guardrail(top, drop)
    converse_read_options.leftovers(top, drop)
    extra = _extras(converse_read_options.extras(top), drop)
    _report(ask, drop)
    config = converse_read_options.config(top, drop)
    messages = Messages(caps, names, drop)
    told = messages.read(top)
    limit = settings.allowed_limit(converse_read_options.limit(config), caps, drop, "/inferenceConfig/maxTokens")
    wish = converse_read_options.wish(top, extra, drop)
    thought = settings.plan_thinking(wish, limit, caps, drop, unsigned_loop=False)
    offered, choice = _tools(ask, extra, messages, drop)
    output = chat_options.output(converse_read_options.output_format(top, extra, drop), offered, choice, caps, drop)
    if output.hint:
        told.system(output.hint)
    sampling = converse_read_options.sampling(config, extra)
    sampled = settings.supported_sampling(sampling.values, caps, drop, thinks=thought.is_anthropic, at=sampling.at)
    stops_at = "/inferenceConfig/stopSequences"
    stops = settings.supported_stops(converse_read_options.stops(config), caps, drop, stops_at)
    body: Block = {"model": target.model, "messages": told.messages()}
    body |= {name: value for name, value in extra.items() if name in _CARRIED}
    body |= chat_options.limit(settings.output_limit(limit, thought, caps, demanded=False), caps)
    body |= chat_options.effort(thought, caps) | chat_options.sampling(sampled, drop, sampling.at["top_k"])
    body |= chat_options.stops(stops, drop, stops_at) | output.body | _tier(ask, drop)
    return body | (chat_options.stream_members() if ask.stream else {}), output.schema_tool


def _extras(extra: dict[str, Any], drop: Drop) -> dict[str, Any]:
    """The extra fields, without those that nobody reads. Raises `Refused` for tools, which the model could not call."""
    if extra.get("tools"):
        field = f"{EXTRAS[1:]}.tools"
        raise invalid(f"{field}: these tools are Anthropic's own; leave them out, or use a Claude model", field)
    converse_read_options.report_extras(extra, _CARRIED, drop)
    for index, _ in enumerate(converse_read_options.betas(extra)):
        drop(f"{EXTRAS}/anthropic_beta/{index}")
    return extra


def _report(ask: ClientRequest, drop: Drop) -> None:
    """What Chat has no word for, and what answers well without."""
    if converse_read_options.metadata(ask.top):
        drop("/requestMetadata")
    if converse_read_options.latency(ask.top, drop) == "optimized":
        drop("/performanceConfig")
    if converse_read_options.project(ask.top) not in {"", "default"}:
        drop("/projectIdentifier")


def _tier(ask: ClientRequest, drop: Drop) -> Block:
    tier = converse_read_options.service_tier(ask.top, drop)
    if tier in _TIERS:
        return {"service_tier": tier}
    if tier:
        drop("/serviceTier")
    return {}


def _tools(ask: ClientRequest, extra: dict[str, Any], messages: Messages, drop: Drop) -> tuple[list[Block], Choice]:
    """The functions, without those that the conversation has taken away, and the choice among them."""
    given = [tool for tool in converse_read_options.tools(ask.top, drop) if tool.name not in messages.removed]
    choice = converse_read_options.choice(ask.top, extra)
    converse_read_options.check_choice(choice, given)
    offered = []
    for tool in given:
        made = chat_options.function(
            messages.names.alias(tool.name), tool.description, tool.schema, f"{tool.at}/inputSchema/json"
        )
        if tool.strict:
            chat_options.make_strict(made, messages.caps, drop, f"{tool.at}/strict")
        if tool.ttl is not None:
            drop(tool.marked_at)
        offered.append(made)
    name = messages.names.alias(choice.name) if choice.name else ""
    return offered, Choice(choice.mode, name, choice.parallel, choice.path)
