"""Requests in the format of the Responses API, for tests of its translators to other dialects.

Each translated request is checked by the rules of the simulated provider.
"""

from __future__ import annotations

from typing import Any

import pytest

from gateway.contract.flag import Caps
from tests.helpers import chat_to_converse, chat_to_messages
from tests.helpers.samples import PNG
from tests.helpers.translation import Translator

CLAUDE = chat_to_converse.CLAUDE
GPT = Caps(family="openai", json_schema=True, strict_tools=True, reasoning="reasoning_effort")
IMAGE = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"}
_BASE = {"model": "m", "input": "Hi"}
TRANSLATORS = {
    "anthropic_messages": Translator(
        "openai_responses", "anthropic_messages", _BASE, CLAUDE, checks=chat_to_messages.judge
    ),
    "bedrock_converse": Translator(
        "openai_responses", "bedrock_converse", _BASE, CLAUDE, checks=chat_to_converse.check
    ),
    "openai_chat": Translator("openai_responses", "openai_chat", _BASE, GPT),
}
"""The translators from the Responses API, by upstream dialect."""
conversions = pytest.mark.parametrize("conversion", TRANSLATORS)
ask = TRANSLATORS["openai_chat"].request


def opened(conversion: str, body: dict[str, Any], caps: Caps | None = None, *, stream: bool = False):
    return TRANSLATORS[conversion].open(body, caps, stream=stream)


def sent(conversion: str, body: dict[str, Any], caps: Caps | None = None) -> Any:
    return TRANSLATORS[conversion].sent(body, caps)


def dropped(conversion: str, body: dict[str, Any], caps: Caps | None = None) -> list[str]:
    return TRANSLATORS[conversion].dropped(body, caps)


def refusal(body: dict[str, Any], conversion: str = "anthropic_messages", caps: Caps | None = None):
    return TRANSLATORS[conversion].refusal(body, caps)


def called(call_id: str, name: str = "look", arguments: str = "{}", **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments, **more}


def output(call_id: str, value: Any = "done") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": value}


def said(text: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": text}


def tool(name: str = "look", **more: Any) -> dict[str, Any]:
    return {"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}, **more}


def comparable(response: dict[str, Any]) -> dict[str, Any]:
    """Return a response without ids and times, because these differ even between equal replies."""
    stripped = {key: value for key, value in response.items() if key not in {"id", "created_at", "completed_at"}}
    stripped["output"] = [{key: value for key, value in item.items() if key != "id"} for item in response["output"]]
    return stripped
