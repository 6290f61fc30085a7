"""What the tests of the conversions from Messages share: asks, and simulated providers' rules as the judges of what is sent."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.contract.capabilities import Caps, capabilities
from gateway.contract.flag import ClientRequest, Event, Members, Target, event
from gateway.testkit.judge import judge
from gateway.testkit.rules.chat import chat_fault
from gateway.testkit.rules.converse import converse_fault
from gateway.testkit.scenarios import SIGNATURE
from gateway_plugins.translators import anthropic_messages__bedrock_converse, anthropic_messages__openai_chat

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
CHAT_MODELS = (GPT, GPT_4O, DEEPSEEK, GPT_OSS, "some-model")

MINE = f"irisgate1:claude:{SIGNATURE}1"
"""A signature that the judges take for the simulator's own, as a client has it."""
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
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


def ask(body: dict[str, Any], *, stream: bool = False, headers: dict[str, str] | None = None) -> ClientRequest:
    body = {"model": "m", "max_tokens": 5000, "messages": [HELLO], **body}
    top = Members(orjson.dumps(body))
    flag = "anthropic_messages"
    return ClientRequest(flag, flag, "generate", "POST", "/v1/messages", "", headers or {}, top, "m", stream)


class Conversion:
    """One of the two, with its judge."""

    def __init__(self, module: Any, dialect: str) -> None:
        self.module = module
        self.dialect = dialect

    def open(self, body: dict[str, Any], model: str, drops: list[str] | None = None, **how: Any) -> Any:
        caps = how.pop("caps", None) or capabilities(model)
        target = Target("p", self.dialect, model, self.dialect, caps)
        return self.module.open(ask(body, **how), target, (drops if drops is not None else []).append)

    def sent(self, body: dict[str, Any], model: str, drops: list[str] | None = None, **how: Any) -> Any:
        """What leaves; the provider's rules have passed it."""
        translation = self.open(body, model, drops, **how)
        assert translation.request.dialect == self.dialect
        made = orjson.loads(translation.request.top.body)
        fault = self.fault(made, how.get("caps") or capabilities(model), stream=how.get("stream", False))
        assert fault is None, fault
        return made

    def dropped(self, body: dict[str, Any], model: str, **how: Any) -> list[str]:
        drops: list[str] = []
        self.sent(body, model, drops, **how)
        return drops

    def fault(self, made: Any, caps: Caps, *, stream: bool) -> str | None:
        if self.dialect == "openai_chat":
            return chat_fault(made)
        return judge("ConverseStream" if stream else "Converse", made) or converse_fault(made, caps)


CONVERSE = Conversion(anthropic_messages__bedrock_converse, "bedrock_converse")
CHAT = Conversion(anthropic_messages__openai_chat, "openai_chat")


def streamed(translation: Any, *events: tuple[str, Any]) -> list[Event]:
    """The events for the client, the last ones included."""
    out = [made for kind, data in events for made in translation.feed(event(kind, data))]
    return [*out, *translation.close()]
