"""Mapping of the messages of a Converse request to a `Conversation` (`shared/conversation.py`).

The `Conversation` applies the provider's rules for the sequence of messages. Cache points are reported as dropped,
because providers with the dialect of Chat or Gemini cache by themselves. Source: botocore's service model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from gateway.contract import lenient_json
from gateway.contract.flag import Drop, Members
from gateway_plugins.dialects.bedrock_converse import read as converse_read
from gateway_plugins.dialects.bedrock_converse import values as converse_values
from gateway_plugins.dialects.bedrock_converse.values import CachePoint, Call, Document, File, Message, Result, Text
from gateway_plugins.shared.conversation import Call as ConversationCall
from gateway_plugins.shared.conversation import Conversation, Piece
from gateway_plugins.shared.fields import param
from gateway_plugins.shared.reasoning import Reasoning
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import Block, frame_document


class Mapper(msgspec.Struct):
    """Maps the messages of one request, and notes which tools the messages remove (`toolRemoval` in Converse)."""

    conversation: Conversation
    names: Names
    drop: Drop
    removed: set[str] = msgspec.field(default_factory=set)
    """Names of the tools that a message removed and no later message added again."""

    def add_messages(self, top: Members) -> None:
        """Add the system prompt and then all messages to the conversation."""
        self.conversation.system(self._text(converse_read.system(top, self.drop)))
        for message in converse_read.messages(top, self.drop):
            if message.role == "system":
                self.conversation.system(self._text(message.blocks))
            elif message.role == "user":
                self._user(message)
            else:
                self._assistant(message)

    def _text(self, blocks: Sequence[converse_values.Block]) -> str:
        """Return all texts of a system prompt or system message as one text."""
        return "\n\n".join(part["text"] for part in self._parts(blocks) if part.get("text", "").strip())

    def _user(self, message: Message) -> None:
        """Add a user message. Each tool result becomes a message of its own. The other content follows as one
        message.
        """
        others: list[Block] = []
        for each in message.blocks:
            if isinstance(each, Result):
                at = f"{each.at}/toolUseId"
                self.conversation.result(each.id, self._parts(each.content), at, is_error=each.is_error)
            else:
                others += self._parts([each])
        self.conversation.user(others)

    def _assistant(self, message: Message) -> None:
        pieces: list[Piece] = []
        for each in message.blocks:
            if isinstance(each, Reasoning):
                pieces.append(each)
            elif isinstance(each, Call):
                pieces.append(ConversationCall(each.id, self.names.alias(each.name), each.input))
            else:
                pieces += [part["text"] for part in self._parts([each])]
        self.conversation.assistant(pieces, message.at)

    def _parts(self, blocks: Sequence[converse_values.Block]) -> list[Block]:
        return [part for each in blocks for part in _MAPPED[type(each)](self, each)]

    def text(self, value: Text) -> list[Block]:
        if value.citations:
            self.drop(f"{value.at}/citations")
        return [self.conversation.text(value.text)]

    def file(self, value: File) -> list[Block]:
        return self.conversation.file(value.media, param(value.at))

    def document(self, value: Document) -> list[Block]:
        """Return a document, preceded by its `context` as a text part."""
        if value.citations:
            self.drop(f"{value.at}/citations")
        context = [self.conversation.text(value.context)] if value.context else []
        if value.media is not None:
            return [*context, *self.conversation.file(value.media, param(value.at))]
        return [*context, self.conversation.text(frame_document("\n".join(value.texts), value.name))]

    def search_result(self, value: converse_values.SearchResult) -> list[Block]:
        if value.citations:
            self.drop(f"{value.at}/citations")
        return [self.conversation.text(value.plain)]

    def cache_point(self, value: CachePoint) -> list[Block]:
        self.drop(value.at)
        return []

    def tool_change(self, value: converse_values.ToolChange) -> list[Block]:
        """Record in `removed` that a message removes a tool, or that it adds the tool again.

        Returns [], because nothing is sent for this block. If the tool belongs to an MCP server, the block is reported
        as dropped instead.
        """
        if value.server:
            self.drop(value.at)
        elif value.added:
            self.removed.discard(value.name)
        else:
            self.removed.add(value.name)
        return []


def _json(mapper: Mapper, value: converse_values.Json) -> list[Block]:
    return [mapper.conversation.text(lenient_json.dumps(value.value).decode())]


_MAPPED: Final[dict[type, Callable[[Mapper, Any], list[Block]]]] = {
    Text: Mapper.text,
    File: Mapper.file,
    Document: Mapper.document,
    converse_values.SearchResult: Mapper.search_result,
    converse_values.Json: _json,
    CachePoint: Mapper.cache_point,
    converse_values.ToolChange: Mapper.tool_change,
}
