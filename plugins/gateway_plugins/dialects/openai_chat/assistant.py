"""Builds the assistant's message of a Chat request from text, thinking and tool calls, in their order.

A Chat message has one field for the text, one for thinking, and a list of tool calls. Thinking is sent back as the
provider sent it (`carried.py`): as text in `reasoning_content` or a similar field, as a part of `content`, or between
tags in the text. The rules are the same for all clients' dialects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from gateway.contract import lenient_json
from gateway.contract.flag import Caps, Drop
from gateway_plugins.dialects.openai_chat import carried
from gateway_plugins.shared.conversation import Call, Piece
from gateway_plugins.shared.inline_reasoning import original_text
from gateway_plugins.shared.lenient import mapping
from gateway_plugins.shared.reasoning import Maker, Reasoning
from gateway_plugins.shared.turns import Block

PLACEHOLDER: Final = " "
"""Text that is sent as the thinking of a message that has none. Moonshot refuses "" (earendil-works/pi#4178)."""
_TURNS_APART: Final = "\n\n"


class AssistantMessage(msgspec.Struct):
    """Builds one message. `glue` is put between two consecutive texts."""

    caps: Caps
    maker: Maker
    drop: Drop
    glue: str = ""
    calls: list[Call] = msgspec.field(default_factory=list)
    _parts: list[Block] = msgspec.field(default_factory=list)
    """Parts of the message's `content`."""
    _members: Block = msgspec.field(default_factory=dict)
    """Fields of the message that hold thinking or encrypted reasoning (`carried.py`), by the field's name."""
    _tokens: dict[str, Block] = msgspec.field(default_factory=dict)
    """Fields with encrypted reasoning to put on tool calls, by the client's id of the call."""
    _tokens_at: dict[str, str] = msgspec.field(default_factory=dict)
    """JSON pointer of the client's thinking block from which an entry of `_tokens` comes, by the id of the call."""
    _thinking_at: list[str] = msgspec.field(default_factory=list)
    """JSON pointers, in the client's request, of the thinking blocks that were added to the message."""
    _after_text: bool = False
    """True if the last added piece was text, and not thinking or a tool call."""

    def add(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            if isinstance(piece, str):
                self._text(piece, self.glue if self._after_text else "")
            elif isinstance(piece, Reasoning):
                self._think(piece)
            else:
                self.calls.append(piece)
            self._after_text = isinstance(piece, str)

    def write(self, message: Block, call_id: Callable[[Call], str], refusal: str = "") -> None:
        """Write all added pieces into `message`, after the pieces of an earlier turn that it may have.

        `call_id` returns the provider's id of a tool call. `refusal` is the text with which the model refused, or "".
        """
        content = self._content()
        if message.get("content") and content:
            content = _joined(message["content"], content)
        message["content"] = content or message.get("content")
        for name, value in (*self._members.items(), ("refusal", refusal if refusal.strip() else None)):
            _merge(message, name, value)
        for call in self.calls:
            function = {"name": call.name, "arguments": lenient_json.dumps(call.input).decode()}
            tokens = self._tokens.pop(call.id, {})
            function |= mapping(tokens.get("function"))
            made = {"id": call_id(call), "type": "function", **tokens, "function": function}
            message.setdefault("tool_calls", []).append(made)
        for unused in self._tokens:
            self.drop(self._tokens_at[unused])

    def is_empty(self) -> bool:
        """Return whether there is no visible text and no tool call. Servers refuse a message that has only thinking."""
        return not self.calls and not any(part["type"] != "text" or part["text"].strip() for part in self._parts)

    def report(self) -> None:
        """Report all thinking as dropped, because the message is not sent."""
        for at in dict.fromkeys(self._thinking_at):
            self.drop(at)

    def _text(self, value: str, glue: str) -> None:
        if self._parts and self._parts[-1]["type"] == "text":
            self._parts[-1]["text"] += glue + value
        else:
            self._parts.append({"type": "text", "text": value})

    def _think(self, part: Reasoning) -> None:
        value = part.data or part.signature
        if (written := original_text(part, self.maker)) is not None:
            self._text(written, "")
        elif (tokens := carried.returned(value, self.maker)) is not None:
            self._take(tokens, part)
        elif part.data or self.maker.untagged(value) != "":
            self.drop(part.at)
            return
        else:
            self._add_thought(carried.TEXT, part)
        self._thinking_at.append(part.at)

    def _take(self, tokens: carried.Returned, part: Reasoning) -> None:
        """Add the client's thinking block `part` to the message, in the form in which the provider sent it.

        `tokens` is the encrypted reasoning in the block.
        """
        for name, value in tokens.message.items():
            _merge(self._members, name, value)
        for call_id, members in tokens.calls.items():
            self._tokens[call_id] = self._tokens.get(call_id, {}) | members
            self._tokens_at[call_id] = part.at
        if not tokens.is_complete:
            self.drop(part.at)
        self._add_thought(tokens.text, part, tokens.signed)

    def _add_thought(self, form: str, part: Reasoning, signed: Block | None = None) -> None:
        if signed:
            kind = "redacted_thinking" if "data" in signed else "thinking"
            readable = {} if "data" in signed else {"thinking": part.text}
            _merge(self._members, carried.BLOCKS, [{"type": kind, **readable, **signed}])
        elif not part.text or form == carried.DETAILS:
            return
        elif form == carried.PART:
            self._parts.append({"type": carried.PART, carried.PART: [{"type": "text", "text": part.text}]})
        elif self.caps.reasoning_content:
            self._members[form] = self._members.get(form, "") + part.text
        else:
            self.drop(part.at)

    def _content(self) -> str | list[Block] | None:
        parts = [part for part in self._parts if part["type"] != "text" or part["text"].strip()]
        if any(part["type"] != "text" for part in parts):
            return parts
        text = "".join(part["text"] for part in parts)
        return text or None


def complete(messages: Sequence[Block], caps: Caps) -> None:
    """Add missing thinking and signatures to assistant messages, if the model requires them.

    - Some models require thinking in messages with tool calls. DeepSeek requires it in every assistant message
      (openclaw#73417, opencode#25000).
    - Gemini may require a signature on the first tool call of a message.
    """
    for message in (message for message in messages if message["role"] == "assistant"):
        if caps.needs_reasoning_content and not message.get(carried.TEXT):
            message[carried.TEXT] = message.get("reasoning") or PLACEHOLDER
        if caps.call_signature and message.get("tool_calls"):
            call = message["tool_calls"][0]
            if not carried.CALL & (call.keys() | call["function"].keys()) and carried.DETAILS not in message:
                call["extra_content"] = {"google": {"thought_signature": caps.call_signature}}


def _joined(before: str | list[Block], after: str | list[Block]) -> str | list[Block]:
    """Return the contents of two turns as one content. Texts are separated by a blank line."""
    if isinstance(before, str) and isinstance(after, str):
        return before + _TURNS_APART + after
    parts = [[{"type": "text", "text": each}] if isinstance(each, str) else each for each in (before, after)]
    return [*parts[0], *parts[1]]


def _merge(members: Block, name: str, value: Any) -> None:
    """Set the field `name`. Combine the value with an earlier value of the field.

    Lists are joined, objects are merged, and texts are separated by a blank line.
    """
    known = members.get(name)
    if not value:
        return
    if isinstance(known, list) and isinstance(value, list):
        value = [*known, *value]
    elif isinstance(known, dict) and isinstance(value, dict):
        value = {**known, **value}
    elif isinstance(known, str) and isinstance(value, str):
        value = known + _TURNS_APART + value
    members[name] = value
