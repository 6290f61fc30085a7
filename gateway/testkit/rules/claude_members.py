"""Tables of the fields that Anthropic's Messages API accepts on api.anthropic.com and on Bedrock.

`Known.faults` checks a value against a table. Anthropic refuses unknown fields ("Extra inputs are not permitted"). If
it is not known whether Anthropic accepts a field, the tables contain the field. Rules about several fields are in
`claude.py`.

Sources: Anthropic's API reference, LiteLLM's lists for Bedrock, and the requests of Claude Code 2.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Types = type | tuple[type, ...]

_EXTRA: Final = "Extra inputs are not permitted"
_NAMES: Final[Mapping[type, str]] = {
    str: "a valid string",
    int: "a valid integer",
    float: "a valid number",
    bool: "a valid boolean",
    list: "a valid list",
    dict: "a valid dictionary",
}
_ANY: Final = (str, int, float, bool, list, dict)
_NUMBER: Final = (float, int)


@dataclass(frozen=True, slots=True)
class Known:
    """The required and the optional fields of an object, with their types. An optional field may be null."""

    required: Mapping[str, Types] = field(default_factory=dict)
    optional: Mapping[str, Types] = field(default_factory=dict)

    def faults(self, value: Any, at: str) -> Iterator[str]:
        """Yield a fault for each missing, unknown or wrongly typed field of `value`.

        `at` is the path of `value` in the body. It is "" if `value` is the whole body.
        """
        if not isinstance(value, dict):
            yield f"{at or 'body'}: Input should be a valid dictionary"
            return
        inside = f"{at}." if at else ""
        yield from (f"{inside}{name}: Field required" for name in self.required if name not in value)
        for name, item in value.items():
            types = self.required.get(name) or self.optional.get(name)
            if types is None:
                yield f"{inside}{name}: {_EXTRA}"
            elif not _is(item, types) and not (item is None and name in self.optional):
                first = types if isinstance(types, type) else types[0]
                yield f"{inside}{name}: Input should be {_NAMES[first]}"


def _is(value: Any, types: Types) -> bool:
    """Return whether a value has one of the types. As in JSON, a boolean is no integer."""
    allowed = types if isinstance(types, tuple) else (types,)
    return isinstance(value, allowed) and (bool in allowed or not isinstance(value, bool))


def wrong_tag(tag: Any, at: str, expected: Any) -> str:
    tags = ", ".join(f"'{name}'" for name in sorted(expected))
    return f"{at}: Input tag '{tag}' found using 'type' does not match any of the expected tags: {tags}"


MESSAGE: Final = Known({"role": str, "content": (str, list)})

_CACHED: Final = {"cache_control": dict}
BLOCKS: Final[Mapping[str, Known]] = {
    "text": Known({"type": str, "text": str}, {**_CACHED, "citations": list}),
    "image": Known({"type": str, "source": dict}, _CACHED),
    "document": Known({"type": str, "source": dict}, {**_CACHED, "title": str, "context": str, "citations": dict}),
    "search_result": Known({"type": str, "source": str, "title": str, "content": list}, {**_CACHED, "citations": dict}),
    "tool_use": Known({"type": str, "id": str, "name": str, "input": dict}, {**_CACHED, "caller": dict}),
    "tool_result": Known({"type": str, "tool_use_id": str}, {**_CACHED, "content": (str, list), "is_error": bool}),
    "thinking": Known({"type": str, "thinking": str, "signature": str}),
    "redacted_thinking": Known({"type": str, "data": str}),
}
IN_RESULTS: Final = frozenset({"text", "image", "document", "search_result", "tool_reference"})
ROLES: Final[Mapping[str, str]] = {
    "image": "user",
    "document": "user",
    "search_result": "user",
    "tool_result": "user",
    "tool_use": "assistant",
    "server_tool_use": "assistant",
    "thinking": "assistant",
    "redacted_thinking": "assistant",
}
SOURCES: Final[Mapping[str, Known]] = {
    "base64": Known({"type": str, "media_type": str, "data": str}),
    "text": Known({"type": str, "media_type": str, "data": str}),
    "content": Known({"type": str, "content": (str, list)}),
    "url": Known({"type": str, "url": str}),
    "file": Known({"type": str, "file_id": str}),
}
CUSTOM_TOOL: Final = Known(
    {"name": str, "input_schema": dict},
    {
        **_CACHED, "type": str, "description": str, "strict": bool, "defer_loading": bool,
        "eager_input_streaming": bool, "input_examples": list, "allowed_callers": list,
    },
)  # fmt: skip
TOOL_CHOICES: Final[Mapping[str, Known]] = {
    "auto": Known({"type": str}, {"disable_parallel_tool_use": bool}),
    "any": Known({"type": str}, {"disable_parallel_tool_use": bool}),
    "tool": Known({"type": str, "name": str}, {"disable_parallel_tool_use": bool}),
    "none": Known({"type": str}),
}
INNER: Final[Mapping[str, Known]] = {
    "metadata": Known({}, {"user_id": str}),
    "output_config": Known({}, {"effort": str, "format": dict, "task_budget": dict}),
    "context_management": Known({}, {"edits": list}),
}
"""The known fields of the objects `metadata`, `output_config` and `context_management` in the body."""

_BODY: Final[Mapping[str, Types]] = {
    "context_management": dict, "metadata": dict, "output_config": dict, "output_format": dict, "safeguards": _ANY,
    "stop_sequences": list, "system": (str, list), "temperature": _NUMBER, "thinking": dict, "tool_choice": dict,
    "tools": list, "top_k": int, "top_p": _NUMBER, "user_profile_id": str,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Platform:
    """The fields and types that one of two platforms accepts: api.anthropic.com or Bedrock. Only the differences are
    here.
    """

    body: Known
    cache_control: Known
    image_sources: frozenset[str]
    document_sources: frozenset[str]
    other_blocks: frozenset[str]
    """Types of blocks that are accepted without a check of their fields. Most of these blocks belong to server tools.
    """
    typed_tools: tuple[str, ...]
    """Prefixes of the types of Anthropic's own tools. Their schemas are not in the request."""
    edits: tuple[str, ...]
    """Prefixes of the allowed types of edits in `context_management`."""


_TOOL_SEARCH: Final = frozenset({"compaction", "server_tool_use", "tool_reference", "tool_search_tool_result"})
_CLIENT_TOOLS: Final = ("bash_", "computer_", "memory_", "text_editor_", "tool_search_tool_")

BEDROCK: Final = Platform(
    body=Known(
        {"anthropic_version": str, "max_tokens": int, "messages": list},
        {**_BODY, "anthropic_beta": list, "amazon-bedrock-guardrailConfig": dict},
    ),
    cache_control=Known({"type": str}, {"ttl": str}),
    image_sources=frozenset({"base64"}),
    document_sources=frozenset({"base64", "text", "content"}),
    other_blocks=_TOOL_SEARCH,
    typed_tools=_CLIENT_TOOLS,
    edits=("clear_tool_uses_", "compact_"),
)
ANTHROPIC: Final = Platform(
    body=Known(
        {"model": str, "max_tokens": int, "messages": list},
        {
            **_BODY, **_CACHED, "container": (dict, str), "diagnostics": dict, "inference_geo": str,
            "mcp_servers": list, "service_tier": str, "speed": str, "stream": bool, "workspace_id": str,
        },
    ),
    cache_control=Known({"type": str}, {"ttl": str, "scope": str}),
    image_sources=frozenset({"base64", "url", "file"}),
    document_sources=frozenset({"base64", "text", "content", "url", "file"}),
    other_blocks=_TOOL_SEARCH
    | {
        "bash_code_execution_tool_result", "code_execution_tool_result", "container_upload", "mcp_tool_result",
        "mcp_tool_use", "text_editor_code_execution_tool_result", "web_fetch_tool_result", "web_search_tool_result",
    },
    typed_tools=(*_CLIENT_TOOLS, "code_execution_", "mcp_toolset", "web_fetch_", "web_search_"),
    edits=("clear_thinking_", "clear_tool_uses_", "compact_"),
)  # fmt: skip
