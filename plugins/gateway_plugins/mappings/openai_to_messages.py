"""A request of OpenAI's (`dialects/openai/values.py`) as the body of the Messages API.

The body that leaves is the Messages API's own; what an envelope takes or moves (Bedrock's version, model and stream) is
that flag's. How messages become turns is in `openai_to_turns.py` and `dialects/anthropic_messages/demand.py`; here
stand the other members. Sources: the API references of both; bedrock.md 3.2 and 3.3.

Structured output is native where the model has it. Elsewhere a JSON schema becomes a tool that must be called and
whose input is the answer; where no tool can be demanded (and for `json_object`) the system prompt asks for it, and
the field is reported.
"""

from __future__ import annotations

from gateway.contract.flag import Caps, Drop, Target
from gateway_plugins.dialects.anthropic_messages import demand as messages_demand
from gateway_plugins.dialects.anthropic_messages import settings as messages_settings
from gateway_plugins.dialects.anthropic_messages.demand import CacheBreakpoints
from gateway_plugins.dialects.anthropic_messages.settings import Body
from gateway_plugins.dialects.anthropic_messages.tools import choose, make_strict, output, tool
from gateway_plugins.dialects.bedrock_converse.tools import Choice
from gateway_plugins.dialects.openai.values import ConvertedRequest, Format, OpenAIRequest, Tools
from gateway_plugins.dialects.openai_chat.options import Format as Schema
from gateway_plugins.dialects.openai_chat.options import Output
from gateway_plugins.mappings.openai_to_turns import Mapper
from gateway_plugins.shared import settings
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import Block


def request(asked: OpenAIRequest, target: Target, drop: Drop, *, stream: bool) -> ConvertedRequest:
    """Raises `Refused` for what the model cannot be asked."""
    caps = target.caps
    names, marks = Names(), CacheBreakpoints(caps, drop)
    body: Body = {"model": target.model}
    system, turns = Mapper(caps, names, marks, drop).read(asked.messages)
    native = asked.format.kind == "json_schema" and caps.json_schema
    prefill = caps.prefill and not asked.thinking.on and caps.reasoning != "always" and not native
    body["messages"] = messages = messages_demand.arrange(turns, caps, drop, prefill=prefill)
    limit = settings.allowed_limit(asked.limit, caps, drop, asked.limit_at)
    thought = settings.plan_thinking(
        asked.thinking, limit, caps, drop, unsigned_loop=messages_demand.is_unsigned_loop(messages)
    )
    body["max_tokens"] = settings.output_limit(limit, thought, caps, demanded=True)
    thinks = thought.is_anthropic or caps.reasoning == "always"
    tools, wanted = _tools(asked.tools, caps, names, marks, drop), asked.tools
    choice = Choice(wanted.mode, names.alias(wanted.name) if wanted.name else "", wanted.parallel, wanted.path)
    chosen = choose(tools, choice, messages, caps, drop, thinks=thinks)
    format_ = _output(asked.format, chosen, caps, drop, thinks=thinks)
    for offered in format_.body.get("tools", ()) if caps.plain_properties else ():
        offered["input_schema"] = names.plain_schema(offered["input_schema"])
    body |= messages_settings.merge(messages_settings.thinking(thought), format_.body)
    system += [messages_demand.text(format_.hint)] if format_.hint else []
    if system:
        body["system"] = system
    marks.put(asked.ttl, messages[-1]["content"], "messages", "/cache_control")
    marks.limit()
    body |= settings.supported_sampling(asked.sampling, caps, drop, thinks=thinks)
    # Bedrock's words for the tier; its envelope takes them out of the body, and another drops them
    more = {"stop_sequences": settings.supported_stops(asked.stops, caps, drop, "/stop"), "service_tier": asked.tier}
    body |= {name: value for name, value in more.items() if value}
    if stream:
        body["stream"] = True
    return ConvertedRequest(body, names, format_.schema_tool)


def _tools(wanted: Tools, caps: Caps, names: Names, marks: CacheBreakpoints, drop: Drop) -> list[Block]:
    tools = []
    for offered in wanted.offered:
        made = tool(names.alias(offered.name), offered.description, offered.schema, offered.schema_at)
        if offered.strict:
            make_strict(made, caps, drop, offered.strict_at, offered.schema_at)
        marks.put(offered.ttl, [made], "tools", f"{offered.at}/cache_control")
        tools.append(made)
    return tools


def _output(wanted: Format, chosen: Body, caps: Caps, drop: Drop, *, thinks: bool) -> Output:
    if wanted.kind == "json_object":
        drop(wanted.at)
        return Output(chosen, hint=settings.JSON_HINT)
    format_ = None
    if wanted.kind == "json_schema":
        format_ = Schema(wanted.schema, wanted.name, wanted.description, path=wanted.at)
    return output(format_, chosen, caps, drop, thinks=thinks, schema_at=wanted.schema_at)
