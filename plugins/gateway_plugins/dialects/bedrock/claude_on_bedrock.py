"""Changes a request in Anthropic's dialect so that InvokeModel accepts it.

- The model's name and the choice to stream move from the body to the path. The API version and the betas move from the
  headers to the body.
- Bedrock refuses fields that it does not know ("Extra inputs are not permitted"). Such a field is removed and reported
  as dropped. If removing the field would change the meaning of the request, the request is refused.
- All other fields are passed on byte for byte.

`claude_messages.py` changes the messages. `dialects/anthropic_messages/fit.py` changes the parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.contract.errors import invalid
from gateway.contract.flag import COUNT_TOKENS, Caps, ClientRequest, Drop, Event, Members, Target
from gateway_plugins.dialects.anthropic_messages import beta_members, fit
from gateway_plugins.dialects.anthropic_messages import betas as messages_betas
from gateway_plugins.dialects.anthropic_messages.demand import MAX_CACHE_BREAKPOINTS
from gateway_plugins.dialects.anthropic_messages.read_options import REFUSED_MEMBERS
from gateway_plugins.dialects.bedrock import claude_messages, tagged_history
from gateway_plugins.shared import attribution
from gateway_plugins.shared.checks import refuse
from gateway_plugins.shared.lenient import mapping, sequence, text
from gateway_plugins.shared.members_in_place import EditedMembers

BEDROCK_VERSION: Final = "bedrock-2023-05-31"

_UNKNOWN: Final[Mapping[str, tuple[Any, ...]]] = {
    # top-level field that InvokeModel refuses: values without effect, whose removal is not reported
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
_ADVICE: Final = {name: REFUSED_MEMBERS[name] for name in ("mcp_servers", "thread")}
_UNKNOWN_EDITS: Final = ("clear_thinking_20251015",)
_WITHOUT_BREAKPOINTS: Final = ("thinking", "redacted_thinking")
"""Types of blocks that cannot have a cache breakpoint."""
_DEFAULT_TTL: Final = "5m"
_SERVER_TOOLS: Final = ("advisor_", "code_execution_", "mcp_toolset", "web_fetch_", "web_search_")
_TIERS: Final = ("flex", "priority", "reserved")


def native_body(request: ClientRequest, target: Target, drop: Drop) -> bytes:
    """Return the body of an InvokeModel client's request, with only these changes:

    - An API version that the model does not accept is replaced. Anthropic's SDKs from 2.0 on send "2026-10-21". Claude
      4.6 and older refuse this version on Bedrock.
    - Betas that the configuration drops, or that Bedrock has refused before, are removed with their fields.
    - The model-family tags that the gateway put on thinking signatures are removed (`tagged_history.py`).
    """
    top = request.top
    changes = beta_members.native_changes(top, target.options, request.without, drop)
    if changes:
        top = Members(top.spliced(changes))
    changes = {}
    versions = target.caps.anthropic_versions
    if versions and "anthropic_version" in top and top.small("anthropic_version") not in versions:
        changes["anthropic_version"] = orjson.dumps(versions[0])
    changes |= tagged_history.of_messages(top, target, drop)
    return top.spliced(changes) if changes else top.body


def body(request: ClientRequest, target: Target, drop: Drop) -> bytes:
    """Return the InvokeModel body of a Messages request.

    Raises `Refused` for:

    - a tool that runs on Anthropic's servers, or a conversation that is stored there (`thread`);
    - a file that Bedrock would have to fetch;
    - a field of a wrong type.
    """
    top = request.top
    refuse(top, _ADVICE, _UNKNOWN)
    changes: dict[str, bytes | None] = {"model": None, "stream": None}
    for name in _UNKNOWN.keys() & top.keys():
        changes[name] = None
        value = top.decode(name)
        if value is not None and value not in _UNKNOWN[name] and not (name == "service_tier" and _tier(top)):
            drop(f"/{name}")
    versions = target.caps.anthropic_versions or (BEDROCK_VERSION,)
    if top.decode("anthropic_version") not in versions:
        changes["anthropic_version"] = orjson.dumps(versions[0])
    edited = EditedMembers(top)
    target = messages_betas.able(target, request.without)
    needed = fit.apply(edited, target, messages_betas.request_betas(request), drop, on_bedrock=True)
    betas = list(dict.fromkeys([*_betas(request, target, edited, drop), *needed]))
    _system(edited)
    _messages(edited, target, drop)
    _tools(edited)
    _context_management(edited, drop)
    beta_members.complete(edited, betas, target, request.without, drop)
    if request.operation == COUNT_TOKENS and "max_tokens" not in top:
        edited.put("max_tokens", fit.min_limit(edited))
    _cache_controls(edited, target.caps, drop)
    if "cache_control" in top:
        changes["cache_control"] = None
        _automatic_cache(edited, target.caps, drop)
    changes |= edited.changes()
    if betas or messages_betas.MEMBER in top:
        changes[messages_betas.MEMBER] = orjson.dumps(betas) if betas else None
    return top.spliced(changes)


def headers(request: ClientRequest) -> dict[str, str]:
    """Return the header for the service tier, or {} if the request names no tier that Bedrock knows.

    The function `body` removes the tier from the request's body.
    """
    tier = _tier(request.top)
    return {"x-amzn-bedrock-service-tier": tier} if tier else {}


def _tier(top: Members) -> str:
    tier = top.decode("service_tier")
    return tier if tier in _TIERS else ""


def _betas(request: ClientRequest, target: Target, edited: EditedMembers, drop: Drop) -> list[str]:
    """Return the betas to send: first the betas of the body, then the betas of the header.

    - Betas that the configuration drops, or that Bedrock has refused before, are left out.
    - A beta of the header is also left out if Bedrock does not accept it.
    - The header's beta for interleaved thinking is also left out if the request has no thinking budget or no tools. It
      would have no effect.
    """
    options, without = target.options, request.without
    betas = messages_betas.remove_dropped(messages_betas.body_betas(request.top), options, drop, without=without)
    header = [name for name in messages_betas.header_betas(request.headers) if name not in betas]
    if messages_betas.INTERLEAVED in header and _may_interleave(edited):
        header.remove(messages_betas.INTERLEAVED)
        betas += messages_betas.remove_dropped([messages_betas.INTERLEAVED], options, drop, without=without)
    from_header = messages_betas.select_betas(header, "invoke", options, drop, without=without)
    return list(dict.fromkeys([*betas, *from_header]))


def _may_interleave(edited: EditedMembers) -> bool:
    return mapping(edited["thinking"]).get("type") == "enabled" and bool(edited["tools"])


def _system(edited: EditedMembers) -> None:
    """Remove Claude Code's attribution (its text for Anthropic's billing) from the system prompt."""
    if attribution.MARK not in edited.raw("system"):
        return
    given = fit.system_blocks(edited["system"])
    blocks = []
    for block in given:
        before = text(mapping(block).get("text"))
        after = attribution.without_attribution(before)
        if after.strip() or after == before:
            blocks.append(block if after == before else {**block, "text": after})
    if blocks != given:
        edited.put("system", blocks)


def _messages(edited: EditedMembers, target: Target, drop: Drop) -> None:
    raw = edited.raw("messages")
    if tagged_history.is_tagged(raw) and tagged_history.untag_messages(edited["messages"], target, drop):
        edited.change("messages")
    foreign = any(mark in raw for mark in claude_messages.SERVERS_MARKS)
    if foreign and claude_messages.without_servers_blocks(edited["messages"], drop):
        edited.change("messages")
    if any(mark in raw for mark in claude_messages.SOURCE_MARKS):
        claude_messages.refuse_sources(edited["messages"])
    if claude_messages.SYSTEM_MARK not in raw:
        return
    if claude_messages.CLEAR_MARK in raw:
        claude_messages.without_cleared_texts(sequence(edited["messages"]), drop)
        edited.change("messages")
    if any(mapping(message).get("role") == "system" for message in sequence(edited["messages"])):
        placed = claude_messages.PlacedMessages(edited["messages"], target.caps, drop)
        edited.put("messages", placed.messages)
        if placed.leading:
            edited.put("system", [*fit.system_blocks(edited["system"]), *placed.leading])


def _tools(edited: EditedMembers) -> None:
    for index, tool in enumerate(sequence(edited["tools"])):
        if not isinstance(tool, dict):
            continue
        if str(tool.get("type", "")).startswith(_SERVER_TOOLS):
            name = f'"{tool.get("name")}" ({tool["type"]})'
            message = f"tools[{index}]: {name} runs on Anthropic's own servers, not on Bedrock"
            raise invalid(message, f"tools[{index}]")
        if isinstance(tool.get("custom"), dict):
            tool.update(tool.pop("custom"))
            edited.change("tools")
        schema = tool.get("input_schema")
        if isinstance(schema, dict) and schema.get("type") == "custom":
            schema["type"] = "object"
            edited.change("tools")
        if not str(tool.get("name") or "").strip():
            raise invalid(f"tools[{index}].name: a tool needs a name", f"tools[{index}].name")


def _context_management(edited: EditedMembers, drop: Drop) -> None:
    """Remove the edits of `context_management` that Bedrock does not know."""
    management = mapping(edited["context_management"])
    edits = sequence(management.get("edits"))
    known = [edit for edit in edits if mapping(edit).get("type") not in _UNKNOWN_EDITS]
    if len(known) < len(edits):
        drop("/context_management/edits")
        edited.put("context_management", {**management, "edits": known} if known else None)


def _cache_controls(edited: EditedMembers, caps: Caps, drop: Drop) -> None:
    """Remove `scope` and `ttl` from cache breakpoints if Bedrock refuses them.

    A body that contains neither name is not decoded.
    """
    suspects = (b'"scope"',) if caps.cache_ttl else (b'"scope"', b'"ttl"')
    members = ("system", "messages", "tools")
    if not any(suspect in edited.raw(name) for suspect in suspects for name in members):
        return
    for name in members:
        if _clean_inside(edited[name], f"/{name}", caps, drop):
            edited.change(name)


def _clean_inside(value: Any, path: str, caps: Caps, drop: Drop) -> bool:
    """Remove the fields that Bedrock refuses from all cache breakpoints in a value. Return whether any was removed."""
    changed = False
    if isinstance(value, dict):
        control = value.get("cache_control")
        if isinstance(control, dict):
            changed = _clean(control, f"{path}/cache_control", caps, drop)
        return _clean_inside(value.get("content"), f"{path}/content", caps, drop) or changed
    if isinstance(value, list):
        for index, item in enumerate(value):
            changed = _clean_inside(item, f"{path}/{index}", caps, drop) or changed
    return changed


def _clean(control: dict[str, Any], path: str, caps: Caps, drop: Drop) -> bool:
    """Remove the fields of a cache breakpoint that Bedrock refuses. Return whether any field was removed.

    Bedrock always refuses `scope`. Bedrock refuses `ttl` for models that support only the default lifetime.
    """
    refused = [name for name in ("scope", "ttl") if name in control and not (name == "ttl" and caps.cache_ttl)]
    for name in refused:
        if control.pop(name) != _DEFAULT_TTL:
            drop(f"{path}/{name}")
    return bool(refused)


def _automatic_cache(edited: EditedMembers, caps: Caps, drop: Drop) -> None:
    """Replace the top-level `cache_control` by a cache breakpoint on the last block.

    Bedrock does not know the top-level field. Anthropic's own API treats it as a breakpoint on the last block.
    """
    control = edited["cache_control"]
    if control is None:
        return
    if not isinstance(control, dict):
        raise invalid("cache_control must be an object", "cache_control")
    _clean(control, "/cache_control", caps, drop)
    block = _last_block(edited["messages"])
    if block is None or not caps.cache_points:
        drop("/cache_control")
        return
    if block.get("cache_control") is not None:  # the client put a breakpoint there itself
        return
    if sum(_breakpoints(edited[name]) for name in ("system", "messages", "tools")) >= MAX_CACHE_BREAKPOINTS:
        drop("/cache_control")
        return
    block["cache_control"] = control
    edited.change("messages")


def _last_block(messages: Any) -> dict[str, Any] | None:
    """Return the last block that can have a cache breakpoint. Thinking and blank text cannot have one.

    Changes `messages`: a `content` that is a string becomes a text block, because a string cannot have a breakpoint.
    """
    for message in map(mapping, reversed(sequence(messages))):
        content = message.get("content")
        if isinstance(content, str) and content.strip():
            message["content"] = content = [{"type": "text", "text": content}]
        for block in map(mapping, reversed(sequence(content))):
            blank = block.get("type") == "text" and not str(block.get("text", "")).strip()
            if block and not blank and block.get("type") not in _WITHOUT_BREAKPOINTS:
                return block
    return None


def _breakpoints(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(_breakpoints, value))
    if not isinstance(value, dict):
        return 0
    return (value.get("cache_control") is not None) + _breakpoints(value.get("content"))


def with_counts(event: Event, counts: Mapping[str, int], lifetimes: Mapping[str, int]) -> Event:
    """Return the event `message_delta` with the token counts `counts` added to its usage.

    Bedrock may report some counts only in `message_start` or in its metrics. Anthropic's own API has all counts in
    `message_delta`, and clients read them there (new-api#2881). `lifetimes` has the number of tokens written to the
    cache for each cache lifetime. These numbers are added too, because they have different prices.
    """
    data = mapping(event.data)
    reported = mapping(data.get("usage"))
    usage = {**reported, **counts}
    if usage == reported:
        return event
    if lifetimes:
        usage["cache_creation"] = {**mapping(reported.get("cache_creation")), **lifetimes}
    return Event(event.kind, orjson.dumps({**data, "usage": usage}), event.raw)
