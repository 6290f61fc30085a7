"""What changes in Anthropic's dialect when Bedrock carries it.

The model and the way of answering move to the path, the API version and the betas into the body, and Bedrock refuses
members that it does not know ("Extra inputs are not permitted"). All else goes as it came. Source: bedrock.md 3.1 and
3.6; what is listed here as not taken is reported as dropped, unless that would change the meaning.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from gateway.errors import invalid
from gateway.flag import Ask, Drop, Event, Members, Target
from gateway_plugins.parts.fields import member
from gateway_plugins.parts.lenient import mapping, sequence, whole_number

BEDROCK_VERSION: Final = "bedrock-2023-05-31"

NOT_TAKEN: Final = frozenset(
    {"container", "mcp_servers", "speed", "inference_geo", "diagnostics", "workspace_id", "service_tier"}
)
"""Top-level members of the Messages API that InvokeModel refuses."""

BETAS: Final = frozenset(
    {
        "advanced-tool-use-2025-11-20", "compact-2026-01-12", "computer-use-2025-01-24", "computer-use-2025-11-24",
        "context-1m-2025-08-07", "context-management-2025-06-27", "dangerous-tool-use-2026-09-03", "effort-2025-11-24",
        "fine-grained-tool-streaming-2025-05-14", "interleaved-thinking-2025-05-14",
        "mid-conversation-output-config-2026-07-01", "mid-conversation-tool-changes-2026-07-01",
        "thinking-binding-controls-2026-08-01", "thinking-display-updates-2026-08-18", "tool-examples-2025-10-29",
        "tool-search-tool-2025-10-19",
    }
)  # fmt: skip
"""Betas of an `anthropic-beta` header that InvokeModel takes in the body; others end in "invalid beta flag"."""

_REWRITTEN: Final[Mapping[str, tuple[str, ...]]] = {
    "advanced-tool-use-2025-11-20": ("tool-search-tool-2025-10-19", "tool-examples-2025-10-29"),
}
_FINE_GRAINED: Final = "fine-grained-tool-streaming-2025-05-14"
_EDITS_NOT_TAKEN: Final = ("clear_thinking_20251015",)
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
    changes |= _tools(top, betas)
    changes |= _context_management(top, drop)
    changes |= _cache_scopes(top, drop)
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


def _betas(ask: Ask, drop: Drop) -> list[str]:
    """The body's betas as they are, then those of the header that Bedrock takes."""
    given = ask.top.decode("anthropic_beta") or []
    if not isinstance(given, list) or not all(isinstance(beta, str) for beta in given):
        raise invalid("anthropic_beta: is a list of names of betas, as strings", "anthropic_beta")
    betas = list(given)
    for name in (part.strip(' "[]') for part in ask.headers.get("anthropic-beta", "").split(",")):
        if not name:
            continue
        if name not in BETAS:
            drop(f"/anthropic-beta/{name}")
            continue
        betas += [beta for beta in _REWRITTEN.get(name, (name,)) if beta not in betas]
    return betas


def _tools(top: Members, betas: list[str]) -> dict[str, bytes | None]:
    tools = member(top, "tools") if "tools" in top else None
    if not isinstance(tools, list):
        return {}
    changed = False
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict):
            continue
        if str(tool.get("type", "")).startswith(_SERVER_TOOLS):
            what = f'"{tool.get("name")}" ({tool["type"]})'
            message = f"tools[{index}]: {what} runs on Anthropic's own servers, not on Bedrock"
            raise invalid(message, f"tools[{index}]")
        if tool.get("eager_input_streaming") and _FINE_GRAINED not in betas:
            betas.append(_FINE_GRAINED)
        if isinstance(tool.get("custom"), dict):
            tools[index] = {**{name: value for name, value in tool.items() if name != "custom"}, **tool["custom"]}
            changed = True
    return {"tools": orjson.dumps(tools)} if changed else {}


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


def _cache_scopes(top: Members, drop: Drop) -> dict[str, bytes | None]:
    """`cache_control.scope` is refused; members without one are not touched."""
    changes: dict[str, bytes | None] = {}
    for name in ("system", "messages", "tools"):
        if name in top and b'"scope"' in top[name]:
            value = member(top, name)
            if _strip_scopes(value, f"/{name}", drop):
                changes[name] = orjson.dumps(value)
    return changes


def _strip_scopes(value: Any, path: str, drop: Callable[[str], None]) -> bool:
    found = False
    if isinstance(value, dict):
        control = value.get("cache_control")
        if isinstance(control, dict) and "scope" in control:
            del control["scope"]
            drop(f"{path}/cache_control/scope")
            found = True
        content = value.get("content")
        return _strip_scopes(content, f"{path}/content", drop) or found
    if isinstance(value, list):
        for index, item in enumerate(value):
            found = _strip_scopes(item, f"{path}/{index}", drop) or found
    return found


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
