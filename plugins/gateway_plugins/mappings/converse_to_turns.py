"""Mapping of the messages of a Converse request to turns of Messages, with their cache breakpoints.

Each message is mapped by itself; rules for all turns together are in `dialects/anthropic_messages/demand.py`. Sources:
botocore's service model and Anthropic's API reference, member by member; bedrock.md 3.2, read from right to left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.contract.errors import invalid
from gateway.contract.flag import Caps, Drop, Members
from gateway_plugins.dialects.anthropic_messages import demand as messages_demand
from gateway_plugins.dialects.anthropic_messages import files as messages_files
from gateway_plugins.dialects.anthropic_messages.demand import CacheBreakpoints
from gateway_plugins.dialects.anthropic_messages.emit import citation_of
from gateway_plugins.dialects.bedrock_converse import read as converse_read
from gateway_plugins.dialects.bedrock_converse import values as converse_values
from gateway_plugins.dialects.bedrock_converse.values import CachePoint, Call, Document, File, Result, Text, ToolChange
from gateway_plugins.shared import reasoning
from gateway_plugins.shared.fields import param
from gateway_plugins.shared.reasoning import Reasoning
from gateway_plugins.shared.reply_events import Citation
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import NO_OUTPUT, Block, Turn


@dataclass(slots=True)
class Mapper:
    """Mapper of one conversation. It notes whether the conversation changes its tools."""

    caps: Caps
    names: Names
    breakpoints: CacheBreakpoints
    drop: Drop
    changes_tools: bool = False
    """True if a tool is added or removed in the conversation."""

    def read(self, top: Members) -> tuple[list[Block], list[Turn]]:
        """Return the system prompt and the turns. System messages between the turns stay where they are."""
        system = self._content(converse_read.system(top, self.drop), "system")
        turns = [
            Turn(message.role, self._content(message.blocks, "messages"), message.at)
            for message in converse_read.messages(top, self.drop)
        ]
        return [block for block in system if not messages_demand.is_blank(block)], turns

    def _content(self, given: Sequence[converse_values.Block], section: str) -> list[Block]:
        blocks: list[Block] = []
        for each in given:
            if isinstance(each, CachePoint):
                self.breakpoints.put(each.ttl, blocks, section, each.at)
            else:
                blocks += _MAPPED[type(each)](self, each)
        return blocks

    def text(self, given: Text) -> list[Block]:
        block = messages_demand.text(given.text)
        cited = [self._citation(citation, f"{given.at}/citations") for citation in given.citations]
        if citations := [citation for citation in cited if citation]:
            block["citations"] = citations
        return [block]

    def _citation(self, citation: Citation, at: str) -> Block | None:
        """Return a citation. One of the web is reported, because Converse lacks the key with which it is sent back."""
        if citation.kind == "web":
            self.drop(at)
            return None
        return {name: value for name, value in citation_of(citation).items() if name != "file_id"}

    def file(self, given: File) -> list[Block]:
        return [messages_files.media_block(given.media, self.caps, param(given.at))]

    def document(self, given: Document) -> list[Block]:
        field = param(given.at)
        if given.media is not None:
            block = messages_files.media_block(given.media, self.caps, field)
        else:
            block = messages_files.text_document(given.texts, given.name, self.caps, field, is_split=given.is_split)
        if given.context:
            block["context"] = given.context
        return [self._citable(block, given)]

    def search_result(self, given: converse_values.SearchResult) -> list[Block]:
        """Return a search result, or its text for a model that takes none."""
        if not self.caps.citations:
            return [self._citable(messages_demand.text(given.plain), given)]
        texts = [messages_demand.text(text) for text in given.texts if text.strip()]
        block: Block = {"type": "search_result", "source": given.source, "title": given.title, "content": texts}
        return [self._citable(block, given)]

    def _citable(self, block: Block, given: Document | converse_values.SearchResult) -> Block:
        if given.citations and self.caps.citations:
            block["citations"] = {"enabled": True}
        elif given.citations:
            self.drop(f"{given.at}/citations")
        return block

    def thinking(self, given: Reasoning) -> list[Block]:
        """Return thinking exactly as it came if this model family made it; any other is reported as dropped."""
        carried = given.data or given.signature
        accepts = self.caps.redacted_reasoning if given.data else self.caps.signed_reasoning
        own = reasoning.untagged(self.caps.family, carried) if carried and accepts else None
        if not own:
            self.drop(given.at)
            return []
        if given.data:
            return [{"type": "redacted_thinking", "data": own}]
        return [{"type": "thinking", "thinking": given.text, "signature": own}]

    def call(self, given: Call) -> list[Block]:
        return [{"type": "tool_use", "id": given.id, "name": self.names.alias(given.name), "input": given.input}]

    def result(self, given: Result) -> list[Block]:
        mapped = [block for each in given.content for block in _MAPPED[type(each)](self, each)]
        content = [block for block in mapped if not messages_demand.is_blank(block)]
        block: Block = {
            "type": "tool_result",
            "tool_use_id": given.id,
            "content": content or [messages_demand.text(NO_OUTPUT)],
        }
        if given.is_error:
            block["is_error"] = True
        return [block]

    def json(self, given: converse_values.Json) -> list[Block]:
        _ = self
        return [messages_demand.text(orjson.dumps(given.value).decode())]

    def tool_change(self, given: ToolChange) -> list[Block]:
        if given.kind != "mcp_toolset_reference" and not given.name:
            raise invalid(f"{param(given.at)}.tool.name must name the tool", f"{param(given.at)}.tool.name")
        self.changes_tools = True
        name = given.name if given.server else self.names.alias(given.name)
        members = {"type": given.kind, "name": name, "server_name": given.server}
        tool = {key: value for key, value in members.items() if value}
        return [{"type": "tool_addition" if given.added else "tool_removal", "tool": tool}]


_MAPPED: Final[dict[type, Callable[[Mapper, Any], list[Block]]]] = {
    Text: Mapper.text,
    File: Mapper.file,
    Document: Mapper.document,
    converse_values.SearchResult: Mapper.search_result,
    Reasoning: Mapper.thinking,
    Call: Mapper.call,
    Result: Mapper.result,
    converse_values.Json: Mapper.json,
    ToolChange: Mapper.tool_change,
}
