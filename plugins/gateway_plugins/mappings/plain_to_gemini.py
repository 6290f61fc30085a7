"""Mapping of a plain request (`shared/plain_request.py`) to the body of a Gemini request.

Rules for every request to Gemini are in `dialects/gemini_generate_content/demand.py` (the field `contents`) and in
`dialects/gemini_generate_content/options.py` (tools and parameters). Source: Google's API reference (GenerateContent).
"""

from __future__ import annotations

from gateway.contract.flag import Caps, Drop, Target
from gateway_plugins.dialects.gemini_generate_content import options as gemini_options
from gateway_plugins.dialects.gemini_generate_content.demand import Conversation
from gateway_plugins.dialects.gemini_generate_content.models import Generation, generation
from gateway_plugins.mappings.plain_to_conversation import add_message
from gateway_plugins.shared.guardrail import unguarded
from gateway_plugins.shared.output_format import FormattedOutput
from gateway_plugins.shared.plain_request import ConvertedRequest, PlainRequest
from gateway_plugins.shared.settings import caps_beside
from gateway_plugins.shared.tools import Names


def convert(request: PlainRequest, target: Target, drop: Drop, *, stream: bool) -> ConvertedRequest:  # noqa: ARG001
    """Return the body of the Gemini request. Raises `Refused` for a request that the model cannot serve."""
    caps, rules, names = target.caps, generation(target.model), gemini_options.function_names()
    if request.guardrail:
        raise unguarded()
    conversation = Conversation(target, drop)
    for message in request.messages:
        add_message(message, conversation, names, drop)
    if request.ttl is not None:
        drop("/cache_control")
    planned = gemini_options.plan(request.parameters, caps, rules, drop)
    output = _output(request, names, caps_beside(caps, planned), rules, drop)
    conversation.hint(output.hint)
    body = gemini_options.merge(
        conversation.members(),
        output.body,
        gemini_options.parameters(request.parameters, planned, caps, rules, drop),
        gemini_options.penalties(request.chat_members, request.chat_member_at, caps, drop),
        {"serviceTier": request.tier},
    )
    return ConvertedRequest(body, names, output.schema_tool)


def _output(request: PlainRequest, names: Names, caps: Caps, rules: Generation, drop: Drop) -> FormattedOutput:
    """Return the fields for the functions, the tool choice and the answer's format."""
    wanted = request.format
    output = gemini_options.build_output(wanted.json, request.tools, names, caps, rules, drop)
    if wanted.kind != "json_object":
        return output
    plain = gemini_options.json_object(wanted.at, request.tools, rules, drop)
    return FormattedOutput(gemini_options.merge(output.body, plain.body), hint=plain.hint)
