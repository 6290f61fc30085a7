"""Mapping of a plain request (`shared/plain_request.py`) to the body of a Messages request.

- The body is written for Anthropic's own Messages API. Other APIs, such as Bedrock's InvokeModel, have the same body
  except for a few fields (version, model and stream). The provider's plugin changes these fields.
- Messages are mapped in `plain_to_turns.py`. The other fields are mapped here.
- The Messages API has no format `json_object`. The system prompt asks for JSON instead, and the format is reported as
  dropped.

Sources: OpenAI's and Anthropic's API references.
"""

from __future__ import annotations

from gateway.contract.flag import Caps, Drop, Target
from gateway_plugins.dialects.anthropic_messages import demand as messages_demand
from gateway_plugins.dialects.anthropic_messages import settings as messages_settings
from gateway_plugins.dialects.anthropic_messages import tools as messages_tools
from gateway_plugins.dialects.anthropic_messages.demand import CacheBreakpoints
from gateway_plugins.dialects.anthropic_messages.settings import Body
from gateway_plugins.mappings import converse_on_invoke
from gateway_plugins.mappings.plain_to_turns import Mapper
from gateway_plugins.shared import settings
from gateway_plugins.shared.output_format import JSON_HINT, FormattedOutput
from gateway_plugins.shared.plain_request import ConvertedRequest, Format, PlainRequest
from gateway_plugins.shared.reasoning import Maker
from gateway_plugins.shared.tools import Names


def convert(request: PlainRequest, target: Target, drop: Drop, *, stream: bool) -> ConvertedRequest:
    """Return the body of the Messages request. Raises `Refused` for a request that the model cannot serve."""
    for name in request.chat_members:
        drop(request.chat_member_at(name))
    caps, parameters = target.caps, request.parameters
    names, breakpoints = Names(), CacheBreakpoints(caps, drop)
    body: Body = {"model": target.model}
    system, turns = Mapper(caps, Maker.of(target), names, breakpoints, drop).read(request.messages)
    is_native = request.format.json is not None and caps.json_schema
    prefill = caps.prefill and not parameters.thinking.is_wanted and caps.reasoning != "always" and not is_native
    body["messages"] = messages = messages_demand.arrange(turns, caps, drop, prefill=prefill)
    loop = messages_demand.is_unsigned_loop(messages)
    planned = settings.plan(parameters, caps, messages_settings.RULES, drop, unsigned_loop=loop)
    body["max_tokens"] = planned.limit
    tools = messages_tools.build_tools(request.tools.tools, names, breakpoints, caps, drop)
    choice = request.tools.choice.renamed(names)
    chosen = messages_tools.choose(tools, choice, messages, caps, drop, thinks=planned.thinks)
    output = _output(request.format, chosen, caps, drop, thinks=planned.thinks)
    for tool in output.body.get("tools", ()) if caps.plain_properties else ():
        tool["input_schema"] = names.plain_schema(tool["input_schema"])
    body |= messages_settings.merge(messages_settings.thinking(planned.thinking), output.body)
    system += [messages_demand.text(output.hint)] if output.hint else []
    if system:
        body["system"] = system
    breakpoints.put(request.ttl, messages[-1]["content"], "messages", "/cache_control")
    breakpoints.limit()
    decided = settings.decide(parameters, caps, messages_settings.RULES, drop, planned=planned)
    body |= decided.sampling
    # the tier has Bedrock's name, and Bedrock's envelope moves it to a header
    if request.tier and not converse_on_invoke.has_headers(target):
        drop(request.tier_at)
    tier = request.tier if converse_on_invoke.has_headers(target) else ""
    more = {"stop_sequences": decided.stops, "service_tier": tier}
    body |= {name: value for name, value in more.items() if value}
    if stream:
        body["stream"] = True
    return ConvertedRequest(body, names, output.schema_tool)


def _output(wanted: Format, chosen: Body, caps: Caps, drop: Drop, *, thinks: bool) -> FormattedOutput:
    if wanted.kind == "json_object":
        drop(wanted.at)
        return FormattedOutput(chosen, hint=JSON_HINT)
    return messages_tools.build_output(wanted.json, chosen, caps, drop, thinks=thinks)
