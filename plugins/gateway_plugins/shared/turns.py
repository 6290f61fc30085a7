"""A conversation's turns, which conversions to Messages and Converse map their client's messages to.

A turn holds blocks of the upstream dialect with the client's own tool ids. The rules for turns that Messages and
Converse have in common stand here, because Bedrock's rules are Anthropic's; the others stand in each dialect's
module `demand`. Nothing here reads a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final

Block = dict[str, Any]

CONTINUE: Final = "Continue."
"""Text of the user's turn behind an assistant's that a model does not continue (kortix#6489, hermes#101401)."""
NO_OUTPUT: Final = "(no output)"
"""Text of an empty or blank result, which is refused (hermes#55092, hermes#39829, aws-samples orchestration#15)."""
NO_RESULT: Final = "No result was given for this tool call."


@dataclass(slots=True)
class Turn:
    """The blocks of one message. `role` is user, assistant or system; tool results are the user's."""

    role: str
    blocks: list[Block]
    path: str
    """JSON pointer of the client's message."""


def side(turn: Turn) -> str:
    """Return the side of a turn, assistant or user. A system turn belongs to the user's side."""
    return "assistant" if turn.role == "assistant" else "user"


def native_at_end(run: Sequence[Turn], *, mid_system: bool, waiting: bool) -> int:
    """Return the number of turns at the end of the user's side that leave as one system message.

    Such a message must follow a user turn, or results of calls that are `waiting`. The assistant or nothing must follow
    it, and two in a row are refused (maximhq/bifrost#3945). So only system turns that end the user's side can be one.
    """
    count = sum(1 for _ in takewhile(lambda turn: turn.role == "system", reversed(run))) if mid_system else 0
    return count if count < len(run) or waiting else 0


def reminder(text: str) -> str:
    """Return system text as Claude Code writes it between turns. Moving it to the top would change the cached prefix.

    Source: bifrost#5931.
    """
    return f"<system-reminder>\n{text}\n</system-reminder>"


def frame_document(content: str, title: str) -> str:
    """Return a document's text in a frame, which sets it apart from the user's own text."""
    name = " ".join(title.replace('"', "'").split())
    return f'<document title="{name}">\n{content}\n</document>' if name else f"<document>\n{content}\n</document>"
