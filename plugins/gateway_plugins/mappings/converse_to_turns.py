"""Mapping of the messages of a Converse request to turns of Anthropic's Messages API, with their cache breakpoints.

Each message is mapped independently of the others. Rules for the sequence of turns are in
`dialects/anthropic_messages/demand.py`. Sources: botocore's service model and Anthropic's API reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from gateway.contract import lenient_json
from gateway.contract.errors import invalid
from gateway.contract.flag import Caps, Drop, Members
from gateway_plugins.dialects.anthropic_messages import demand as messages_demand
from gateway_plugins.dialects.anthropic_messages import files as messages_files
from gateway_plugins.dialects.anthropic_messages.demand import CacheBreakpoints
from gateway_plugins.dialects.anthropic_messages.emit import citation_of
from gateway_plugins.dialects.bedrock_converse import read as converse_read
from gateway_plugins.dialects.bedrock_converse import values as converse_values
from gateway_plugins.dialects.bedrock_converse.values import CachePoint, Call, Document, File, Result, Text, ToolChange
from gateway_plugins.shared.fields import param
from gateway_plugins.shared.reasoning import Maker, Reasoning
from gateway_plugins.shared.reply_events import Citation
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import NO_OUTPUT, Block, Located, Turn


class Mapper(msgspec.Struct):
    """Maps the messages of one request to turns of the Messages API."""

    caps: Caps
    maker: Maker
    names: Names
    breakpoints: CacheBreakpoints
    drop: Drop
    guard_tag: str = ""
    """Name of the tag around text that the guardrail must check. It is "" if there is no guardrail."""
    changes_tools: bool = False
    """True if a message adds or removes a tool."""
    guards: bool = False
    """True if the tag `guard_tag` occurs in the turns."""

    def read(self, top: Members) -> tuple[list[Block], list[Turn]]:
        """Return the system prompt and the turns.

        System messages before the first turn belong to the system prompt. Later system messages become turns of their
        own.
        """
        system = self._content(converse_read.system(top, self.drop), "system")
        turns: list[Turn] = []
        for message in converse_read.messages(top, self.drop):
            if message.role == "system" and not turns:
                system += self._content(message.blocks, "system")
            else:
                turns.append(Turn(message.role, self._content(message.blocks, "messages"), message.at))
        return [block for block in system if not messages_demand.is_blank(block)], turns

    def _content(self, parts: Sequence[converse_values.Block], section: str) -> list[Block]:
        blocks: list[Block] = []
        for part in parts:
            if isinstance(part, CachePoint):
                self.breakpoints.put(part.ttl, blocks, section, part.at)
            else:
                blocks += _MAPPED[type(part)](self, part)
        return blocks

    def text(self, part: Text) -> list[Block]:
        block = messages_demand.text(self._guarded(part))
        if part.citations and not self.caps.citations:
            self.drop(f"{part.at}/citations")
            return [block]
        cited = [self._citation(citation, f"{part.at}/citations") for citation in part.citations]
        if citations := [citation for citation in cited if citation]:
            block["citations"] = citations
        return [block]

    def _guarded(self, part: Text) -> str:
        if not (part.guarded and self.guard_tag and part.text.strip()):
            return part.text
        self.guards = True
        return f"<{self.guard_tag}>{part.text}</{self.guard_tag}>"

    def _citation(self, citation: Citation, at: str) -> Block | None:
        """Return a citation in the form of Anthropic's API.

        A citation of a web page is reported as dropped, and the result is None. Anthropic requires an encrypted index
        for such a citation, and Converse has no field for this index.
        """
        if citation.kind == "web":
            self.drop(at)
            return None
        return {name: value for name, value in citation_of(citation).items() if name != "file_id"}

    def file(self, part: File) -> list[Block]:
        """Return a file as a block.

        InvokeModel's guardrails check only text. If the client marks the file for a guardrail, the mark is reported as
        dropped.
        """
        if part.guarded and self.guard_tag:
            self.drop(part.at)
        return [messages_files.media_block(part.media, self.caps, param(part.at))]

    def document(self, part: Document) -> list[Block]:
        field = param(part.at)
        if part.media is not None:
            block = messages_files.media_block(part.media, self.caps, field)
        else:
            block = messages_files.text_document(part.texts, part.name, self.caps, field, is_split=part.is_split)
        if part.context:
            block["context"] = part.context
        return [self._citable(block, part)]

    def search_result(self, part: converse_values.SearchResult) -> list[Block]:
        """Return a search result as one block.

        The block is plain text for a model without citations, because such a model accepts no search results.
        """
        if not self.caps.citations:
            return [self._citable(messages_demand.text(part.plain), part)]
        texts = [messages_demand.text(text) for text in part.texts if text.strip()]
        block: Block = {"type": "search_result", "source": part.source, "title": part.title, "content": texts}
        return [self._citable(block, part)]

    def _citable(self, block: Block, part: Document | converse_values.SearchResult) -> Block:
        if part.citations and self.caps.citations:
            block["citations"] = {"enabled": True}
        elif part.citations:
            self.drop(f"{part.at}/citations")
        return block

    def thinking(self, part: Reasoning) -> list[Block]:
        return messages_demand.thinking_blocks(part, self.caps, self.maker, self.drop)

    def call(self, part: Call) -> list[Block]:
        return [{"type": "tool_use", "id": part.id, "name": self.names.alias(part.name), "input": part.input}]

    def result(self, part: Result) -> list[Block]:
        mapped = [block for each in part.content for block in _MAPPED[type(each)](self, each)]
        content = [block for block in mapped if not messages_demand.is_blank(block)]
        inner = {
            "type": "tool_result",
            "tool_use_id": part.id,
            "content": content or [messages_demand.text(NO_OUTPUT)],
        }
        block = Located(f"{part.at}/toolUseId", inner)
        if part.is_error:
            block["is_error"] = True
        return [block]

    def tool_change(self, part: ToolChange) -> list[Block]:
        if part.kind != "mcp_toolset_reference" and not part.name:
            raise invalid(f"{param(part.at)}.tool.name must name the tool", f"{param(part.at)}.tool.name")
        self.changes_tools = True
        name = part.name if part.server else self.names.alias(part.name)
        members = {"type": part.kind, "name": name, "server_name": part.server}
        tool = {key: value for key, value in members.items() if value}
        return [{"type": "tool_addition" if part.added else "tool_removal", "tool": tool}]


def _json(_mapper: Mapper, part: converse_values.Json) -> list[Block]:
    return [messages_demand.text(lenient_json.dumps(part.value).decode())]


_MAPPED: Final[dict[type, Callable[[Mapper, Any], list[Block]]]] = {
    Text: Mapper.text,
    File: Mapper.file,
    Document: Mapper.document,
    converse_values.SearchResult: Mapper.search_result,
    Reasoning: Mapper.thinking,
    Call: Mapper.call,
    Result: Mapper.result,
    converse_values.Json: _json,
    ToolChange: Mapper.tool_change,
}
