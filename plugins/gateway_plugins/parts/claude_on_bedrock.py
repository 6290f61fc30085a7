"""What changes in Anthropic's dialect when Bedrock carries it.

The model and the way of answering move to the path, the API version and the betas into the body, and Bedrock refuses
members that it does not know ("Extra inputs are not permitted"). All else goes as it came. Source: bedrock.md 3.1 and
3.6; what is listed here as not taken is reported as dropped, unless that would change the meaning.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.errors import invalid
from gateway.flag import Ask, Caps, Drop, Event, Members, Target
from gateway_plugins.parts import anthropic_betas
from gateway_plugins.parts.fields import member
from gateway_plugins.parts.lenient import mapping, sequence, whole_number
from gateway_plugins.parts.to_anthropic_messages import MAX_MARKS

BEDROCK_VERSION: Final = "bedrock-2023-05-31"

NOT_TAKEN: Final = frozenset(
    {"container", "mcp_servers", "speed", "inference_geo", "diagnostics", "workspace_id", "service_tier"}
)
"""Top-level members of the Messages API that InvokeModel refuses."""

BETAS: Final = frozenset(
    {
        "advanced-tool-use-2025-11-20", "compact-2026-01-12", "computer-use-2025-01-24", "computer-use-2025-11-24",
        "context-1m-2025-08-07", "context-management-2025-06-27", "dangerous-tool-use-2026-09-03", "effort-2025-11-24",
        "fine-grained-tool-streaming-2025-05-14",
        "mid-conversation-output-config-2026-07-01", "mid-conversation-tool-changes-2026-07-01",
        "thinking-binding-controls-2026-08-01", "thinking-display-updates-2026-08-18", "tool-examples-2025-10-29",
        "tool-search-tool-2025-10-19",
    }
)  # fmt: skip
"""Betas of an `anthropic-beta` header that InvokeModel takes in the body; others end in "invalid beta flag"."""

INTERLEAVED: Final = "interleaved-thinking-2025-05-14"
"""Thinking between calls. LiteLLM's map leaves it out on InvokeModel, while Claude Code in its Bedrock mode sends it in
the body, and claude-code#49370 calls it the only beta that Opus 4.7 takes. So a body keeps it, and from a header it is
taken where it changes something: a budget to think with, and tools to call in between. Adaptive thinking needs none.
"""

_REWRITTEN: Final[Mapping[str, tuple[str, ...]]] = {
    "advanced-tool-use-2025-11-20": ("tool-search-tool-2025-10-19", "tool-examples-2025-10-29"),
}
_FINE_GRAINED: Final = "fine-grained-tool-streaming-2025-05-14"
_EDITS_NOT_TAKEN: Final = ("clear_thinking_20251015",)
_UNMARKED: Final = ("thinking", "redacted_thinking")
_USUAL_TTL: Final = "5m"
"""What no ttl means."""
_SERVER_TOOLS: Final = ("web_search_", "web_fetch_", "code_execution_", "mcp_toolset")
_TIERS: Final = {"flex": "flex", "priority": "priority"}


def with_version(top: Members, target: Target) -> bytes:
    """An InvokeModel body as it came, but for an `anthropic_version` that the model is known not to take.

    Anthropic's SDKs from 2.0 on send "2026-10-21", which Claude 4.6 and older refuse on Bedrock.
    """
    versions = target.caps.anthropic_versions
    if not versions or "anthropic_version" not in top or top.decode("anthropic_version") in versions:
        return top.body
    return top.spliced({"anthropic_version": orjson.dumps(versions[0])})


def body(ask: Ask, target: Target, drop: Drop) -> bytes:
    """The InvokeModel body of a Messages request. Raises `Refused` for tools that only Anthropic's servers run."""
    top = ask.top
    changes: dict[str, bytes | None] = {"model": None, "stream": None}
    for name in NOT_TAKEN & top.keys():
        changes[name] = None
        if not (name == "service_tier" and _tier(top)):
            drop(f"/{name}")
    versions = target.caps.anthropic_versions or (BEDROCK_VERSION,)
    if top.decode("anthropic_version") not in versions:
        changes["anthropic_version"] = orjson.dumps(versions[0])
    betas = _betas(ask, drop)
    parts = _Parts(top)
    _tools(parts, betas)
    _cache_controls(parts, target.caps, drop)
    if "cache_control" in top:
        changes["cache_control"] = None
        _automatic_cache(parts, target.caps, drop)
    changes |= _context_management(top, drop) | parts.changes()
    if betas:
        changes["anthropic_beta"] = orjson.dumps(betas)
    return top.spliced(changes)


def headers(ask: Ask, drop: Drop) -> dict[str, str]:
    """The service tier, which Bedrock takes as a header."""
    _ = drop
    tier = _tier(ask.top)
    return {"x-amzn-bedrock-service-tier": tier} if tier else {}


def _tier(top: Members) -> str:
    return _TIERS.get(str(top.decode("service_tier")), "")


def count_tokens_body(ask: Ask, target: Target, drop: Drop) -> bytes:
    """CountTokens takes a whole InvokeModel body, for which a limit on the output is demanded."""
    inner = Members(body(ask, target, drop))
    if "max_tokens" not in inner:
        inner = Members(inner.spliced({"max_tokens": b"1"}))
    encoded = base64.b64encode(inner.body).decode()
    return orjson.dumps({"input": {"invokeModel": {"body": encoded}}})


class _Parts:
    """Members that are changed in place, each decoded once, so that one change does not undo another."""

    def __init__(self, top: Members) -> None:
        self.top = top
        self._values: dict[str, Any] = {}
        self._changed: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            self._values[name] = member(self.top, name)
        return self._values[name]

    def change(self, name: str) -> None:
        self._changed.add(name)

    def changes(self) -> dict[str, bytes | None]:
        return {name: orjson.dumps(self._values[name]) for name in sorted(self._changed)}


def _betas(ask: Ask, drop: Drop) -> list[str]:
    """The body's betas as they are, then those of the header that Bedrock takes."""
    betas = anthropic_betas.of_body(ask.top)
    for name in anthropic_betas.of_header(ask.headers):
        if name in betas:
            continue
        if name not in BETAS and not (name == INTERLEAVED and _may_interleave(ask.top)):
            drop(f"/anthropic-beta/{name}")
            continue
        betas += [beta for beta in _REWRITTEN.get(name, (name,)) if beta not in betas]
    return betas


def _may_interleave(top: Members) -> bool:
    return mapping(member(top, "thinking")).get("type") == "enabled" and bool(member(top, "tools"))


def _tools(parts: _Parts, betas: list[str]) -> None:
    for index, tool in enumerate(sequence(parts["tools"])):
        if not isinstance(tool, dict):
            continue
        if str(tool.get("type", "")).startswith(_SERVER_TOOLS):
            what = f'"{tool.get("name")}" ({tool["type"]})'
            message = f"tools[{index}]: {what} runs on Anthropic's own servers, not on Bedrock"
            raise invalid(message, f"tools[{index}]")
        if tool.get("eager_input_streaming") and _FINE_GRAINED not in betas:
            betas.append(_FINE_GRAINED)
        if isinstance(tool.get("custom"), dict):
            tool.update(tool.pop("custom"))
            parts.change("tools")
        schema = tool.get("input_schema")
        if isinstance(schema, dict) and schema.get("type") == "custom":
            schema["type"] = "object"
            parts.change("tools")


def _context_management(top: Members, drop: Drop) -> dict[str, bytes | None]:
    management = member(top, "context_management") if "context_management" in top else None
    if not isinstance(management, dict):
        return {}
    edits = sequence(management.get("edits"))
    kept = [edit for edit in edits if mapping(edit).get("type") not in _EDITS_NOT_TAKEN]
    if len(kept) == len(edits):
        return {}
    drop("/context_management/edits")
    return {"context_management": orjson.dumps({**management, "edits": kept}) if kept else None}


def _cache_controls(parts: _Parts, caps: Caps, drop: Drop) -> None:
    """What of cache marks is refused; members without any are not even decoded."""
    suspects = (b'"scope"',) if caps.cache_ttl else (b'"scope"', b'"ttl"')
    for name in ("system", "messages", "tools"):
        raw = parts.top.get(name, b"")
        if any(suspect in raw for suspect in suspects) and _cleaned_inside(parts[name], f"/{name}", caps, drop):
            parts.change(name)


def _cleaned_inside(value: Any, path: str, caps: Caps, drop: Drop) -> bool:
    found = False
    if isinstance(value, dict):
        control = value.get("cache_control")
        if isinstance(control, dict):
            found = _cleaned(control, f"{path}/cache_control", caps, drop)
        return _cleaned_inside(value.get("content"), f"{path}/content", caps, drop) or found
    if isinstance(value, list):
        for index, item in enumerate(value):
            found = _cleaned_inside(item, f"{path}/{index}", caps, drop) or found
    return found


def _cleaned(control: dict[str, Any], path: str, caps: Caps, drop: Drop) -> bool:
    """Take out the scope, and a lifetime where the model has only the usual one; true if anything was."""
    refused = [name for name in ("scope", "ttl") if name in control and not (name == "ttl" and caps.cache_ttl)]
    for name in refused:
        if control.pop(name) != _USUAL_TTL:
            drop(f"{path}/{name}")
    return bool(refused)


def _automatic_cache(parts: _Parts, caps: Caps, drop: Drop) -> None:
    """The top-level `cache_control`, which Bedrock does not know, as the mark that Anthropic sets for it."""
    control = member(parts.top, "cache_control")
    if control is None:
        return
    if not isinstance(control, dict):
        raise invalid("cache_control must be an object", "cache_control")
    _cleaned(control, "/cache_control", caps, drop)
    block = _last_block(parts["messages"])
    if block is None or not caps.cache_points:
        drop("/cache_control")
        return
    if block.get("cache_control") is not None:  # marked by the client itself
        return
    if sum(_marks(parts[name]) for name in ("system", "messages", "tools")) >= MAX_MARKS:
        drop("/cache_control")
        return
    block["cache_control"] = control
    parts.change("messages")


def _last_block(messages: Any) -> dict[str, Any] | None:
    """The last block that can carry a mark: no thinking, no blank text. A content that is a string becomes a block."""
    for message in map(mapping, reversed(sequence(messages))):
        content = message.get("content")
        if isinstance(content, str) and content.strip():
            message["content"] = content = [{"type": "text", "text": content}]
        for block in map(mapping, reversed(sequence(content))):
            blank = block.get("type") == "text" and not str(block.get("text", "")).strip()
            if block and not blank and block.get("type") not in _UNMARKED:
                return block
    return None


def _marks(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(_marks, value))
    if not isinstance(value, dict):
        return 0
    return (value.get("cache_control") is not None) + _marks(value.get("content"))


def completed(event: Event, start: Mapping[str, Any], metrics: Mapping[str, Any]) -> Event:
    """A `message_delta` with the token counts that Anthropic puts there and Bedrock only elsewhere (new-api#2881)."""
    data = mapping(event.data)
    reported = mapping(data.get("usage"))
    usage = dict(reported)
    for name, metric in _COUNTS.items():
        known = max(whole_number(start.get(name)), whole_number(metrics.get(metric)))
        if known > whole_number(usage.get(name)):
            usage[name] = known
    if usage == reported:
        return event
    return Event(event.kind, orjson.dumps({**data, "usage": usage}), event.raw)


_COUNTS: Final[Mapping[str, str]] = {
    "input_tokens": "inputTokenCount",
    "cache_read_input_tokens": "cacheReadInputTokenCount",
    "cache_creation_input_tokens": "cacheWriteInputTokenCount",
}
