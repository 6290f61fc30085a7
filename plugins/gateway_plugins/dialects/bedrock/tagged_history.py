"""Removes the gateway's tags on thinking from requests that are not translated.

In a translated reply, the gateway puts a tag before each signature of thinking, except Claude's. The tag names the
model family that made the signature (`shared/reasoning.py`). The client sends the tag back in later requests. If a
later request is not translated, because the provider has the client's own dialect, this module removes the tags.

- Thinking of the target's model family is sent without the tag.
- Thinking of another family is removed and reported as dropped. Unsigned thinking is removed too if the model does not
  accept it.
- A body without a tag is not decoded. Exception: a Chat body with `thinking_blocks` is always decoded, because it may
  have Claude's signatures, which have no tag. They are removed unless the model is Claude or of unknown family.

Translated requests do not pass through this module.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any, Final

from gateway.contract import lenient_json
from gateway.contract.flag import Drop, Members, Target
from gateway_plugins.shared.fields import member
from gateway_plugins.shared.lenient import mapping, sequence
from gateway_plugins.shared.reasoning import PREFIX, Maker, is_claudes

Changes = dict[str, bytes | None]

_IN_BASE64: Final = base64.b64encode(PREFIX.encode()[:9])
"""Base64 of the first nine characters of the gateway's tag, which are the same in all tags.

If a value with a tag is encoded in base64, the result begins with these bytes: base64 encodes three bytes at a time, so
the characters after the ninth do not matter."""

MARKS: Final = (PREFIX.encode(), _IN_BASE64)
"""Beginning of the gateway's tag on thinking, plain and in base64. A body with such a tag contains one of the two."""
_CONTENT: Final = "content"
_THINKING_BLOCKS: Final = "thinking_blocks"
_SIGNED: Final = {"thinking": "signature", "redacted_thinking": "data"}
"""Types of Messages blocks with thinking, each with the field whose value may begin with the gateway's tag."""

_Block = dict[str, Any]
_Untag = Callable[[_Block, Maker], bool | None]
"""A function that removes the gateway's tag from a block.

It returns True if it removed a tag, and False if there is none. It returns None if the block must be dropped, because
the provider's model cannot use it."""


def is_tagged(body: bytes) -> bool:
    """Return whether the gateway's tag on thinking occurs anywhere in a body, plain or in base64."""
    return any(mark in body for mark in MARKS)


def of_messages(top: Members, target: Target, drop: Drop) -> Changes:
    """Return `{"messages": ...}` without the gateway's tags on thinking, for a Messages body, or {} for no change."""
    return _changes(top, target, drop, _of_messages)


def of_converse(top: Members, target: Target, drop: Drop) -> Changes:
    """Return `{"messages": ...}` without the gateway's tags on thinking, for a Converse body, or {} for no change."""
    return _changes(top, target, drop, _of_converse)


def of_chat(top: Members, target: Target, drop: Drop) -> Changes:
    """Return `{"messages": ...}` without the gateway's tags on thinking, for a Chat body, or {} for no change.

    In a Chat body, thinking is in LiteLLM's field `thinking_blocks`.
    """
    return _changes(top, target, drop, _of_chat, _THINKING_BLOCKS)


def untag_messages(messages: Any, target: Target, drop: Drop) -> bool:
    """Remove the gateway's tags from the thinking in `messages`, the decoded field of a Messages request.

    Also remove thinking that the target's model cannot use, and report it as dropped. Return whether anything changed.
    """
    return _untag(messages, Maker.of(target), drop, _of_messages)


def _changes(top: Members, target: Target, drop: Drop, untag: _Untag, inside: str = _CONTENT) -> Changes:
    if not _may_be_tagged(top, inside):  # most bodies have no tag, and decoding a large body takes long
        return {}
    messages = member(top, "messages")
    return {"messages": lenient_json.dumps(messages)} if _untag(messages, Maker.of(target), drop, untag, inside) else {}


def _may_be_tagged(top: Members, inside: str) -> bool:
    if inside == _THINKING_BLOCKS and (top.mentions(inside.encode()) or not top.may_hide_names()):
        return top.mentions(inside.encode())
    # a tag is at the beginning of a string, so it is never in the part that `shortened` leaves out
    return any(map(top.mentions, MARKS))


def _untag(messages: Any, maker: Maker, drop: Drop, untag: _Untag, inside: str = _CONTENT) -> bool:
    """Remove the gateway's tags in `messages`, and thinking that the provider's model cannot use.

    Return whether anything changed.

    - `untag` removes the tag from one block.
    - `inside` is the field of a message that has the thinking blocks: `content` or `thinking_blocks`.
    - If `content` becomes empty, the message is removed. If `thinking_blocks` becomes empty, the field is removed.
    """
    changed = False
    emptied = []
    for number, message in enumerate(map(mapping, sequence(messages))):
        blocks = message.get(inside)
        remaining = []
        for index, block in enumerate(sequence(blocks)):
            result = untag(mapping(block), maker)
            if result is None:
                drop(f"/messages/{number}/{inside}/{index}")
            else:
                remaining.append(block)
            changed = changed or result is not False
        if isinstance(blocks, list) and len(remaining) < len(blocks):
            message[inside] = remaining
            if not remaining and inside == _CONTENT:
                emptied.append(number)
            elif not remaining:
                del message[inside]
    for number in reversed(emptied):
        del messages[number]
    return changed


def _of_messages(block: _Block, maker: Maker) -> bool | None:
    return _member(block, _SIGNED.get(str(block.get("type")), ""), maker)


def _of_chat(block: _Block, maker: Maker) -> bool | None:
    value = block.get(_SIGNED.get(str(block.get("type")), ""))
    is_foreign = maker.is_known and not maker.portable
    return None if is_foreign and isinstance(value, str) and is_claudes(value) else _of_messages(block, maker)


def _of_converse(block: _Block, maker: Maker) -> bool | None:
    reasoned = mapping(block.get("reasoningContent"))
    if isinstance(redacted := reasoned.get("redactedContent"), str):
        return _redacted(reasoned, redacted, maker)
    return _member(mapping(reasoned.get("reasoningText")), "signature", maker)


def _member(holder: _Block, name: str, maker: Maker) -> bool | None:
    value = holder.get(name)
    if not isinstance(value, str) or not value.startswith(PREFIX):
        return False
    own = maker.untagged(value)
    if own is None or not (own or (maker.unsigned and name == "signature")):
        return None
    holder[name] = own
    return True


def _redacted(holder: _Block, redacted: str, maker: Maker) -> bool | None:
    """Remove the gateway's tag from `redacted`, the value of Converse's field `redactedContent` in the object `holder`.

    Return True if a tag was removed, False if there is none, and None if the block must be dropped.

    In Converse, the tag and the data are encoded together in base64.
    """
    try:
        value = base64.b64decode(redacted).decode()
    except (binascii.Error, UnicodeDecodeError):
        return False
    inner = {"data": value}
    result = _member(inner, "data", maker)
    if result:
        holder["redactedContent"] = base64.b64encode(inner["data"].encode()).decode()
    return result
