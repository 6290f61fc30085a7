"""Thinking that carries our tag, in requests that go to a provider in the client's own dialect.

Such a history began on a translated conversion, whose replies tag what a provider signed (`shared/reasoning.py`). The
provider gets back what its own family made, without the tag; what another family made is dropped aloud. A body without
our tag is not even decoded. Conversions that translate read tags themselves.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any, Final

import orjson

from gateway.contract.flag import Drop, Members
from gateway_plugins.shared import reasoning
from gateway_plugins.shared.fields import member
from gateway_plugins.shared.lenient import mapping, sequence

Changes = dict[str, bytes | None]

_IN_BASE64: Final = base64.b64encode(reasoning.PREFIX.encode()[:9])
"""How base64 of a tagged text begins: three characters become four, so nine of the prefix are sure."""

_CONTENT: Final = "content"

_Block = dict[str, Any]
_Untag = Callable[[_Block, str], bool | None]
"""Take the tag off a block: true if there was one, None if another family made it, false for all other blocks."""


def is_tagged(body: bytes) -> bool:
    """Our tag stands somewhere; the rest need not be looked at."""
    return reasoning.PREFIX.encode() in body or _IN_BASE64 in body


def of_messages(top: Members, family: str, drop: Drop) -> Changes:
    """The member `messages` of a Messages body, if our tag stands in it."""
    return _changes(top, family, drop, _of_messages)


def of_converse(top: Members, family: str, drop: Drop) -> Changes:
    """The member `messages` of a Converse body, if our tag stands in it."""
    return _changes(top, family, drop, _of_converse)


def of_chat(top: Members, family: str, drop: Drop) -> Changes:
    """The member `messages` of a Chat body, whose turns carry thinking in `thinking_blocks` (LiteLLM's form)."""
    return _changes(top, family, drop, _of_messages, "thinking_blocks")


def untag_messages(messages: Any, family: str, drop: Drop) -> bool:
    """The decoded messages of a Messages body, in place; true if anything changed."""
    return _untag(messages, family, drop, _of_messages)


def _changes(top: Members, family: str, drop: Drop, untag: _Untag, inside: str = _CONTENT) -> Changes:
    if not is_tagged(top.body):  # no copy of a part that may be megabytes
        return {}
    messages = member(top, "messages")
    return {"messages": orjson.dumps(messages)} if _untag(messages, family, drop, untag, inside) else {}


def _untag(messages: Any, family: str, drop: Drop, untag: _Untag, inside: str = _CONTENT) -> bool:
    """A message whose content was nothing but what is dropped goes as well, since none may be empty."""
    changed = False
    emptied = []
    for number, message in enumerate(map(mapping, sequence(messages))):
        blocks = message.get(inside)
        kept = []
        for index, block in enumerate(sequence(blocks)):
            found = untag(mapping(block), family)
            if found is None:
                drop(f"/messages/{number}/{inside}/{index}")
            else:
                kept.append(block)
            changed = changed or found is not False
        if isinstance(blocks, list) and len(kept) < len(blocks):
            message[inside] = kept
            emptied += [number] if not kept and inside == _CONTENT else []
    for number in reversed(emptied):
        del messages[number]
    return changed


def _of_messages(block: _Block, family: str) -> bool | None:
    name = {"thinking": "signature", "redacted_thinking": "data"}.get(str(block.get("type")), "")
    return _member(block, name, family)


def _of_converse(block: _Block, family: str) -> bool | None:
    reasoned = mapping(block.get("reasoningContent"))
    if isinstance(redacted := reasoned.get("redactedContent"), str):
        return _redacted(reasoned, redacted, family)
    return _member(mapping(reasoned.get("reasoningText")), "signature", family)


def _member(holder: _Block, name: str, family: str) -> bool | None:
    value = holder.get(name)
    if not isinstance(value, str) or not value.startswith(reasoning.PREFIX):
        return False
    own = reasoning.untagged(family, value)
    if not own:  # of another family, or thinking that nobody signed, which no provider of such a dialect takes back
        return None
    holder[name] = own
    return True


def _redacted(holder: _Block, redacted: str, family: str) -> bool | None:
    """Converse wraps Anthropic's text, and the tag before it, into base64 once more."""
    try:
        value = base64.b64decode(redacted).decode()
    except (binascii.Error, UnicodeDecodeError):
        return False
    inner = {"data": value}
    found = _member(inner, "data", family)
    if found:
        holder["redactedContent"] = base64.b64encode(inner["data"].encode()).decode()
    return found
