"""Changes the field `messages` of a Messages request so that Bedrock accepts it. Anthropic's own API accepts more.

- A system message between turns is kept if the model accepts it there. Otherwise it becomes text of the user at the
  same position (`reminder`). It is not moved to the system prompt, because this would change the cached prefix
  (bifrost#5931).
- Images and documents that are given by URL or file id are refused, because Bedrock fetches neither.
- Blocks that only Anthropic's own servers understand are left out and reported as dropped. A conversation has such
  blocks if these servers answered earlier turns.
- `messages` are decoded only if a search in their bytes shows that one of these changes may be needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Caps, Drop
from gateway_plugins.dialects.anthropic_messages.system_messages import CLEAR_AT, CLEARINGS, cleared
from gateway_plugins.shared.fields import escape_step
from gateway_plugins.shared.lenient import mapping, sequence, text
from gateway_plugins.shared.turns import Block, reminder

_REFUSED_SOURCES: Final = {
    "url": "is not read from an address by Bedrock; send the data itself, as base64",
    "file": "lives on Anthropic's own servers, which Bedrock does not ask; send the data itself, as base64",
}
SOURCE_MARKS: Final = (b'"url"', b'"file"')
"""Byte strings for a quick search: every body that names a file by URL or file id contains one of them."""
SYSTEM_MARK: Final = b'"system"'
CLEAR_MARK: Final = CLEAR_AT.encode()
"""Bytes that all messages with the field `clear_at` contain, for a quick search before decoding."""
_SERVERS_BLOCKS: Final = frozenset({
    "advisor_tool_result", "bash_code_execution_tool_result", "code_execution_tool_result", "container_upload",
    "fallback", "mcp_tool_listing", "mcp_tool_result", "mcp_tool_use", "text_editor_code_execution_tool_result",
    "web_fetch_tool_result", "web_search_tool_result",
})  # fmt: skip
"""Types of blocks that only Anthropic's own servers understand (anthropic SDK, `BetaContentBlockParam`).

Blocks for compaction, tool search and changes of tools are not listed, because Bedrock has these features."""
_SERVER_CALL: Final = "server_tool_use"
_TOOL_SEARCH: Final = "tool_search_tool"
"""Prefix of the names of tool-search tools. Tool search is the only tool that Bedrock runs itself for Claude."""
SERVERS_MARKS: Final = (b'_tool_result"', b'"mcp_tool_', b'"server_tool_use"', b'"container_upload"', b'"fallback"')
"""Byte strings for a quick search: every body with a block that Bedrock does not understand contains one of them."""
_OWN_MEMBERS: Final = frozenset({"role", "content"})


def refuse_sources(messages: Any) -> None:
    """Raise `Refused` for an image or document that Bedrock would have to fetch."""
    for at, block in _blocks(messages, "messages"):
        kind = text(mapping(block.get("source")).get("type"))
        if kind in _REFUSED_SOURCES:
            field = f"{at}.source"
            raise invalid(f'{field}: a {block.get("type")} of type "{kind}" {_REFUSED_SOURCES[kind]}', field)


def without_servers_blocks(messages: Any, drop: Drop) -> bool:
    """Remove the blocks that only Anthropic's own servers understand. Return whether anything changed.

    A message without remaining blocks is removed too, because Claude refuses it. Raises `Refused` if no message
    remains.
    """
    emptied = []
    changed = False
    for number, message in enumerate(map(mapping, sequence(messages))):
        blocks = sequence(message.get("content"))
        removed = [index for index, block in enumerate(blocks) if _is_servers(mapping(block))]
        for index in removed:
            drop(f"/messages/{number}/content/{index}")
        if removed:
            changed = True
            message["content"] = [block for index, block in enumerate(blocks) if index not in removed]
            emptied += [] if message["content"] else [number]
    for number in reversed(emptied):
        del messages[number]
    if emptied and not messages:
        raise invalid("messages: there is nothing in them that Bedrock takes; send text or a file", "messages")
    return changed


def without_cleared_texts(messages: list[Any], drop: Drop) -> None:
    """Apply and remove the field `clear_at` of system messages, which Bedrock does not know.

    The texts that `clear_at` hides from the model are removed. A `clear_at` with a value that the gateway does not know
    hides nothing, and is reported as dropped.
    """
    hidden = sorted(cleared(messages), reverse=True)
    for number, message in enumerate(map(mapping, messages)):
        if message.get("role") == "system" and message.pop(CLEAR_AT, None) not in (None, *CLEARINGS):
            drop(f"/messages/{number}/{CLEAR_AT}")
    for number in hidden:
        message = messages[number]
        message["content"] = [block for block in _content(message) if "text" not in mapping(block)]
        if not message["content"] and "output_config" not in message:
            del messages[number]


def _is_servers(block: Block) -> bool:
    kind = block.get("type")
    if kind == _SERVER_CALL:
        return not text(block.get("name")).startswith(_TOOL_SEARCH)
    return isinstance(kind, str) and kind in _SERVERS_BLOCKS


def _blocks(value: Any, at: str) -> Iterator[tuple[str, Block]]:
    """Yield each content block with its path, such as `messages[0].content[2]`.

    The blocks inside tool results and documents are included.
    """
    for index, item in enumerate(sequence(value)):
        here = f"{at}[{index}]"
        inner = mapping(item)
        if "type" in inner:
            yield here, inner
        yield from _blocks(inner.get("content"), f"{here}.content")
        yield from _blocks(mapping(inner.get("source")).get("content"), f"{here}.source.content")


class PlacedMessages:
    """Moves each system message of a conversation to a position where the model accepts it.

    `messages` is the result. `leading` has the blocks of system messages before the first turn. The caller must add
    these blocks to the field `system`.
    """

    def __init__(self, messages: list[Any], caps: Caps, drop: Drop) -> None:
        self.leading: list[Block] = []
        self.messages: list[Any] = []
        self._waiting: list[tuple[int, Block]] = []
        """System messages since the last turn, each with its index. The next turn decides their position."""
        self._caps = caps
        self._drop = drop
        for number, message in enumerate(messages):
            self._take(number, message)
        self._release(None)

    def _take(self, number: int, message: Any) -> None:
        role = mapping(message).get("role")
        if role == "system":
            if self.messages:
                self._waiting.append((number, message))
            else:
                self.leading += self._blocks(number, message)
            return
        if not _has_results(message):  # nothing may come between a call and its results
            self._release(role)
        self.messages.append(message)

    def _release(self, following: Any) -> None:
        """Append the system messages in `_waiting` to `messages`: as one system message, or as text of the user.

        `following` is the role of the next message. It is None at the end of the conversation.
        """
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        before = mapping(self.messages[-1]).get("role")
        if self._caps.mid_system and before == "user" and following in (None, "assistant"):
            self.messages.append(_join([message for _, message in waiting]))
            return
        blocks = [block for number, message in waiting for block in self._blocks(number, message)]
        if blocks:
            reminders = [{**block, "text": reminder(block["text"])} for block in blocks]
            self.messages.append({"role": "user", "content": reminders})

    def _blocks(self, number: int, message: Block) -> list[Block]:
        """Return the non-blank text blocks of a system message. Report its other blocks and fields as dropped.

        `number` is the index of the message.
        """
        for name in message.keys() - _OWN_MEMBERS:
            self._drop(f"/messages/{number}/{escape_step(name)}")
        blocks = []
        for index, block in enumerate(_content(message)):
            if not isinstance(mapping(block).get("text"), str):
                self._drop(f"/messages/{number}/content/{index}")
            elif block["text"].strip():
                blocks.append(block)
        return blocks


def _join(messages: list[Block]) -> Block:
    """Join system messages into one. The model refuses two consecutive system messages (maximhq/bifrost#3945)."""
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
