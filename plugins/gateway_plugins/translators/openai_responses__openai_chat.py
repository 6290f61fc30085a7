"""Translation of OpenAI Responses requests to OpenAI Chat Completions, and of the replies back."""

from __future__ import annotations

from gateway.contract.flag import ClientRequest, Drop, Target, Translation
from gateway_plugins.dialects.openai_chat import walk as chat_walk
from gateway_plugins.mappings import from_responses, plain_to_chat

api = 1
operations = ("generate",)


def open(request: ClientRequest, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's name)
    return from_responses.translate(
        request,
        target,
        drop,
        upstream="openai_chat",
        convert=plain_to_chat.convert,
        read_reply=chat_walk.Reader,
    )
