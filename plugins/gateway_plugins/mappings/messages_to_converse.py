"""Mapping of the messages of an Anthropic Messages request to turns of Converse, with their cache points.

Each block is mapped independently of the others. Rules for the sequence of turns are in
`dialects/bedrock_converse/demand.py`. Sources: botocore's service model and Anthropic's API reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from gateway.contract.flag import Caps, Drop, Members
from gateway_plugins.dialects.anthropic_messages import read as messages_read
from gateway_plugins.dialects.anthropic_messages.read import Call, File, Result, SearchResult, Text
from gateway_plugins.dialects.bedrock_converse.demand import (
    CacheBreakpoints,
    DocumentNames,
    is_blank,
    media_block,
    place_cache_points,
    thinking_blocks,
)
from gateway_plugins.dialects.bedrock_converse.emit import citation_of
from gateway_plugins.shared.fields import param
from gateway_plugins.shared.media import Media
from gateway_plugins.shared.reasoning import Maker, Reasoning
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import Block, Located, Turn, frame_document


class Mapper(msgspec.Struct):
    """Maps the messages of one request, and collects the names of the tools that the messages call."""

    caps: Caps
    maker: Maker
    names: Names
    breakpoints: CacheBreakpoints
    drop: Drop
    called: list[str] = msgspec.field(default_factory=list)
    """Names of the tools that the messages call, in the form that is sent to the provider."""
    _documents: DocumentNames = msgspec.field(default_factory=DocumentNames)

    def read(self, top: Members) -> tuple[list[Block], list[Turn]]:
        """Return the system prompt and the turns.

        System messages before the first turn belong to the system prompt. If the model accepts no system prompt, the
        prompt becomes the first turn of the user.
        """
        system = self._blocks(messages_read.system(top, self.drop))
        turns: list[Turn] = []
        for message in messages_read.messages(top, self.drop):
            blocks = self._blocks(message.content)
            if message.role == "system" and not turns:
                system += blocks
            else:
                turns.append(Turn(message.role, blocks, message.at))
        system = [block for block in system if not is_blank(block)]
        if not self.caps.system:
            return [], [Turn("user", system, "/system"), *turns]
        return place_cache_points(system, self.drop), turns

    def _blocks(self, content: Iterable[messages_read.Block]) -> list[Block]:
        """Return the blocks of a message. A cache point follows each block that has a `cache_control`."""
        blocks: list[Block] = []
        for block in content:
            made = _MAPPED[type(block)](self, block)
            blocks += made
            if not isinstance(block, Reasoning) and (block.ttl is not None):
                self.breakpoints.mark(blocks, block.ttl, f"{block.at}/cache_control")
        return blocks

    def text(self, block: Text) -> list[Block]:
        if block.citations and not self.caps.citations:
            self.drop(f"{block.at}/citations")
        elif block.citations and block.text.strip():
            cited = [citation_of(citation) for citation in block.citations]
            return [{"citationsContent": {"content": [{"text": block.text}], "citations": cited}}]
        return [{"text": block.text}]

    def file(self, block: File) -> list[Block]:
        if block.media is None and self.caps.citations:
            made = self._document_of_texts(block)
        else:  # without citations, the parts of a document are joined to one text
            media = block.media or Media("text/plain", "\n\n".join(block.texts).encode(), block.title)
            made = media_block(media, self._documents, self.caps, param(block.at))
        document = made.get("document")
        if document is None:
            return [made]
        if block.context:
            document["context"] = block.context
        return [{"document": document | self._cited(block)}]

    def _document_of_texts(self, block: File) -> Block:
        source = {"content": [{"text": text} for text in block.texts]}
        return {"document": {"format": "txt", "name": self._documents.take(block.title), "source": source}}

    def search_result(self, block: SearchResult) -> list[Block]:
        cited = self._cited(block)
        if not self.caps.citations:
            text = "\n\n".join(block.texts)
            return [{"text": frame_document(text, f"{block.title} ({block.source})")}]
        content = [{"text": text} for text in block.texts]
        return [{"searchResult": {"source": block.source, "title": block.title, "content": content, **cited}}]

    def _cited(self, block: File | SearchResult) -> Block:
        if not block.citations:
            return {}
        if not self.caps.citations:
            self.drop(f"{block.at}/citations")
            return {}
        return {"citations": {"enabled": True}}

    def thinking(self, block: Reasoning) -> list[Block]:
        return thinking_blocks(block, self.caps, self.maker, self.drop)

    def call(self, block: Call) -> list[Block]:
        name = self.names.alias(block.name or "unnamed")
        self.called.append(name)
        return [{"toolUse": {"toolUseId": block.id, "name": name, "input": block.input}}]

    def result(self, block: Result) -> list[Block]:
        content: list[Block] = []
        marked = None
        for part in block.content:
            content += _MAPPED[type(part)](self, part)
            if part.ttl is not None:
                if marked is not None:  # a result can have only one cache point, placed after the result
                    self.drop(f"{marked.at}/cache_control")
                marked = part
        status = "error" if block.is_error else "success"
        inner = {"toolUseId": block.call_id, "content": content, "status": status}
        made: list[Block] = [Located(f"{block.at}/tool_use_id", {"toolResult": inner})]
        if marked is not None and block.ttl is None:
            self.breakpoints.mark(made, marked.ttl, f"{marked.at}/cache_control")
        elif marked is not None:
            self.drop(f"{marked.at}/cache_control")
        return made


_MAPPED: Final[Mapping[type, Callable[[Mapper, Any], list[Block]]]] = {
    Text: Mapper.text,
    File: Mapper.file,
    SearchResult: Mapper.search_result,
    Reasoning: Mapper.thinking,
    Call: Mapper.call,
    Result: Mapper.result,
}
