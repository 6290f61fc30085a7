"""Requests for tests of the translators from Messages. Each translated request is checked by the rules of the simulated
provider.
"""

from __future__ import annotations

from typing import Any

from gateway.contract.flag import Event
from gateway.testkit.scenarios import SIGNATURE
from tests.helpers.samples import PNG
from tests.helpers.translation import Translator, client_events

HAIKU = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
OPUS_4_5 = "us.anthropic.claude-opus-4-5-20251101-v1:0"
OPUS_5 = "us.anthropic.claude-opus-5"
NOVA = "us.amazon.nova-pro-v1:0"
LLAMA = "us.meta.llama4-maverick-17b-instruct-v1:0"
MISTRAL = "mistral.mistral-large-2402-v1:0"
GPT_OSS = "openai.gpt-oss-120b-1:0"
GPT = "gpt-5.4"
GPT_4O = "gpt-4o"
DEEPSEEK = "deepseek-chat"
CONVERSE_MODELS = (HAIKU, OPUS_4_5, OPUS_5, NOVA, LLAMA, MISTRAL, GPT_OSS)

MINE = f"irisgate1:claude:{SIGNATURE}1"
"""A signature of thinking as a client gets it: the gateway's prefix, followed by the provider's signature."""
PDF = "JVBERi0xLjQKJcOkw7zDtsOfCg=="
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
DOCUMENT = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}
CACHE = {"type": "ephemeral"}
HELLO = {"role": "user", "content": "Hi"}


def text(value: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": value, **more}


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def called(*ids: str, name: str = "look", **more: Any) -> dict[str, Any]:
    return assistant(*({"type": "tool_use", "id": i, "name": name, "input": {}, **more} for i in ids))


def result(tool_id: str, content: Any = "done", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": tool_id, "content": content, **more}


def tool(name: str = "look", **more: Any) -> dict[str, Any]:
    return {"name": name, "input_schema": {"type": "object", "properties": {}}, **more}


_BASE = {"model": "m", "max_tokens": 5000, "messages": [HELLO]}
CONVERSE = Translator("anthropic_messages", "bedrock_converse", _BASE, HAIKU)
CHAT = Translator("anthropic_messages", "openai_chat", _BASE, GPT)
ask = CONVERSE.request


def streamed(translation: Any, *events: tuple[str, Any]) -> list[Event]:
    return client_events(translation, events)
