"""The messages of a Messages request, as Bedrock takes them where Anthropic's own API takes more.

Nothing is decoded that holds no trace of such a thing. A system message between turns stays native where the model
takes it, and is the user's reminder in its place elsewhere: hoisting it would spoil the cached prefix (bifrost#5931).
Sources by URL or file id are refused: Bedrock reads neither. Source: bedrock.md 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Caps, Drop
from gateway_plugins.shared.fields import escape_step
from gateway_plugins.shared.lenient import mapping, sequence, text
from gateway_plugins.shared.turns import Block, reminder

_SOURCES_NOT_TAKEN: Final = {
    "url": "is not read from an address by Bedrock; send the data itself, as base64",
    "file": "lives on Anthropic's own servers, which Bedrock does not ask; send the data itself, as base64",
}
SOURCE_MARKS: Final = (b'"url"', b'"file"')
"""One of these stands in a body with such a source."""
SYSTEM_MARK: Final = b'"system"'
_OWN_MEMBERS: Final = frozenset({"role", "content"})


def refuse_sources(messages: Any) -> None:
    """Raises `Refused` for an image or document that Bedrock would have to fetch."""
    for at, block in _blocks(messages, "messages"):
        kind = text(mapping(block.get("source")).get("type"))
        if kind in _SOURCES_NOT_TAKEN:
            where = f"{at}.source"
            raise invalid(f'{where}: a {block.get("type")} of type "{kind}" {_SOURCES_NOT_TAKEN[kind]}', where)


def _blocks(value: Any, at: str) -> Iterator[tuple[str, Block]]:
    """Every content block, also those in tool results and in documents made of blocks, with its place."""
    for index, item in enumerate(sequence(value)):
        here = f"{at}[{index}]"
        inner = mapping(item)
        if "type" in inner:
            yield here, inner
        yield from _blocks(inner.get("content"), f"{here}.content")
        yield from _blocks(mapping(inner.get("source")).get("content"), f"{here}.source.content")


class Placed:
    """System messages of a conversation, put where the model takes them. `leading` belong to the `system` member."""

    def __init__(self, messages: list[Any], caps: Caps, drop: Drop) -> None:
        self.leading: list[Block] = []
        self.messages: list[Any] = []
        self._held: list[tuple[int, Block]] = []
        self._caps = caps
        self._drop = drop
        for number, message in enumerate(messages):
            self._take(number, message)
        self._release(None)

    def _take(self, number: int, message: Any) -> None:
        role = mapping(message).get("role")
        if role == "system":
            if self.messages:
                self._held.append((number, message))
            else:
                self.leading += self._blocks(number, message)
            return
        if not _has_results(message):  # nothing may come between a call and its results
            self._release(role)
        self.messages.append(message)

    def _release(self, following: Any) -> None:
        """Put what is held behind the last message; `following` is the next one's role, None at the end."""
        held, self._held = self._held, []
        if not held:
            return
        before = mapping(self.messages[-1]).get("role")
        if self._caps.mid_system and before == "user" and following in (None, "assistant"):
            self.messages.append(_joined([message for _, message in held]))
            return
        blocks = [block for number, message in held for block in self._blocks(number, message)]
        if blocks:
            told = [{**block, "text": reminder(block["text"])} for block in blocks]
            self.messages.append({"role": "user", "content": told})

    def _blocks(self, number: int, message: Block) -> list[Block]:
        """A system message's text; all else in it belongs to a native one and is dropped aloud."""
        for name in message.keys() - _OWN_MEMBERS:
            self._drop(f"/messages/{number}/{escape_step(name)}")
        found = []
        for index, block in enumerate(_content(message)):
            if not isinstance(mapping(block).get("text"), str):
                self._drop(f"/messages/{number}/content/{index}")
            elif block["text"].strip():
                found.append(block)
        return found


def _joined(messages: list[Block]) -> Block:
    """One system message: two in a row are refused (maximhq/bifrost#3945)."""
    if len(messages) == 1:
        return messages[0]
    merged: Block = {}
    for message in messages:
        merged |= message
    merged["content"] = [block for message in messages for block in _content(message)]
    return merged


def _content(message: Block) -> list[Any]:
    content = message.get("content")
    return [{"type": "text", "text": content}] if isinstance(content, str) else sequence(content)


def _has_results(message: Any) -> bool:
    return any(mapping(block).get("type") == "tool_result" for block in sequence(mapping(message).get("content")))
