"""Translation of Bedrock Converse requests to Gemini's generateContent, and of the replies back.

This file maps the fields of a request. Messages are mapped in `mappings/converse_to_conversation.py`. Rules for every
request to Gemini are in `dialects/gemini_generate_content/demand.py` (the field `contents`) and in
`dialects/gemini_generate_content/options.py` (tools and parameters). Sources: botocore's service model, Google's API
reference.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from gateway.contract.flag import Caps, ClientRequest, Drop, Target, Translation
from gateway_plugins.dialects.bedrock_converse import emit as converse_emit
from gateway_plugins.dialects.bedrock_converse import read_options as converse_read_options
from gateway_plugins.dialects.bedrock_converse.read_options import EXTRAS
from gateway_plugins.dialects.gemini_generate_content import options as gemini_options
from gateway_plugins.dialects.gemini_generate_content import walk as gemini_walk
from gateway_plugins.dialects.gemini_generate_content.demand import Conversation
from gateway_plugins.dialects.gemini_generate_content.models import Generation, generation
from gateway_plugins.mappings.converse_to_conversation import Mapper
from gateway_plugins.shared import reply_events
from gateway_plugins.shared.inline_reasoning import reply_reader
from gateway_plugins.shared.offered_tools import offer
from gateway_plugins.shared.output_format import FormattedOutput
from gateway_plugins.shared.settings import caps_beside
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import Block

api = 1
operations = ("generate", "count_tokens")

_TIERS: Final = ("flex", "priority")


def open(request: ClientRequest, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's name)
    names = gemini_options.function_names()
    body, schema_tool = _body(request, target, names, drop)
    options = converse_emit.ReplyOptions(
        converse_read_options.field_paths(request.top, converse_emit.FIELD_PATHS, drop)
    )
    return reply_events.Translation(
        request.with_body("gemini_generate_content", gemini_options.for_operation(body, request.operation)),
        reply_reader(gemini_walk.Reader, names, schema_tool, target, drop),
        converse_emit.Stream(options),
        partial(converse_emit.Whole, options),
    )


def _body(request: ClientRequest, target: Target, names: Names, drop: Drop) -> tuple[Block, str]:
    """Return the body of the Gemini request, and the name of the schema tool.

    The schema tool is a tool whose input is the answer, so that the answer has the requested format. Its name is "" if
    there is none.
    """
    top, caps, rules = request.top, target.caps, generation(target.model)
    converse_read_options.refuse_unservable(top)
    converse_read_options.refuse_guardrail(top, drop)
    converse_read_options.leftovers(top, drop)
    extra = converse_read_options.extras(top)
    converse_read_options.check_extras(extra, gemini_options.CHAT_NUMBERS, drop)
    converse_read_options.report_settings(top, drop)
    conversation = Conversation(target, drop)
    mapper = Mapper(conversation, names, drop)
    mapper.add_messages(top)
    requested = converse_read_options.parameters(top, extra, drop)
    planned = gemini_options.plan(requested, caps, rules, drop)
    output = _output(request, extra, mapper, caps_beside(caps, planned), rules, drop)
    conversation.hint(output.hint)
    carried = {name: value for name, value in extra.items() if name in gemini_options.CHAT_NUMBERS}
    body = gemini_options.merge(
        conversation.members(),
        output.body,
        gemini_options.parameters(requested, planned, caps, rules, drop),
        gemini_options.penalties(carried, f"{EXTRAS}/{{}}".format, caps, drop),
        _tier(request, drop),
    )
    return body, output.schema_tool


def _tier(request: ClientRequest, drop: Drop) -> Block:
    tier = converse_read_options.service_tier(request.top, drop)
    if tier not in {"", "default", *_TIERS}:
        drop("/serviceTier")
    return {"serviceTier": tier} if tier in _TIERS else {}


def _output(
    request: ClientRequest, extra: dict[str, Any], mapper: Mapper, caps: Caps, rules: Generation, drop: Drop
) -> FormattedOutput:
    """Return the fields for the tools, the tool choice and the answer's format.

    A tool is left out if a message of the conversation removes it (`Mapper.removed`).
    """
    tools = [tool for tool in converse_read_options.tools(request.top, drop) if tool.name not in mapper.removed]
    offered = offer(tools, converse_read_options.choice(request.top, extra))
    wanted = converse_read_options.output_format(request.top, extra, drop)
    return gemini_options.build_output(wanted, offered, mapper.names, caps, rules, drop)
