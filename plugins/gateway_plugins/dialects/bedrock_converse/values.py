"""Values of the content blocks and messages in a Converse request.

`read.py` creates them, each with its JSON pointer in the client's request. `mappings/converse_to_*.py` turn them into
the dialects of providers. Source: botocore's service model (ContentBlock).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway_plugins.shared.fields import Ttl
from gateway_plugins.shared.media import Media
from gateway_plugins.shared.reasoning import Reasoning
from gateway_plugins.shared.reply_events import Citation


@dataclass(frozen=True, slots=True)
class Text:
    """A text block. Only a text in an assistant message may have citations."""

    at: str
    """JSON pointer of the block in the client's request. `at` means the same in every class of this file."""
    text: str
    citations: tuple[Citation, ...] = ()
    guarded: bool = False
    """True if the client marks the text for the guardrail (`guardContent`)."""


@dataclass(frozen=True, slots=True)
class File:
    """An image or an audio file. `guarded` is true if the client marks the file for the guardrail."""

    at: str
    media: Media
    guarded: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """A document, which is either a file in `media` or the texts in `texts`.

    If `is_split` is true, the model can cite each text separately.
    """

    at: str
    name: str
    media: Media | None = None
    texts: tuple[str, ...] = ()
    is_split: bool = False
    context: str = ""
    citations: bool = False


@dataclass(frozen=True, slots=True)
class SearchResult:
    at: str
    source: str
    title: str
    texts: tuple[str, ...]
    citations: bool = False

    @property
    def plain(self) -> str:
        """The search result as plain text, for models without search-result blocks."""
        return "\n".join([f"{self.title} ({self.source})", *self.texts])


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call in an earlier turn. `is_servers` is true if the tool ran on a provider's servers."""

    at: str
    id: str
    name: str
    input: dict[str, Any]
    is_servers: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """A tool's result: texts, files, documents, search results, JSON values."""

    at: str
    id: str
    content: list[Block]
    is_error: bool


@dataclass(frozen=True, slots=True)
class Json:
    """A JSON value in a tool's result."""

    at: str
    value: Any


@dataclass(frozen=True, slots=True)
class CachePoint:
    at: str
    ttl: Ttl


@dataclass(frozen=True, slots=True)
class ToolChange:
    """A change of the offered tools in the middle of a conversation. `added` is false if the tool is removed.

    `server` is the name of the tool's MCP server, or "" if the tool belongs to no MCP server.
    """

    at: str
    added: bool
    kind: str
    name: str
    server: str


Block = Text | File | Document | SearchResult | Reasoning | Call | Result | Json | CachePoint | ToolChange


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `role` is user, assistant or system."""

    role: str
    at: str
    blocks: list[Block]
