"""Plain values of the messages in a Converse request, for the conversions from it.

`read.py` reads them, each with its JSON pointer in the client's body. `mappings/converse_to_*.py` map them to the
dialects of providers. Nothing here reads a request or decides on one. Source: botocore's service model (ContentBlock).
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
    """A text, with its sources where it is an earlier answer of the model."""

    at: str
    """JSON pointer of the block, as in every value here."""
    text: str
    citations: tuple[Citation, ...] = ()


@dataclass(frozen=True, slots=True)
class File:
    """An image or sound."""

    at: str
    media: Media


@dataclass(frozen=True, slots=True)
class Document:
    """A file, or texts in its place: one, or several that can be cited apart from each other."""

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
        """The search result as text, for models that take none."""
        return "\n".join([f"{self.title} ({self.source})", *self.texts])


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call of an earlier turn. `is_servers` is true for a tool that the provider ran itself."""

    at: str
    id: str
    name: str
    input: dict[str, Any]
    is_servers: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """A tool's result: texts, files, documents, search results."""

    at: str
    id: str
    content: list[Block]
    is_error: bool


@dataclass(frozen=True, slots=True)
class Json:
    """A value of a tool's result."""

    at: str
    value: Any


@dataclass(frozen=True, slots=True)
class CachePoint:
    at: str
    ttl: Ttl


@dataclass(frozen=True, slots=True)
class ToolChange:
    """Change after which a tool is offered, or is not offered any more. `server` is that of an MCP tool."""

    at: str
    added: bool
    kind: str
    name: str
    server: str


Block = Text | File | Document | SearchResult | Reasoning | Call | Result | Json | CachePoint | ToolChange


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `role` is user, assistant or system."""

    role: str
    at: str
    blocks: list[Block]
