"""Mapping of the messages of an Anthropic Messages request to a `Conversation` (`shared/conversation.py`).

The `Conversation` applies the provider's rules for the sequence of messages. A document that consists of texts becomes
a text part. Cache breakpoints, citations and the context of a document are reported as dropped. Source: Anthropic's API
reference.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.contract.flag import Drop, Members
from gateway_plugins.dialects.anthropic_messages import read as messages_read
from gateway_plugins.dialects.anthropic_messages.read import Call, File, Message, Result, SearchResult, Text
from gateway_plugins.shared.conversation import Call as ConversationCall
from gateway_plugins.shared.conversation import Conversation, Piece
from gateway_plugins.shared.fields import param
from gateway_plugins.shared.reasoning import Reasoning
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import Block, frame_document


class Mapper(msgspec.Struct, frozen=True):
    """Adds the messages of one Messages request to a `Conversation`."""

    names: Names
    drop: Drop

    def add_messages(self, top: Members, conversation: Conversation) -> None:
        """Add the system prompt, and then all messages, to the conversation."""
        system = messages_read.system(top, self.drop)
        self._report_breakpoints(system)
        conversation.system("\n\n".join(block.text for block in system if block.text.strip()))
        for message in messages_read.messages(top, self.drop):
            self._report_breakpoints(message.content)
            if message.role == "system":
                conversation.system("\n\n".join(block.text for block in message.content if isinstance(block, Text)))
            elif message.role == "assistant":
                self._assistant(message, conversation)
            else:
                self._user(message, conversation)

    def _report_breakpoints(self, blocks: Iterable[messages_read.Block]) -> None:
        """Report cache breakpoints as dropped. Providers with the dialect of Chat or Gemini cache by themselves."""
        for block in blocks:
            if not isinstance(block, Reasoning) and block.ttl is not None:
                self.drop(f"{block.at}/cache_control")
            if isinstance(block, Result):
                self._report_breakpoints(block.content)

    def _user(self, message: Message, conversation: Conversation) -> None:
        parts: list[Block] = []
        for block in message.content:
            if isinstance(block, Result):
                content = [made for part in block.content for made in self._parts(part, conversation)]
                conversation.result(block.call_id, content, f"{block.at}/tool_use_id", is_error=block.is_error)
            elif isinstance(block, (Text, File, SearchResult)):
                parts += self._parts(block, conversation)
        conversation.user(parts)

    def _parts(self, block: Text | File | SearchResult, conversation: Conversation) -> list[Block]:
        if isinstance(block, Text):
            return [conversation.text(block.text)]
        if block.citations:
            self.drop(f"{block.at}/citations")
        if isinstance(block, SearchResult):
            framed = frame_document("\n\n".join(block.texts), f"{block.title} ({block.source})")
            return [conversation.text(framed)]
        if block.context:
            self.drop(f"{block.at}/context")
        if block.media is None:
            return [conversation.text(frame_document("\n\n".join(block.texts), block.title))]
        return conversation.file(block.media, param(block.at))

    def _assistant(self, message: Message, conversation: Conversation) -> None:
        pieces: list[Piece] = []
        for block in message.content:
            if isinstance(block, Text):
                pieces.append(block.text)
                if block.citations:
                    self.drop(f"{block.at}/citations")
            elif isinstance(block, Reasoning):
                pieces.append(block)
            elif isinstance(block, Call):
                pieces.append(ConversationCall(block.id, self.names.alias(block.name or "unnamed"), block.input))
        conversation.assistant(pieces, message.at)
