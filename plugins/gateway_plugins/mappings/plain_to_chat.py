"""Mapping of a plain request (`shared/plain_request.py`) to the body of a Chat Completions request.

The mapping serves clients of Responses and generateContent. A Chat client's request to a Chat provider is not
converted.

Rules for every request to Chat are in `dialects/openai_chat/demand.py` and `dialects/openai_chat/options.py`. Source:
OpenAI's API reference (Chat, Migrate to Responses).
"""

from __future__ import annotations

from gateway.contract.flag import Drop, Target
from gateway_plugins.dialects.openai_chat import options as chat_options
from gateway_plugins.dialects.openai_chat.demand import Conversation
from gateway_plugins.mappings.plain_to_conversation import add_message
from gateway_plugins.shared import settings
from gateway_plugins.shared.plain_request import ConvertedRequest, PlainRequest
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import Block


def convert(request: PlainRequest, target: Target, drop: Drop, *, stream: bool) -> ConvertedRequest:
    """Return the body of the Chat request. Raises `Refused` for a request that the model cannot serve."""
    caps, names = target.caps, Names()
    conversation = Conversation(target, drop, glue="\n\n")
    for message in request.messages:
        add_message(message, conversation, names, drop)
    choice = request.tools.choice.renamed(names)
    functions = chat_options.build_tools(request.tools.tools, names, caps, drop)
    planned = settings.plan(request.parameters, caps, chat_options.RULES, drop)
    able = settings.caps_beside(caps, planned)
    output = chat_options.build_output(request.format.json, functions, choice, able, drop)
    conversation.hint(output.hint)
    decided = settings.decide(request.parameters, caps, chat_options.RULES, drop, planned=planned)
    body: Block = {"model": target.model, "messages": conversation.messages()} | output.body
    body |= chat_options.parameters(decided, caps, drop, stops_at=request.parameters.stops_at)
    body |= chat_options.penalties(request.chat_members, request.chat_member_at, caps, drop)
    if request.tier:
        body["service_tier"] = request.tier
    if request.format.kind == "json_object":
        body["response_format"] = {"type": "json_object"}
    return ConvertedRequest(body | (chat_options.stream_members() if stream else {}), names, output.schema_tool)
