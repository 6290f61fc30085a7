"""The gateway's own cache marks in a Messages body (`cache_control`). The rules are in `shared/auto_cache.py`.

Marks are inserted into the JSON text, so that every other byte of a body stays as it is. Only a text that is not yet a
list of blocks, which cannot carry a mark, becomes such a list.
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
"""The members that make the prompt, in the order in which the API reads them."""
_NAME: Final = "cache_control"
_POSSIBLE: Final = re.compile(rb'(?<!\\)"cache_control"|\\u00[4-7]')
"""A pattern for a member of this name, also if the name has escaped letters. In a text, a quote is escaped."""
_OWN: Final = re.compile(rb',"cache_control":\{"type":"ephemeral"(?:,"ttl":"1h")?\}\}$')
_MARKED_TYPES: Final = frozenset({"text", "image", "document", "tool_result", "search_result"})
"""Types of the blocks in a turn of the user that can carry a mark."""
_Change = Callable[[bytes], bytes | None]


def mark_cache(request: ClientRequest, target: Target, lifetime: str) -> ClientRequest | None:
    """Return the request with the gateway's marks; None if none is placed (`Flag.mark_cache`)."""
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
    """Puts a mark into the members of a body. `mark` is the text that ends a block with a mark."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark

    def in_tools(self, raw: bytes) -> bytes | None:
        """Return the tools with a mark on the last of them; None without tools.

        A tool that is loaded later (`defer_loading`) cannot carry a mark.
        """
        tools = RawList(raw)
        for index in reversed(range(len(tools.items))):
            tool = Members(tools.items[index])
            if len(tool) and tool.small("defer_loading") is not True:
                return tools.changed({index: self._on(tools.items[index])})
        return None

    def in_system(self, raw: bytes) -> bytes | None:
        """Return the system prompt with a mark on its last block that can carry one; None if there is no such block."""
        return self._content(raw, lambda block: _type(block) == "text")

    def in_messages(self, raw: bytes) -> bytes | None:
        """Return the messages with marks at the ends of two turns (`Turns`); None if none can carry a mark."""
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
    """Return whether JSON text is a string of only white space, on which the API accepts no mark."""
    return len(value) <= MAX_SMALL and not text(lenient_json.loads(value)).strip()


def has_marks(top: Members) -> bool:
    """Return whether a body has cache marks. Raises `Refused` for a member that is nested too deeply."""
    if _NAME in top:
        return True
    edited = EditedMembers(top)
    return any(_POSSIBLE.search(edited.raw(name)) and _is_marked(edited[name]) for name in _MEMBERS)


def _is_marked(value: Any) -> bool:
    """Return whether a block, or a block or message inside a list or a content, has a mark."""
    if isinstance(value, list):
        return any(map(_is_marked, value))
    return isinstance(value, dict) and (_NAME in value or _is_marked(value.get("content")))


def unmarked(top: Members) -> Members:
    """Return the body without the gateway's marks."""
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
