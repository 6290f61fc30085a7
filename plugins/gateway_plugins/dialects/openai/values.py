"""What a client of OpenAI's asks for, in plain values: the same for Chat Completions and for Responses.

The two are one vendor's dialects for one conversation: messages, tools, a choice among them, a format, an effort. Their
readers (`dialects/openai_chat/read.py`, `dialects/openai_responses/read.py`) put a request into these values, each
value with its JSON pointer in the client's own body; what becomes of them at a provider belongs to `openai_to_*.py`.
Nothing here reads or decides, and no other dialect is read into this: Anthropic's and Converse's requests say more than
it holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway_plugins.shared.fields import Ttl
from gateway_plugins.shared.media import Media
from gateway_plugins.shared.reasoning import Reasoning
from gateway_plugins.shared.settings import ThinkingRequest
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
    """A tool call of an earlier assistant turn; `input` is always an object."""

    at: str
    id: str
    name: str
    input: dict[str, Any]
    ttl: Ttl = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `role` is system, user, assistant or tool; `at` its JSON pointer."""

    role: str
    at: str
    content: Sequence[Part | Call | Reasoning]
    """In order; calls and thinking are the assistant's."""
    ttl: Ttl = None
    call_id: str = ""
    """Of a tool message: whose result it is."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the client offers."""

    at: str
    name: str
    description: str
    schema: Any
    """As it came; None if there is none."""
    schema_at: str
    strict: bool
    strict_at: str
    ttl: Ttl = None


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`mode` is auto, none, any or tool; `name` belongs to the last."""

    mode: str = "auto"
    name: str = ""
    allowed: tuple[str, ...] | None = None
    """The only tools that may be called (`allowed_tools`); None if all may."""


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools that may be called, and the choice among them."""

    offered: list[Tool]
    mode: str
    """auto, none, any or tool."""
    name: str
    """The demanded one, as the client calls it."""
    path: str
    """Where the client made the choice."""
    parallel: bool


@dataclass(frozen=True, slots=True)
class Format:
    """The answer's format: kind is text, json_object or json_schema; the rest belongs to the last."""

    kind: str = "text"
    name: str = ""
    description: str = ""
    schema: Any = None
    strict: bool | None = None
    at: str = "/response_format"
    schema_at: str = "/response_format/json_schema/schema"


@dataclass(frozen=True, slots=True)
class OpenAIRequest:
    """A whole request."""

    messages: Sequence[Message]
    tools: Tools
    thinking: ThinkingRequest
    format: Format
    limit: int | None
    """Of the output, in tokens."""
    limit_at: str
    """JSON pointer of the limit."""
    sampling: Mapping[str, float]
    """temperature, top_p and top_k, as far as they are given."""
    tier: str = ""
    """`flex`, `priority`, or "" for the usual one."""
    stops: Sequence[str] = ()
    ttl: Ttl = None
    """A cache mark on the whole prompt (`cache_control` at Chat's top)."""
    guardrail: Mapping[str, Any] = field(default_factory=dict)
    """Bedrock's `guardrailConfig`, which clients that know where they talk to send in Chat's bodies."""


@dataclass(frozen=True, slots=True)
class ConvertedRequest:
    """The body that a request becomes, and what its reply must be read with."""

    body: dict[str, Any]
    names: Names
    schema_tool: str
    """The tool that stands in for structured output; "" if none does."""
