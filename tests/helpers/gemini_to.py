"""Requests for tests of the translators from Gemini's generateContent."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.contract.flag import Caps
from tests.helpers import chat_to_converse, chat_to_messages
from tests.helpers.samples import PNG
from tests.helpers.translation import Translator

GEMINI = "gemini_generate_content"
CLAUDE = chat_to_converse.CLAUDE
GPT = Caps(family="openai", json_schema=True, strict_tools=True, reasoning="reasoning_effort")
IMAGE = {"inlineData": {"mimeType": "image/png", "data": PNG}}
_BASE = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
TRANSLATORS = {
    "anthropic_messages": Translator(GEMINI, "anthropic_messages", _BASE, CLAUDE, checks=chat_to_messages.judge),
    "bedrock_converse": Translator(GEMINI, "bedrock_converse", _BASE, CLAUDE, checks=chat_to_converse.check),
    "openai_chat": Translator(GEMINI, "openai_chat", _BASE, GPT),
}
"""The translators of generateContent by upstream dialect."""
conversions = pytest.mark.parametrize("conversion", TRANSLATORS)


def sent(conversion: str, body: dict[str, Any], caps: Caps | None = None) -> Any:
    return TRANSLATORS[conversion].sent(body, caps)


def dropped(conversion: str, body: dict[str, Any], caps: Caps | None = None) -> list[str]:
    return TRANSLATORS[conversion].dropped(body, caps)


def refusal(conversion: str, body: dict[str, Any], caps: Caps | None = None):
    return TRANSLATORS[conversion].refusal(body, caps)


def user(*parts: dict[str, Any] | str) -> dict[str, Any]:
    return {"role": "user", "parts": [{"text": part} if isinstance(part, str) else part for part in parts]}


def model(*parts: dict[str, Any] | str) -> dict[str, Any]:
    return {**user(*parts), "role": "model"}


def call(name: str = "look", args: Any = None, **more: Any) -> dict[str, Any]:
    return {"functionCall": {"name": name, "args": args or {}, **more}}


def response(name: str = "look", value: Any = None, **more: Any) -> dict[str, Any]:
    return {"functionResponse": {"name": name, "response": value or {"output": "done"}, **more}}


def tool(*names: str) -> dict[str, Any]:
    return {"functionDeclarations": [{"name": name, "parametersJsonSchema": {"type": "object"}} for name in names]}
