"""A request of OpenAI's in plain values: the same for Chat Completions and for Responses.

- Both are dialects of one vendor for one conversation, so both are read into these values, and each upstream dialect
  has one mapping from them: `mappings/openai_to_*.py`.
- Each value carries its JSON pointer in the client's own body.
- The readers are `dialects/openai_chat/read.py` and `dialects/openai_responses/read.py`.
- Requests of Messages and Converse are not read into these values, because they say more than these values hold. Each
  pair of those dialects is mapped directly, block by block.

Nothing here reads a request or decides on one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway_plugins.shared.fields import Ttl
from gateway_plugins.shared.media import Media
from gateway_plugins.shared.offered_tools import OfferedTools
from gateway_plugins.shared.output_format import JsonFormat
from gateway_plugins.shared.reasoning import Reasoning
from gateway_plugins.shared.settings import Parameters
from gateway_plugins.shared.tools import Names


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a message's content: a text, or a file."""

    at: str
    text: str = ""
    media: Media | None = None
    ttl: Ttl = None


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call of an earlier assistant turn."""

    at: str
    id: str
    name: str
    input: dict[str, Any]
    ttl: Ttl = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the conversation."""

    role: str
    """One of system, user, assistant and tool."""
    at: str
    """JSON pointer of the message."""
    content: Sequence[Part | Call | Reasoning]
    """Content in the client's order. Only an assistant's message has calls and thinking."""
    ttl: Ttl = None
    call_id: str = ""
    """Id of the call that a tool's message answers."""


@dataclass(frozen=True, slots=True)
class Format:
    """The answer's format."""

    kind: str = "text"
    """One of text, json_object and json_schema."""
    at: str = "/response_format"
    """JSON pointer of the format."""
    json: JsonFormat | None = None
    """The schema and its names; None unless the kind is json_schema."""


@dataclass(frozen=True, slots=True)
class OpenAIRequest:
    """A whole request."""

    messages: Sequence[Message]
    tools: OfferedTools
    format: Format
    parameters: Parameters
    tier: str = ""
    """`flex`, `priority`, or "" for the usual tier."""
    ttl: Ttl = None
    """Lifetime of a cache breakpoint on the whole prompt (`cache_control` at Chat's top)."""
    guardrail: Mapping[str, Any] = field(default_factory=dict)
    """Bedrock's `guardrailConfig`, which clients that know their provider send in Chat's bodies."""


@dataclass(frozen=True, slots=True)
class ConvertedRequest:
    """The body that a request becomes, and the names by which its reply must be read."""

    body: dict[str, Any]
    names: Names
    schema_tool: str
    """Name of the schema tool; "" if there is none."""
