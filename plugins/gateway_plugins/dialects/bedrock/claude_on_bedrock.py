"""What changes in Anthropic's dialect when Bedrock carries it.

The model and the way of answering move to the path, the API version and the betas into the body, and Bedrock refuses
members that it does not know ("Extra inputs are not permitted"). All else goes as it came. Messages are in
`claude_messages.py`, parameters in `claude_settings.py`. Source: bedrock.md 3.1 and 3.6; what is listed here as not
taken is reported as dropped, unless that would change the meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.contract.errors import invalid
from gateway.contract.flag import COUNT_TOKENS, Caps, ClientRequest, Drop, Event, Members, Target
from gateway_plugins.dialects.anthropic_messages import betas as messages_betas
from gateway_plugins.dialects.anthropic_messages.demand import MAX_CACHE_BREAKPOINTS
from gateway_plugins.dialects.anthropic_messages.read_options import REFUSED_MEMBERS
from gateway_plugins.dialects.bedrock import claude_messages, claude_settings, tagged_history
from gateway_plugins.shared.checks import refuse
from gateway_plugins.shared.lenient import mapping, sequence, whole_number
from gateway_plugins.shared.members_in_place import EditedMembers

BEDROCK_VERSION: Final = "bedrock-2023-05-31"

_NOT_TAKEN: Final[Mapping[str, tuple[Any, ...]]] = {
    # top-level members of the Messages API that InvokeModel refuses: values that ask for nothing
    "container": (),
    "mcp_servers": ([],),
    "speed": ("standard",),
    "inference_geo": (),
    "diagnostics": (),
    "workspace_id": (),
    "billing_policy": ({"type": "billing_policy", "bill_to": "self"},),
    "fallbacks": ([],),
    "fallback_credit_token": (),
    "service_tier": ("auto", "standard_only", "default", "standard"),
}
_MEANING: Final = {name: REFUSED_MEMBERS[name] for name in ("mcp_servers", "thread")}
_INTERLEAVED: Final = "interleaved-thinking-2025-05-14"
"""Thinking between calls: from a header it is taken where it changes something, which is a budget to think with, and
tools to call in between. Adaptive thinking needs none. A body keeps it (`dialects/anthropic_messages/betas.json`)."""

_EDITS_NOT_TAKEN: Final = ("clear_thinking_20251015",)
_UNMARKED: Final = ("thinking", "redacted_thinking")
_USUAL_TTL: Final = "5m"
"""What no ttl means."""
_SERVER_TOOLS: Final = ("advisor_", "code_execution_", "mcp_toolset", "web_fetch_", "web_search_")
_TIERS: Final = ("flex", "priority", "reserved")


def native_body(top: Members, target: Target, drop: Drop) -> bytes:
    """An InvokeModel body as it came, but for what is known to be refused, and for what is ours.

    Anthropic's SDKs from 2.0 on send the version "2026-10-21", which Claude 4.6 and older refuse on Bedrock. Betas go
    where the configuration drops them, and our tag on thinking does.
    """
    changes: dict[str, bytes | None] = {}
    versions = target.caps.anthropic_versions
    if versions and "anthropic_version" in top and top.decode("anthropic_version") not in versions:
        changes["anthropic_version"] = orjson.dumps(versions[0])
    changes |= tagged_history.of_messages(top, target.caps.family, drop)
    if messages_betas.drops_any(target.options) and messages_betas.MEMBER in top:
        given = messages_betas.body_betas(top)
        kept = messages_betas.remove_dropped(given, target.options, drop)
        if kept != given:
            changes[messages_betas.MEMBER] = orjson.dumps(kept) if kept else None
    return top.spliced(changes) if changes else top.body


def body(ask: ClientRequest, target: Target, drop: Drop) -> bytes:
    """The InvokeModel body of a Messages request.

    Raises `Refused` for tools that only Anthropic's servers run, for a conversation that only they have, for sources
    that Bedrock would have to fetch, and for members of a wrong type.
    """
    top = ask.top
    refuse(top, _MEANING, _NOT_TAKEN)
    changes: dict[str, bytes | None] = {"model": None, "stream": None}
    for name in _NOT_TAKEN.keys() & top.keys():
        changes[name] = None
        value = top.decode(name)
        if value is not None and value not in _NOT_TAKEN[name] and not (name == "service_tier" and _tier(top)):
            drop(f"/{name}")
    versions = target.caps.anthropic_versions or (BEDROCK_VERSION,)
    if top.decode("anthropic_version") not in versions:
        changes["anthropic_version"] = orjson.dumps(versions[0])
    parts = EditedMembers(top)
    betas = _betas(ask, target, parts, drop)
    _messages(parts, target.caps, drop)
    _tools(parts, betas)
    changes |= _context_management(parts, betas, drop)
    changes |= claude_settings.apply(parts, target, betas, drop)
    if ask.operation == COUNT_TOKENS and "max_tokens" not in top:
        changes["max_tokens"] = orjson.dumps(claude_settings.least_limit(parts))
    _cache_controls(parts, target.caps, drop)
    if "cache_control" in top:
        changes["cache_control"] = None
        _automatic_cache(parts, target.caps, drop)
    changes |= parts.changes()
    if betas or messages_betas.MEMBER in top:
        changes[messages_betas.MEMBER] = orjson.dumps(betas) if betas else None
    return top.spliced(changes)


def headers(ask: ClientRequest) -> dict[str, str]:
    """The service tier, which Bedrock takes as a header."""
    tier = _tier(ask.top)
    return {"x-amzn-bedrock-service-tier": tier} if tier else {}


def _tier(top: Members) -> str:
    tier = top.decode("service_tier")
    return tier if tier in _TIERS else ""


def _betas(ask: ClientRequest, target: Target, parts: EditedMembers, drop: Drop) -> list[str]:
    """The body's betas, then those of the header that Bedrock takes. `allow` of the configuration stands above both."""
    betas = messages_betas.remove_dropped(messages_betas.body_betas(ask.top), target.options, drop)
    header = [name for name in messages_betas.header_betas(ask.headers) if name not in betas]
    if _INTERLEAVED in header and _may_interleave(parts):
        header.remove(_INTERLEAVED)
        betas += messages_betas.remove_dropped([_INTERLEAVED], target.options, drop)
    taken = messages_betas.select_betas(header, "invoke", target.options, drop)
    if ask.top.get("safeguards", b"null") != b"null":
        taken.append(messages_betas.beta_for("safeguards"))
    return list(dict.fromkeys([*betas, *taken]))


def _may_interleave(parts: EditedMembers) -> bool:
    return mapping(parts["thinking"]).get("type") == "enabled" and bool(parts["tools"])


def _messages(parts: EditedMembers, caps: Caps, drop: Drop) -> None:
    raw = parts.raw("messages")
    if tagged_history.is_tagged(raw) and tagged_history.untag_messages(parts["messages"], caps.family, drop):
        parts.change("messages")
    if any(mark in raw for mark in claude_messages.SOURCE_MARKS):
        claude_messages.refuse_sources(parts["messages"])
    if claude_messages.SYSTEM_MARK not in raw:
        return
    if any(mapping(message).get("role") == "system" for message in sequence(parts["messages"])):
        placed = claude_messages.Placed(parts["messages"], caps, drop)
        parts.put("messages", placed.messages)
        if placed.leading:
            parts.put("system", [*claude_settings.system_blocks(parts["system"]), *placed.leading])


def _tools(parts: EditedMembers, betas: list[str]) -> None:
    eager = messages_betas.beta_for("eager_input_streaming")
    for index, tool in enumerate(sequence(parts["tools"])):
        if not isinstance(tool, dict):
            continue
        if str(tool.get("type", "")).startswith(_SERVER_TOOLS):
            what = f'"{tool.get("name")}" ({tool["type"]})'
            message = f"tools[{index}]: {what} runs on Anthropic's own servers, not on Bedrock"
            raise invalid(message, f"tools[{index}]")
        if tool.get("eager_input_streaming") and eager not in betas:
            betas.append(eager)
        if isinstance(tool.get("custom"), dict):
            tool.update(tool.pop("custom"))
            parts.change("tools")
        schema = tool.get("input_schema")
        if isinstance(schema, dict) and schema.get("type") == "custom":
            schema["type"] = "object"
            parts.change("tools")
        if not str(tool.get("name") or "").strip():
            raise invalid(f"tools[{index}].name: a tool needs a name", f"tools[{index}].name")


def _context_management(parts: EditedMembers, betas: list[str], drop: Drop) -> dict[str, bytes | None]:
    management = mapping(parts["context_management"])
    edits = sequence(management.get("edits"))
    kept = [edit for edit in edits if mapping(edit).get("type") not in _EDITS_NOT_TAKEN]
    for edit in kept:
        beta = messages_betas.beta_for(str(mapping(edit).get("type")))
        if beta and beta not in betas:
            betas.append(beta)
    if len(kept) == len(edits):
        return {}
    drop("/context_management/edits")
    return {"context_management": orjson.dumps({**management, "edits": kept}) if kept else None}


def _cache_controls(parts: EditedMembers, caps: Caps, drop: Drop) -> None:
    """What of cache marks is refused; members without any are not even decoded."""
    suspects = (b'"scope"',) if caps.cache_ttl else (b'"scope"', b'"ttl"')
    members = ("system", "messages", "tools")
    if not any(suspect in parts.raw(name) for suspect in suspects for name in members):
        return
    for name in members:
        if _cleaned_inside(parts[name], f"/{name}", caps, drop):
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


def _automatic_cache(parts: EditedMembers, caps: Caps, drop: Drop) -> None:
    """The top-level `cache_control`, which Bedrock does not know, as the mark that Anthropic sets for it."""
    control = parts["cache_control"]
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
    if sum(_marks(parts[name]) for name in ("system", "messages", "tools")) >= MAX_CACHE_BREAKPOINTS:
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
