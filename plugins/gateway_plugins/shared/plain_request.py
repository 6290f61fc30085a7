"""Classes for a request of Chat Completions, Responses or generateContent, after it is read and before it is mapped.

- Requests of these dialects have the same content, so all are read into these classes. Each provider's dialect has one
  mapping from these classes: `mappings/plain_to_*.py`.
- `at` is the JSON pointer of a value in the client's body.
- The readers are the modules `read` and `read_options` of each dialect.
- Requests of Messages and Converse may have content for which these classes have no fields. Such requests are mapped
  directly to each provider's dialect, block by block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.contract.flag import Drop, Target
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
    mark: str = "cache_control"
    """Name of the field in which the client set the cache breakpoint."""

    @property
    def ttl_at(self) -> str:
        """JSON pointer of the client's field that sets a cache breakpoint after this part."""
        return f"{self.at}/{self.mark}"


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call of an earlier assistant turn."""

    at: str
    id: str
    name: str
    input: dict[str, Any]
    ttl: Ttl = None

    @property
    def ttl_at(self) -> str:
        """JSON pointer of the client's field that sets a cache breakpoint after this tool call."""
        return f"{self.at}/cache_control"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the conversation."""

    role: str
    """The role: system, user, assistant or tool."""
    at: str
    """JSON pointer of the message."""
    content: Sequence[Part | Call | Reasoning]
    """Content in the client's order. Calls and thinking occur only in a message of the assistant."""
    ttl: Ttl = None
    call_id: str = ""
    """Id of the call that a tool's message answers."""
    call_at: str = ""
    """JSON pointer of the client's field from which `call_id` was read."""
    is_error: bool = False
    """True if the call failed. Only requests of generateContent can state this."""

    @property
    def ttl_at(self) -> str:
        """JSON pointer of the message's cache breakpoint."""
        return f"{self.at}/cache_control"


@dataclass(frozen=True, slots=True)
class Format:
    """The format in which the client wants the answer."""

    kind: str = "text"
    """One of text, json_object and json_schema."""
    at: str = "/response_format"
    """JSON pointer of the client's field for the format."""
    json: JsonFormat | None = None
    """The schema, with its name and description. It is None if the kind is not json_schema."""


@dataclass(frozen=True, slots=True)
class PlainRequest:
    """A client's request of Chat Completions, Responses or generateContent, in one form for all three."""

    messages: Sequence[Message]
    tools: OfferedTools
    format: Format
    parameters: Parameters
    tier: str = ""
    """The service tier `flex` or `priority`. It is "" for the default tier."""
    tier_at: str = "/service_tier"
    """JSON pointer of the tier."""
    ttl: Ttl = None
    """Lifetime of the cache entry of the whole prompt, from the top-level `cache_control` of a Chat body."""
    chat_members: Mapping[str, float] = field(default_factory=dict)
    """Seed and penalties. The keys are the field names in Chat. Messages and Converse have no such fields."""
    chat_members_at: Mapping[str, str] = field(default_factory=dict)
    """JSON pointers of seed and penalties in the client's request. The keys are the names in Chat.

    A field that has the same name in the client's dialect is not listed."""
    guardrail: Mapping[str, Any] = field(default_factory=dict)
    """Bedrock's `guardrailConfig`. Some clients send it in a Chat body for a provider at Bedrock."""

    def chat_member_at(self, name: str) -> str:
        """Return the JSON pointer of the client's field for a seed or penalty. `name` is the field's name in Chat."""
        return self.chat_members_at.get(name, f"/{name}")


@dataclass(frozen=True, slots=True)
class ConvertedRequest:
    """The body for the provider, with the aliases of tools that are needed to read the provider's reply."""

    body: dict[str, Any]
    names: Names
    schema_tool: str
    """Name of the schema tool, whose input is the formatted answer. It is "" if there is no such tool."""


class Convert(Protocol):
    """A function that maps a request to a body in an upstream dialect (`mappings/plain_to_*.py`)."""

    def __call__(self, request: PlainRequest, target: Target, drop: Drop, *, stream: bool) -> ConvertedRequest: ...
