"""Sets the gateway's own cache points (`cachePoint`) in a Converse body.

The rules are in `shared/auto_cache.py`. A cache point is a separate block after the text, file or tool to cache. A
cache point must not directly follow thinking, or a document that is not a PDF (opencode#17300). Cache points are
inserted into the JSON text, so that no other byte of the body changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import orjson

from gateway.contract.errors import Refused
from gateway.contract.flag import Caps, ClientRequest, Members, Target
from gateway_plugins.shared import auto_cache
from gateway_plugins.shared.auto_cache import marked_turns
from gateway_plugins.shared.lenient import mapping, sequence, text
from gateway_plugins.shared.members_in_place import EditedMembers
from gateway_plugins.shared.raw_lists import RawList

_MEMBERS: Final = ("toolConfig", "system", "messages")
"""Fields that make up the prompt, in the order in which the model reads them."""
_NAME: Final = "cachePoint"
_POSSIBLE: Final = re.compile(rb'(?<!\\)"cachePoint"|\\u00[4-7]')
"""Pattern for a quick search before decoding. Every JSON text with the key `"cachePoint"` has a match.

Escaped ASCII letters match too, because the key itself may be written with escapes.
"""
_POINTS: Final = tuple(orjson.dumps({_NAME: {"type": "default", **ttl}}) for ttl in ({}, {"ttl": "1h"}))
_Change = Callable[[bytes], bytes | None]


def mark_cache(request: ClientRequest, target: Target, lifetime: str) -> ClientRequest | None:
    """Return the request with the gateway's cache points, or None if the gateway sets none.

    `lifetime` is the lifetime of the cache entries. It is ignored if the model has only one lifetime.
    """
    if not auto_cache.is_possible(request, target.caps):
        return None
    try:
        return _marked(request, target.caps, lifetime)
    except (Refused, ValueError):  # the provider's own message explains best what is wrong with the body
        return None


def _marked(request: ClientRequest, caps: Caps, lifetime: str) -> ClientRequest | None:
    top = request.top
    if has_marks(top):
        return None
    point = orjson.dumps({_NAME: {"type": "default", **auto_cache.ttl(lifetime, caps)}})
    size, marked = 0, top
    for name in _MEMBERS:
        raw = top.get(name, b"")
        size += len(raw)
        if raw and auto_cache.is_enough(size, caps) and (changed := _with_points(name, raw, point, caps)):
            marked = marked.replaced(name, changed)
    return None if marked is top else replace(request, top=marked)


def _with_points(name: str, raw: bytes, point: bytes, caps: Caps) -> bytes | None:
    """Return the field `name` with cache points, or None if none can be set.

    `raw` is the JSON text of the field, and `point` is the JSON text of a cache point.
    """
    if name == "messages":
        return marked_turns(raw, lambda content: _in_content(content, point))
    if name == "system":
        return _in_content(raw, point)
    config = Members(raw)
    if "tools" not in config or not caps.tool_cache_points:
        return None
    tools = _in_content(config["tools"], point)
    return None if tools is None else config.replaced("tools", tools).body


def _in_content(raw: bytes, point: bytes) -> bytes | None:
    """Return the list of blocks with a cache point after the last block that accepts one, or None if no block does."""
    blocks = RawList(raw)
    for index in reversed(range(len(blocks.items))):
        if _takes_point(Members(blocks.items[index])):
            return blocks.with_item_after(index, point)
    return None


def _takes_point(block: Members) -> bool:
    if "document" in block:
        return text(Members(block["document"]).small("format")) == "pdf"
    return "reasoningContent" not in block


def has_marks(top: Members) -> bool:
    """Return whether a body has cache points. Raises `Refused` for a value that is nested too deeply."""
    edited = EditedMembers(top)
    return any(_POSSIBLE.search(edited.raw(name)) and _is_marked(name, edited[name]) for name in _MEMBERS)


def _is_marked(name: str, value: Any) -> bool:
    if name == "messages":
        return any(_has_point(mapping(message).get("content")) for message in sequence(value))
    return _has_point(value if name == "system" else mapping(value).get("tools"))


def _has_point(blocks: Any) -> bool:
    return any(_NAME in mapping(block) for block in sequence(blocks))


def unmarked(top: Members) -> Members:
    """Return the body without the cache points that the gateway set."""
    if config := top.get("toolConfig"):
        members = Members(config)
        if "tools" in members:
            top = top.replaced("toolConfig", members.replaced("tools", _without_points(members["tools"])).body)
    if system := top.get("system"):
        top = top.replaced("system", _without_points(system))
    if raw := top.get("messages"):
        messages = RawList(raw)
        changes = {}
        for index, item in enumerate(messages.items):
            message = Members(item)
            if "content" in message:
                changes[index] = message.replaced("content", _without_points(message["content"])).body
        top = top.replaced("messages", messages.changed(changes))
    return top


def _without_points(raw: bytes) -> bytes:
    if not raw.startswith(b"["):
        return raw
    blocks = RawList(raw)
    index = next((index for index, item in enumerate(blocks.items) if item in _POINTS), None)
    return raw if index is None else blocks.without_item(index)
