"""The turns of a conversation that is converted to Messages or Converse.

The conversion maps each of the client's messages to a turn. A turn has blocks of the provider's dialect, but its tool
ids are still the client's. This module has the rules that Messages and Converse share. Rules of one dialect are in its
module `demand`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any, Final

import msgspec

Block = dict[str, Any]

CONTINUE: Final = "Continue."
"""Text of a user turn that is added if the assistant has the last turn (kortix#6489, hermes#101401).

Many models refuse to continue a turn of the assistant."""
NO_OUTPUT: Final = "(no output)"
"""Text that replaces an empty or blank tool result.

Providers refuse an empty result (hermes#55092, hermes#39829, aws-samples orchestration#15).
"""
NO_RESULT: Final = "No result was given for this tool call."


class Located(Block):
    """A block with the JSON pointer `at` of the client's value from which it was made. Errors name this pointer."""

    def __init__(self, at: str, block: Block) -> None:
        super().__init__(block)
        self.at = at


def pointer(block: Block, otherwise: str) -> str:
    """Return the JSON pointer of the client's value from which a block was made, or `otherwise` if it is not known."""
    return block.at if isinstance(block, Located) else otherwise


class Turn(msgspec.Struct):
    """The blocks of one message. `role` is user, assistant or system. Tool results are in turns of the user."""

    role: str
    blocks: list[Block]
    path: str
    """JSON pointer of the client's message."""


def side(turn: Turn) -> str:
    """Return the side of a turn: assistant or user. A system turn is on the user's side."""
    return "assistant" if turn.role == "assistant" else "user"


def native_at_end(run: Sequence[Turn], *, mid_system: bool, waiting: bool) -> int:
    """Return the number of system turns at the end of `run` that can be sent as one system message.

    - `run` has consecutive turns of the user and the system.
    - The result is 0 unless the provider accepts system messages within a conversation (`mid_system`).
    - A system message must follow a user message (maximhq/bifrost#3945). So the result is 0 if `run` has no turn of the
      user. Exception: if tool calls have no results yet (`waiting`), the gateway adds a user message with the missing
      results.
    """
    count = sum(1 for _ in takewhile(lambda turn: turn.role == "system", reversed(run))) if mid_system else 0
    return count if count < len(run) or waiting else 0


def reminder(text: str) -> str:
    """Return the text of a system turn as text of the user, in the form that Claude Code uses between turns.

    In the system prompt, the text would invalidate the prompt cache (bifrost#5931).
    """
    return f"<system-reminder>\n{text}\n</system-reminder>"


def frame_document(content: str, title: str) -> str:
    """Return the text of a document inside a `<document>` tag, to separate it from the user's own text."""
    name = " ".join(title.replace('"', "'").split())
    return f'<document title="{name}">\n{content}\n</document>' if name else f"<document>\n{content}\n</document>"
