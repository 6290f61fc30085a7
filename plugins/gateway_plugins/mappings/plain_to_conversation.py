"""Mapping of the messages of a plain request to a `Conversation`, for providers of Chat and of Gemini.

Plain requests are defined in `shared/plain_request.py`, and conversations in `shared/conversation.py`. The
`Conversation` applies the provider's rules for the sequence of messages. Cache breakpoints are reported as dropped,
because providers with the dialect of Chat or Gemini cache by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.contract.flag import Drop
from gateway_plugins.shared.conversation import Call as ConversationCall
from gateway_plugins.shared.conversation import Conversation, Piece
from gateway_plugins.shared.fields import param
from gateway_plugins.shared.plain_request import Call, Message, Part
from gateway_plugins.shared.reasoning import Reasoning
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import Block


def add_message(message: Message, conversation: Conversation, names: Names, drop: Drop) -> None:
    """Add a message to the conversation."""
    _report_breakpoints(message, drop)
    parts = [part for part in message.content if isinstance(part, Part)]
    if message.role == "system":
        conversation.system("\n\n".join(part.text for part in parts))
    elif message.role == "assistant":
        conversation.assistant([_piece(part, names) for part in message.content], message.at)
    elif message.role == "tool":
        result = _parts(parts, conversation)
        conversation.result(message.call_id, result, message.call_at, is_error=message.is_error)
    else:
        conversation.user(_parts(parts, conversation))


def _report_breakpoints(message: Message, drop: Drop) -> None:
    for part in message.content:
        if not isinstance(part, Reasoning) and part.ttl is not None:
            drop(part.ttl_at)
    if message.ttl is not None:
        drop(message.ttl_at)


def _parts(parts: Sequence[Part], conversation: Conversation) -> list[Block]:
    made: list[Block] = []
    for part in parts:
        if part.media is None:
            made.append(conversation.text(part.text))
        else:
            made += conversation.file(part.media, param(part.at))
    return made


def _piece(part: Part | Call | Reasoning, names: Names) -> Piece:
    if isinstance(part, Call):
        return ConversationCall(part.id, names.alias(part.name or "unnamed"), part.input)
    return part.text if isinstance(part, Part) else part
