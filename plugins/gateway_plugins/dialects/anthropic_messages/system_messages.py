"""Reads two features of system messages in the middle of a conversation: tool definitions, and the field `clear_at`.

`clear_at` says how long the model sees the message's text. Sources: the anthropic SDK's types
(`BetaSystemMessageParam`), and Anthropic's betas mid-conversation-tool-changes-2026-07-01 and inline-tools-2026-09-15.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from gateway.contract.flag import Members
from gateway_plugins.shared.fields import member
from gateway_plugins.shared.lenient import mapping, sequence

CLEAR_AT: Final = "clear_at"
"""Field of a system message that says how long the model sees its text (anthropic SDK, `BetaSystemMessageParam`)."""
CLEARINGS: Final = ("next_user_message", "never")
_ADDITION: Final = "tool_addition"
TOOL_CHANGES: Final = frozenset({_ADDITION, "tool_removal"})
"""Types of blocks in system messages that change the tools (anthropic SDK, `BetaSystemMessageParam`)."""
_DEFINITION: Final = b'"tool_definition"'
"""Bytes that all messages with the definition of a tool contain, for a quick search before decoding."""
CLIENT_TOOLS: Final = (None, "custom")
"""Values of a tool's `type` for tools that the client runs."""


def cleared(messages: Sequence[Any]) -> frozenset[int]:
    """Return the indexes of the system messages whose texts the model shall no longer see.

    These are the system messages with `"clear_at": "next_user_message"` that have a user message after them.
    """
    roles = [mapping(message).get("role") for message in messages]
    last = max((index for index, role in enumerate(roles) if role == "user"), default=-1)
    return frozenset(
        index
        for index, role in enumerate(roles[: last + 1])
        if role == "system" and mapping(messages[index]).get(CLEAR_AT) == CLEARINGS[0]
    )


def inline_tools(top: Members) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield (definition, JSON pointer) for each tool definition in `messages`. Tools that a server runs are skipped.

    Source: Anthropic's beta inline-tools-2026-09-15.
    """
    if _DEFINITION not in top.get("messages", b""):
        return
    for number, message in enumerate(map(mapping, sequence(member(top, "messages")))):
        for index, block in enumerate(map(mapping, sequence(message.get("content")))):
            if message.get("role") != "assistant" and (tool := inline_tool(block)) is not None:
                yield tool, f"/messages/{number}/content/{index}/tool/definition"


def inline_tool(block: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the tool definition in a block. Return None if there is none, or if a server runs the tool."""
    if block.get("type") != _ADDITION:
        return None
    definition = mapping(mapping(block.get("tool")).get("definition"))
    return definition if definition and definition.get("type") in CLIENT_TOOLS else None
