"""Translation of Google's generateContent requests to Anthropic Messages, and of the replies back."""

from __future__ import annotations

from gateway.contract.flag import ClientRequest, Drop, Target, Translation
from gateway_plugins.dialects.anthropic_messages import walk as messages_walk
from gateway_plugins.mappings import from_gemini, plain_to_messages

api = 1
operations = ("generate",)


def open(request: ClientRequest, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's name)
    return from_gemini.translate(
        request,
        target,
        drop,
        upstream="anthropic_messages",
        convert=plain_to_messages.convert,
        read_reply=messages_walk.Reader,
    )
