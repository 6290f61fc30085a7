"""Translation of OpenAI Responses requests to Gemini's generateContent, and of the replies back."""

from __future__ import annotations

from gateway.contract.flag import ClientRequest, Drop, Target, Translation
from gateway_plugins.dialects.gemini_generate_content import walk as gemini_walk
from gateway_plugins.mappings import from_responses, plain_to_gemini

api = 1
operations = ("generate",)


def open(request: ClientRequest, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's name)
    return from_responses.translate(
        request,
        target,
        drop,
        upstream="gemini_generate_content",
        convert=plain_to_gemini.convert,
        read_reply=gemini_walk.Reader,
    )
