"""Requests for tests of the translators from Converse. Each translated request is checked by the rules of the simulated
provider.
"""

from __future__ import annotations

import base64
from typing import Any

import orjson

from tests.helpers.samples import PNG
from tests.helpers.translation import Translator

HAIKU = "claude-haiku-4-5"
OPUS = "claude-opus-4-6"
GPT = "gpt-4o"

MINE = "irisgate1:claude:sig-sim-1"
"""A signature of thinking as a client gets it: the gateway's prefix, followed by the provider's signature."""
PDF = "JVBERi0xLjQKJcOkw7zDtsOfCg=="
IMAGE = {"image": {"format": "png", "source": {"bytes": PNG}}}
DOCUMENT = {"document": {"format": "pdf", "name": "paper", "source": {"bytes": PDF}}}
POINT = {"cachePoint": {"type": "default"}}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"toolSpec": {"name": "look", "description": "Looks.", "inputSchema": {"json": SCHEMA}}}
TOOLS = {"toolConfig": {"tools": [TOOL]}}
HELLO = {"role": "user", "content": [{"text": "Hi"}]}
FORMAT = {
    "textFormat": {
        "type": "json_schema",
        "structure": {"jsonSchema": {"name": "place", "schema": orjson.dumps(SCHEMA).decode()}},
    }
}


def blob(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def system(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "system", "content": list(blocks)}


def call(tool_id: str = "a", name: str = "look", **given: Any) -> dict[str, Any]:
    return {"toolUse": {"toolUseId": tool_id, "name": name, "input": given}}


def result(*content: dict[str, Any], tool_id: str = "a", **more: Any) -> dict[str, Any]:
    return {"toolResult": {"toolUseId": tool_id, "content": list(content), **more}}


def _translator(upstream: str, model: str, flag: str = "") -> Translator:
    return Translator("bedrock_converse", upstream, {"messages": [HELLO]}, model, flag=flag)


MESSAGES = _translator("anthropic_messages", HAIKU)
ADAPTIVE = _translator("anthropic_messages", OPUS)
INVOKE = _translator("anthropic_messages", "us.anthropic.claude-haiku-4-5-20251001-v1:0", "bedrock_model_invoke")
CHAT = _translator("openai_chat", GPT)
THINKER = _translator("openai_chat", "gpt-5")
