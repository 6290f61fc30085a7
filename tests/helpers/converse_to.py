"""What the tests of the conversions from Converse share: asks, and the simulated providers' rules as judges of what is sent."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from gateway.contract.capabilities import Caps, capabilities
from gateway.contract.errors import Refused
from gateway.contract.flag import ClientRequest, Members, Target
from gateway.testkit.rules.chat import chat_fault
from gateway.testkit.rules.claude import claude_fault
from gateway_plugins.translators import bedrock_converse__anthropic_messages, bedrock_converse__openai_chat

HAIKU = "claude-haiku-4-5"
OPUS = "claude-opus-4-6"
GPT = "gpt-4o"

MINE = "irisgate1:claude:sig-sim-1"
"""A signature that the judges take for the simulator's own, as a client has it."""
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
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


class Conversion:
    """One of the two conversions, to a model; `flag` is the provider's."""

    def __init__(self, translator: Any, dialect: str, model: str, flag: str = "") -> None:
        self.translator = translator
        self.dialect = dialect
        self.model = model
        self.flag = flag or dialect

    def opened(self, body: dict[str, Any], caps: Caps | None = None, *, stream: bool = False, judged: bool = True):
        """The translation of a Converse body, and the list into which it drops."""
        drops: list[str] = []
        body = {"messages": [HELLO], **body}
        path = "/model/m/converse-stream" if stream else "/model/m/converse"
        top = Members(orjson.dumps(body))
        headers: dict[str, str] = {}
        ask = ClientRequest(
            "bedrock_converse", "bedrock_converse", "generate", "POST", path, "", headers, top, "m", stream
        )
        caps = caps or capabilities(self.model)
        translation = self.translator.open(ask, Target("p", self.flag, self.model, self.dialect, caps), drops.append)
        if judged:
            self._judge(orjson.loads(translation.request.top.body), caps)
        return translation, drops

    def _judge(self, body: dict[str, Any], caps: Caps) -> None:
        if self.dialect == "openai_chat":
            fault = chat_fault(body)
        else:
            body.pop("anthropic_beta", None)
            fault = claude_fault(body, caps, bedrock=False)
        assert fault is None, fault

    def sent(self, body: dict[str, Any], caps: Caps | None = None, *, stream: bool = False) -> dict[str, Any]:
        return orjson.loads(self.opened(body, caps, stream=stream)[0].request.top.body)

    def dropped(self, body: dict[str, Any], caps: Caps | None = None) -> list[str]:
        return self.opened(body, caps)[1]

    def refusal(self, body: dict[str, Any], caps: Caps | None = None):
        with pytest.raises(Refused) as refused:
            self.opened(body, caps)
        return refused.value.problem

    def messages(self, *messages: dict[str, Any], caps: Caps | None = None, **more: Any) -> list[dict[str, Any]]:
        return self.sent({"messages": list(messages), **more}, caps)["messages"]


MESSAGES = Conversion(bedrock_converse__anthropic_messages, "anthropic_messages", HAIKU)
ADAPTIVE = Conversion(bedrock_converse__anthropic_messages, "anthropic_messages", OPUS)
INVOKE = Conversion(
    bedrock_converse__anthropic_messages,
    "anthropic_messages",
    "us.anthropic.claude-haiku-4-5-20251001-v1:0",
    "bedrock_model_invoke",
)
CHAT = Conversion(bedrock_converse__openai_chat, "openai_chat", GPT)
THINKER = Conversion(bedrock_converse__openai_chat, "openai_chat", "gpt-5")
