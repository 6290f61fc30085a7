"""Messages of a Converse request as a Chat conversation.

Each message is told to `to_openai_chat.Conversation`, which knows what Chat demands of all of them together. Cache
points are reported: OpenAI and its like cache by themselves. Sources: botocore's service model and OpenAI's API
reference, member by member.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway.contract.flag import Caps, Drop, Members
from gateway_plugins.dialects.bedrock_converse import read as converse_read
from gateway_plugins.dialects.bedrock_converse import values as converse_values
from gateway_plugins.dialects.bedrock_converse.values import CachePoint, Call, Document, File, Message, Result, Text
from gateway_plugins.dialects.openai_chat import demand as chat_demand
from gateway_plugins.shared.fields import param
from gateway_plugins.shared.reasoning import Reasoning, untagged
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import Block, frame_document


@dataclass(slots=True)
class Reader:
    """What mapping a message needs to know, and what it found on the way."""

    caps: Caps
    names: Names
    drop: Drop
    removed: set[str] = field(default_factory=set)
    """Tools that are not offered any more at the conversation's end."""

    def read(self, top: Members) -> chat_demand.Conversation:
        told = chat_demand.Conversation(self.caps, self.drop)
        told.system(self._text(converse_read.system(top, self.drop)))
        for message in converse_read.messages(top, self.drop):
            if message.role == "system":
                told.system(self._text(message.blocks))
            elif message.role == "user":
                self._user(message, told)
            else:
                self._assistant(message, told)
        return told

    def _text(self, blocks: Sequence[converse_values.Block]) -> str:
        """The texts of an instruction."""
        return "\n\n".join(part["text"] for part in self._parts(blocks) if not chat_demand.is_blank(part))

    def _user(self, message: Message, told: chat_demand.Conversation) -> None:
        """Results one by one, and what else is said at once."""
        others: list[Block] = []
        for each in message.blocks:
            if isinstance(each, Result):
                told.result(each.id, self._parts(each.content), message.at, is_error=each.is_error)
            else:
                others += self._parts([each])
        told.user(others, message.at)

    def _assistant(self, message: Message, told: chat_demand.Conversation) -> None:
        said, thoughts, calls = "", "", []
        for each in message.blocks:
            if isinstance(each, Reasoning):
                thoughts += self._thought(each)
            elif isinstance(each, Call):
                calls.append((each.id, self.names.alias(each.name), each.input))
            else:
                said += "".join(part["text"] for part in self._parts([each]))
        told.assistant(said, calls, message.at, reasoning=thoughts)

    def _thought(self, given: Reasoning) -> str:
        """The text of thinking that this family made, for models that read it; Chat has no place for what is hidden."""
        own = not given.data and untagged(self.caps.family, given.signature) is not None
        if not (own and self.caps.reasoning_content):
            self.drop(given.at)
            return ""
        return given.text

    def _parts(self, blocks: Sequence[converse_values.Block]) -> list[Block]:
        return [part for each in blocks for part in _READERS[type(each)](self, each)]

    def text(self, given: Text) -> list[Block]:
        if given.citations:
            self.drop(f"{given.at}/citations")
        return [chat_demand.text(given.text)]

    def file(self, given: File) -> list[Block]:
        return [chat_demand.media_part(given.media, self.caps, param(given.at))]

    def document(self, given: Document) -> list[Block]:
        """A document, behind what the client says of it."""
        if given.citations:
            self.drop(f"{given.at}/citations")
        context = [chat_demand.text(given.context)] if given.context else []
        if given.media is not None:
            return [*context, chat_demand.media_part(given.media, self.caps, param(given.at))]
        return [*context, chat_demand.text(frame_document("\n".join(given.texts), given.name))]

    def search_result(self, given: converse_values.SearchResult) -> list[Block]:
        if given.citations:
            self.drop(f"{given.at}/citations")
        return [chat_demand.text(given.plain)]

    def json(self, given: converse_values.Json) -> list[Block]:
        _ = self
        return [chat_demand.text(orjson.dumps(given.value).decode())]

    def cache_point(self, given: CachePoint) -> list[Block]:
        self.drop(given.at)
        return []

    def tool_change(self, given: converse_values.ToolChange) -> list[Block]:
        """What is offered at the end is what counts for the answer; an MCP server's tools are not ours to offer."""
        if given.server:
            self.drop(given.at)
        elif given.added:
            self.removed.discard(given.name)
        else:
            self.removed.add(given.name)
        return []


_READERS: Final[dict[type, Callable[[Reader, Any], list[Block]]]] = {
    Text: Reader.text,
    File: Reader.file,
    Document: Reader.document,
    converse_values.SearchResult: Reader.search_result,
    converse_values.Json: Reader.json,
    CachePoint: Reader.cache_point,
    converse_values.ToolChange: Reader.tool_change,
}
