"""Sets the gateway's own cache breakpoints (`cache_control`) in a Messages body.

The rules are in `shared/auto_cache.py`. Breakpoints are inserted into the JSON text, so that no other byte of the body
changes. There is one exception: if `content` or `system` is a string, it becomes a list with one text block, because a
string cannot have a breakpoint.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import orjson

from gateway.contract import lenient_json
from gateway.contract.errors import Refused
from gateway.contract.flag import OPAQUE, ClientRequest, Members, Target
from gateway.contract.members import MAX_SMALL
from gateway_plugins.shared import auto_cache
from gateway_plugins.shared.auto_cache import marked_turns
from gateway_plugins.shared.lenient import text
from gateway_plugins.shared.members_in_place import EditedMembers
from gateway_plugins.shared.raw_lists import RawList

_MEMBERS: Final = ("tools", "system", "messages")
"""Fields that make up the prompt, in the order in which the API reads them."""
_NAME: Final = "cache_control"
_POSSIBLE: Final = re.compile(rb'(?<!\\)"cache_control"|\\u00[4-7]')
"""Pattern for a quick search before decoding. Every JSON text with the key `"cache_control"` has a match.

Escaped ASCII letters match too, because the key itself may be written with escapes.
"""
_OWN: Final = re.compile(rb',"cache_control":\{"type":"ephemeral"(?:,"ttl":"1h")?\}\}$')
_MARKED_TYPES: Final = frozenset({"text", "image", "document", "tool_result", "search_result"})
"""Block types that can have a breakpoint in a user message."""
_Change = Callable[[bytes], bytes | None]


def mark_cache(request: ClientRequest, target: Target, lifetime: str) -> ClientRequest | None:
    """Return the request with the gateway's cache breakpoints, or None if the gateway sets none.

    `lifetime` is the lifetime of the cache entries. It is ignored if the model has only one lifetime.
    """
    if OPAQUE in (request.dialect, target.dialect) or not auto_cache.is_possible(request, target.caps):
        return None
    try:
        return _marked(request, target, lifetime)
    except (Refused, ValueError):  # the provider's own message explains best what is wrong with the body
        return None


def _marked(request: ClientRequest, target: Target, lifetime: str) -> ClientRequest | None:
    top, caps = request.top, target.caps
    if has_marks(top):
        return None
    control = orjson.dumps({"type": "ephemeral", **auto_cache.ttl(lifetime, caps)})
    marks = _Marks(b',"cache_control":' + control + b"}")
    adding: dict[str, _Change] = {"system": marks.in_system, "messages": marks.in_messages}
    if caps.tool_cache_points:
        adding["tools"] = marks.in_tools
    changes: dict[str, bytes | None] = {}
    size = 0
    for name in _MEMBERS:
        raw = top.get(name, b"")
        size += len(raw)
        if raw and name in adding and auto_cache.is_enough(size, caps) and (changed := adding[name](raw)):
            changes[name] = changed
    return replace(request, top=_with(top, changes)) if changes else None


def _with(top: Members, changes: dict[str, bytes | None]) -> Members:
    for name, value in changes.items():
        if value is not None:
            top = top.replaced(name, value)
    return top


class _Marks:
    """Adds cache breakpoints to the fields of a body.

    `mark` is the JSON text of a breakpoint, beginning with a comma and ending with the closing brace of the block. It
    replaces the closing brace of a block.
    """

    def __init__(self, mark: bytes) -> None:
        self._mark = mark

    def in_tools(self, raw: bytes) -> bytes | None:
        """Return `tools` with a breakpoint on the last tool, or None if no tool can have a breakpoint.

        A tool with `defer_loading` cannot have one and is skipped.
        """
        tools = RawList(raw)
        for index in reversed(range(len(tools.items))):
            tool = Members(tools.items[index])
            if len(tool) and tool.small("defer_loading") is not True:
                return tools.changed({index: self._on(tools.items[index])})
        return None

    def in_system(self, raw: bytes) -> bytes | None:
        """Return `system` with a breakpoint on the last block that can have one, or None if no block can."""
        return self._content(raw, lambda block: _type(block) == "text")

    def in_messages(self, raw: bytes) -> bytes | None:
        """Return `messages` with one breakpoint in each of up to two user messages, which `auto_cache.Turns` chooses.

        Return None if no message can have a breakpoint.
        """
        return marked_turns(raw, lambda content: self._content(content, lambda block: _type(block) in _MARKED_TYPES))

    def _content(self, raw: bytes, can_carry: Callable[[Members], bool]) -> bytes | None:
        if raw.startswith(b'"'):
            return None if _is_blank(raw) else b'[{"type":"text","text":' + raw + self._mark + b"]"
        blocks = RawList(raw)
        for index in reversed(range(len(blocks.items))):
            block = Members(blocks.items[index])
            if can_carry(block) and not ("text" in block and _is_blank(block["text"])):
                return blocks.changed({index: self._on(blocks.items[index])})
        return None

    def _on(self, block: bytes) -> bytes:
        return block.rstrip()[:-1] + self._mark


def _type(block: Members) -> str:
    return text(block.small("type"))


def _is_blank(value: bytes) -> bool:
    """Return whether a JSON string is only white space. The API refuses a breakpoint on blank text."""
    return len(value) <= MAX_SMALL and not text(lenient_json.loads(value)).strip()


def has_marks(top: Members) -> bool:
    """Return whether a body has breakpoints. Raises `Refused` for a value that is nested too deeply."""
    if _NAME in top:
        return True
    edited = EditedMembers(top)
    return any(_POSSIBLE.search(edited.raw(name)) and _is_marked(edited[name]) for name in _MEMBERS)


def _is_marked(value: Any) -> bool:
    """Return whether a block, or any block inside it, has a breakpoint. `value` may also be a list of blocks."""
    if isinstance(value, list):
        return any(map(_is_marked, value))
    return isinstance(value, dict) and (_NAME in value or _is_marked(value.get("content")))


def unmarked(top: Members) -> Members:
    """Return the body without the breakpoints that the gateway set."""
    changes: dict[str, bytes | None] = {}
    for name in _MEMBERS:
        raw = top.get(name, b"")
        changes[name] = (_unmarked_messages if name == "messages" else _unmarked_blocks)(raw) if raw else None
    return _with(top, changes)


def _unmarked_messages(raw: bytes) -> bytes:
    messages = RawList(raw)
    changes = {}
    for index, item in enumerate(messages.items):
        message = Members(item)
        if (content := message.get("content", b"")).startswith(b"["):
            changes[index] = message.replaced("content", _unmarked_blocks(content)).body
    return messages.changed(changes)


def _unmarked_blocks(raw: bytes) -> bytes:
    if not raw.startswith(b"["):
        return raw
    blocks = RawList(raw)
    return blocks.changed({index: _OWN.sub(b"}", item) for index, item in enumerate(blocks.items)})
