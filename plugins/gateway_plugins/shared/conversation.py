"""The messages of a request that is converted to Chat or to Gemini.

A mapping adds the client's messages to a `Conversation`, in order and with the client's tool ids. The protocol
`Conversation` has two implementations, in `dialects/openai_chat/demand.py` and in
`dialects/gemini_generate_content/demand.py`. Each implementation writes the parts of its dialect and applies the rules
for the sequence of messages. Conversions to Messages and to Converse use `turns.py` instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from gateway_plugins.shared.media import Media
from gateway_plugins.shared.reasoning import Reasoning
from gateway_plugins.shared.turns import Block


class Call(NamedTuple):
    """A tool call: the client's id, the tool's name for the provider (possibly an alias), and the input."""

    id: str
    name: str
    input: dict[str, Any]


Piece = str | Reasoning | Call
"""A piece of a message: text, thinking, or a call."""


class Conversation(Protocol):
    def text(self, value: str) -> Block:
        """Return a part of a message with the text `value` in its field `text`."""

    def file(self, media: Media, field: str) -> list[Block]:
        """Return a file as a part. In some dialects, a text part with the file's name precedes it.

        Raises `Refused`, naming `field`, if the model cannot read the file.
        """

    def system(self, value: str) -> None:
        """Add system text at the end of the conversation."""

    def user(self, parts: Sequence[Block]) -> None:
        """Add a user message."""

    def assistant(self, pieces: Sequence[Piece], at: str) -> None:
        """Add a turn of the assistant. `at` is the JSON pointer of the client's message."""

    def result(self, call_id: str, parts: Sequence[Block], at: str, *, is_error: bool = False) -> None:
        """Add a tool result. Raises `Refused` if the last assistant turn has no call with the id `call_id`.

        `at` is the JSON pointer of the client's field with this id. `is_error` is true if the call failed.
        """
