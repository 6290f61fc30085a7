"""Removal of the gateway's tags on thinking from requests to a provider that has the client's own dialect.

The gateway tags the signatures in translated replies (`shared/reasoning.py`). If later requests of that conversation go
to a provider of the client's own dialect, they are not translated, and the tags are removed here.

- Thinking of the target's model family is sent without the tag.
- Thinking of another family, or without a signature inside the tag, is removed and reported as dropped.
- A body without a tag is not decoded.

Code that translates requests reads the tags itself.
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
"""Beginning of every tagged text in base64. Three characters become four, so the first nine of the prefix are always
encoded alike."""

_CONTENT: Final = "content"

_Block = dict[str, Any]
_Untag = Callable[[_Block, str], bool | None]
"""Function that gets a block and the target's model family, and removes the gateway's tag from the block.

It returns True if it removed a tag, None if the block must be dropped, and False if the block has no tag."""


def is_tagged(body: bytes) -> bool:
    """Return whether a body contains a tag anywhere, plain or in base64."""
    return reasoning.PREFIX.encode() in body or _IN_BASE64 in body


def of_messages(top: Members, family: str, drop: Drop) -> Changes:
    """Return the change to `messages` of a Messages body; {} if nothing changes."""
    return _changes(top, family, drop, _of_messages)


def of_converse(top: Members, family: str, drop: Drop) -> Changes:
    """Return the change to `messages` of a Converse body; {} if nothing changes."""
    return _changes(top, family, drop, _of_converse)


def of_chat(top: Members, family: str, drop: Drop) -> Changes:
    """Return the change to `messages` of a Chat body; {} if nothing changes.

    A Chat body has thinking in `thinking_blocks`, an extension of LiteLLM's.
    """
    return _changes(top, family, drop, _of_messages, "thinking_blocks")


def untag_messages(messages: Any, family: str, drop: Drop) -> bool:
    """Remove the tags from the decoded `messages` of a Messages body. Return whether anything changed."""
    return _untag(messages, family, drop, _of_messages)


def _changes(top: Members, family: str, drop: Drop, untag: _Untag, inside: str = _CONTENT) -> Changes:
    if not is_tagged(top.body):  # most bodies have no tag, and decoding a large body takes long
        return {}
    messages = member(top, "messages")
    return {"messages": orjson.dumps(messages)} if _untag(messages, family, drop, untag, inside) else {}


def _untag(messages: Any, family: str, drop: Drop, untag: _Untag, inside: str = _CONTENT) -> bool:
    """Remove tags, and messages that have no content left, which providers refuse. Return whether anything changed.

    `inside` is the member of a message that has the blocks with thinking.
    """
    changed = False
    emptied = []
    for number, message in enumerate(map(mapping, sequence(messages))):
        blocks = message.get(inside)
        remaining = []
        for index, block in enumerate(sequence(blocks)):
            result = untag(mapping(block), family)
            if result is None:
                drop(f"/messages/{number}/{inside}/{index}")
            else:
                remaining.append(block)
            changed = changed or result is not False
        if isinstance(blocks, list) and len(remaining) < len(blocks):
            message[inside] = remaining
            emptied += [number] if not remaining and inside == _CONTENT else []
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
    if not own:  # thinking of another family, or without a signature, which no provider takes back
        return None
    holder[name] = own
    return True


def _redacted(holder: _Block, redacted: str, family: str) -> bool | None:
    """Remove the tag of redacted thinking. In Converse the tagged text as a whole is encoded in base64."""
    try:
        value = base64.b64decode(redacted).decode()
    except (binascii.Error, UnicodeDecodeError):
        return False
    inner = {"data": value}
    result = _member(inner, "data", family)
    if result:
        holder["redactedContent"] = base64.b64encode(inner["data"].encode()).decode()
    return result
