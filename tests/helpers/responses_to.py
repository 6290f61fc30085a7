"""What the tests of the conversions from the Responses API share: asks, and judges of both sides.

What goes to a provider is judged by that provider's own judge; what goes to the client by the types of OpenAI's SDK.
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.contract.errors import Refused
from gateway.contract.flag import Caps, ClientRequest, Members, Target
from gateway.testkit.rules.chat import chat_fault
from gateway_plugins.translators import (
    openai_responses__anthropic_messages,
    openai_responses__bedrock_converse,
    openai_responses__openai_chat,
)
from tests.helpers import chat_to_converse, chat_to_messages

CLAUDE = chat_to_converse.CLAUDE
GPT = Caps(family="openai", json_schema=True, strict_tools=True, reasoning="reasoning_effort")
PNG = chat_to_converse.PNG
IMAGE = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"}
ROADS = {
    "anthropic_messages": (openai_responses__anthropic_messages, CLAUDE),
    "bedrock_converse": (openai_responses__bedrock_converse, CLAUDE),
    "openai_chat": (openai_responses__openai_chat, GPT),
}
conversions = pytest.mark.parametrize("conversion", ROADS)


def ask(body: dict[str, Any], *, stream: bool = False) -> ClientRequest:
    body = {"model": "m", "input": "Hi", **body}
    top = Members(orjson.dumps(body))
    return ClientRequest(
        "openai_responses", "openai_responses", "generate", "POST", "/v1/responses", "", {}, top, "m", stream
    )


def opened(conversion: str, body: dict[str, Any], caps: Caps | None = None, *, stream: bool = False):
    """The translation of a Responses body, and the list into which it drops."""
    module, usual = ROADS[conversion]
    drops: list[str] = []
    caps = caps or usual
    target = Target("p", "f", "some.model-v1:0", conversion, caps)
    translation = module.open(ask(body, stream=stream), target, drops.append)
    assert translation.request.dialect == conversion
    _judge(conversion, orjson.loads(translation.request.top.body), caps, stream=stream)
    return translation, drops


def sent(conversion: str, body: dict[str, Any], caps: Caps | None = None) -> Any:
    return orjson.loads(opened(conversion, body, caps)[0].request.top.body)


def dropped(conversion: str, body: dict[str, Any], caps: Caps | None = None) -> list[str]:
    return opened(conversion, body, caps)[1]


def refusal(body: dict[str, Any], conversion: str = "anthropic_messages", caps: Caps | None = None):
    with pytest.raises(Refused) as refused:
        opened(conversion, body, caps)
    return refused.value.problem


def _judge(conversion: str, body: Any, caps: Caps, *, stream: bool) -> None:
    if conversion == "anthropic_messages":
        chat_to_messages.judge(body)
    elif conversion == "bedrock_converse":
        chat_to_converse.assert_valid(body, stream=stream)
        chat_to_converse.assert_turns(body, caps)
    else:
        assert chat_fault(body) is None, chat_fault(body)


def called(call_id: str, name: str = "look", arguments: str = "{}", **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments, **more}


def output(call_id: str, value: Any = "done") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": value}


def said(text: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": text}


def tool(name: str = "look", **more: Any) -> dict[str, Any]:
    return {"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}, **more}


def comparable(response: dict[str, Any]) -> dict[str, Any]:
    """Without what differs between two replies that say the same: ids of ours and times."""
    stripped = {key: value for key, value in response.items() if key not in {"id", "created_at", "completed_at"}}
    stripped["output"] = [{key: value for key, value in item.items() if key != "id"} for item in response["output"]]
    return stripped
