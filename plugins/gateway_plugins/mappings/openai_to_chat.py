"""Mapping of a plain request (`shared/plain_request.py`) to the body of a Chat Completions request.

This mapping is not used for requests of Chat, which are sent to Chat without a conversion.
Rules for every request to Chat are in `dialects/openai_chat/demand.py` and `dialects/openai_chat/options.py`. Source:
OpenAI's API reference (Chat, Migrate to Responses).
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.contract.flag import Caps, Drop, Target
from gateway_plugins.dialects.openai_chat import options as chat_options
from gateway_plugins.dialects.openai_chat.assistant import Call as ChatCall
from gateway_plugins.dialects.openai_chat.assistant import Piece
from gateway_plugins.dialects.openai_chat.demand import Conversation, media_part, text
from gateway_plugins.shared import settings
from gateway_plugins.shared.fields import param
from gateway_plugins.shared.plain_request import Call, ConvertedRequest, Message, Part, PlainRequest
from gateway_plugins.shared.reasoning import Reasoning
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import Block


def convert(request: PlainRequest, target: Target, drop: Drop, *, stream: bool) -> ConvertedRequest:
    """Return the body of the Chat request. Raises `Refused` for a request that the model cannot serve."""
    caps, names = target.caps, Names()
    conversation = Conversation(target, drop)
    for message in request.messages:
        _add_message(message, conversation, names, caps)
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


def _add_message(message: Message, conversation: Conversation, names: Names, caps: Caps) -> None:
    parts = [part for part in message.content if isinstance(part, Part)]
    if message.role == "system":
        conversation.system("\n\n".join(part.text for part in parts))
    elif message.role == "assistant":
        pieces = [_piece(part, names) for part in message.content]
        conversation.assistant(pieces, message.at, glue="\n\n")
    elif message.role == "tool":
        conversation.result(message.call_id, _parts(parts, caps), message.call_at, is_error=message.is_error)
    else:
        conversation.user(_parts(parts, caps))


def _parts(parts: Sequence[Part], caps: Caps) -> list[Block]:
    return [text(part.text) if part.media is None else media_part(part.media, caps, param(part.at)) for part in parts]


def _piece(part: Part | Call | Reasoning, names: Names) -> Piece:
    if isinstance(part, Part):
        return part.text
    return ChatCall(part.id, names.alias(part.name or "unnamed"), part.input) if isinstance(part, Call) else part
