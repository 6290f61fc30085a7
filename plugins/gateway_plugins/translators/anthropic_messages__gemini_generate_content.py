"""Translation of Anthropic Messages requests to Gemini's generateContent, and of the replies back.

This file maps the fields of a request. Messages are mapped in `mappings/messages_to_conversation.py`. Rules for every
request to Gemini are in `dialects/gemini_generate_content/demand.py` (the field `contents`) and in
`dialects/gemini_generate_content/options.py` (tools and parameters). Sources: Anthropic's and Google's API references.
"""

from __future__ import annotations

from functools import partial

from gateway.contract.flag import Caps, ClientRequest, Drop, Members, Target
from gateway_plugins.dialects.anthropic_messages import betas as messages_betas
from gateway_plugins.dialects.anthropic_messages import emit as messages_emit
from gateway_plugins.dialects.anthropic_messages import read_options as messages_read_options
from gateway_plugins.dialects.gemini_generate_content import options as gemini_options
from gateway_plugins.dialects.gemini_generate_content import walk as gemini_walk
from gateway_plugins.dialects.gemini_generate_content.demand import Conversation
from gateway_plugins.dialects.gemini_generate_content.models import Generation, generation
from gateway_plugins.mappings.messages_to_conversation import Mapper
from gateway_plugins.shared.inline_reasoning import reply_reader
from gateway_plugins.shared.output_format import FormattedOutput
from gateway_plugins.shared.reply_events import Translation
from gateway_plugins.shared.settings import caps_beside
from gateway_plugins.shared.tools import Names

api = 1
operations = ("generate", "count_tokens")


def open(request: ClientRequest, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's name)
    top, caps = request.top, target.caps
    rules, names = generation(target.model), gemini_options.function_names()
    messages_read_options.leftovers(top, drop)
    for beta in messages_betas.request_betas(request):
        drop(f"/{messages_betas.HEADER}/{beta}")
    conversation = Conversation(target, drop)
    Mapper(names, drop).add_messages(top, conversation)
    requested = messages_read_options.parameters(top, caps, drop)
    planned = gemini_options.plan(requested, caps, rules, drop)
    output = _output(top, names, caps_beside(caps, planned), rules, drop)
    conversation.hint(output.hint)
    if messages_read_options.ttl(top, drop) is not None:
        drop("/cache_control")
    body = gemini_options.merge(
        conversation.members(),
        output.body,
        gemini_options.parameters(requested, planned, caps, rules, drop),
        {"serviceTier": messages_read_options.service_tier(top)},
    )
    return Translation(
        request.with_body("gemini_generate_content", gemini_options.for_operation(body, request.operation)),
        reply_reader(gemini_walk.Reader, names, output.schema_tool, target, drop),
        messages_emit.Stream(request.model, messages_emit.prompt_estimate(request)),
        partial(messages_emit.Whole, request.model),
    )


def _output(top: Members, names: Names, caps: Caps, rules: Generation, drop: Drop) -> FormattedOutput:
    """Return the fields for the tools, the tool choice and the answer's format."""
    offered = messages_read_options.tools(top, drop)
    wanted = messages_read_options.output_format(top, drop)
    return gemini_options.build_output(wanted, offered, names, caps, rules, drop)
