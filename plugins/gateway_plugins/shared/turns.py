"""A conversation's turns, as every target dialect with strict turn rules gets them from its translators.

A translator maps its client's messages to `Turn`s of the target's blocks, with the client's own tool ids. What a
target demands of them lives in its own `to_<dialect>.py`; here stands what Messages and Converse have in common, since
Bedrock's rules are Anthropic's. Nothing here looks into a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final

Block = dict[str, Any]

CONTINUE: Final = "Continue."
"""The user's turn behind an assistant's that a model will not go on with (kortix#6489, hermes#101401)."""
NO_OUTPUT: Final = "(no output)"
"""A tool's result may be neither empty nor blank (hermes#55092, hermes#39829, aws-samples orchestration#15)."""
NO_RESULT: Final = "No result was given for this tool call."


@dataclass(slots=True)
class Turn:
    """What one message of the client contributes. `role` is user, assistant or system; tool results are the user's."""

    role: str
    blocks: list[Block]
    path: str
    """JSON pointer of the client's message."""


def side(turn: Turn) -> str:
    """Whose turn it is when roles alternate: a system turn belongs to the user's side."""
    return "assistant" if turn.role == "assistant" else "user"


def native_at_end(run: Sequence[Turn], *, mid_system: bool, waiting: bool) -> int:
    """How many turns at the end of a user's run go out as one system message.

    It must follow a user turn (or results, for which calls are `waiting`) and be followed by the assistant or nothing,
    and two in a row are refused (maximhq/bifrost#3945): only the system turns that end the user's side can be one.
    """
    count = sum(1 for _ in takewhile(lambda turn: turn.role == "system", reversed(run))) if mid_system else 0
    return count if count < len(run) or waiting else 0


def reminder(text: str) -> str:
    """System text in place, as Claude Code writes it: hoisting it would spoil the cached prefix (bifrost#5931)."""
    return f"<system-reminder>\n{text}\n</system-reminder>"


def frame_document(content: str, title: str) -> str:
    """A document's text in a frame, so that the model can tell it from what the user says."""
    name = " ".join(title.replace('"', "'").split())
    return f'<document title="{name}">\n{content}\n</document>' if name else f"<document>\n{content}\n</document>"
