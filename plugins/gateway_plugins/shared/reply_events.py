"""The interface between the reader of an upstream's reply and the writer of the client's reply.

A reader (`dialects/<dialect>/walk.py`) walks through a reply, streamed or whole, and calls one method of the writer
(`dialects/<dialect>/emit.py`) for each thing in it. A conversion joins one reader and two writers in a `Translation`.

- Nothing is stored between the two: each call becomes events, or a part of the body, at once.
- A reader reports what has no method here through `drop`; it never puts it elsewhere.
- Tool names, ids, signatures and redacted data arrive as the client must see them: names restored, signatures tagged
  with the family (`shared/reasoning.py`).
- A block begins with the first method of its kind and lasts until `block_end`, or until one of another kind.
  Blocks never nest: a reader holds back what stands between two pieces of a tool call.
- Stop reasons use one vocabulary, the constants below, which are Anthropic's words since those distinguish most.
- `usage` is cumulative and may come before or after `finish`; nothing else may follow `finish`.
- Citations count as Anthropic's do: characters and blocks from 0, pages from 1, ends exclusive.

No event or member of a dialect belongs here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import orjson

from gateway.contract.flag import ClientRequest, Event, Usage
from gateway_plugins.shared.tools import Names

END_TURN: Final = "end_turn"
TOOL_USE: Final = "tool_use"
MAX_TOKENS: Final = "max_tokens"
STOP_SEQUENCE: Final = "stop_sequence"
REFUSAL: Final = "refusal"
"""Reason for a reply that a content filter, a guardrail or the model itself cut short."""
CONTEXT: Final = "model_context_window_exceeded"
MALFORMED: Final = "malformed"
"""Reason for output that is neither text nor a call (Converse's malformed_model_output and malformed_tool_use)."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The reason why a reply ended."""

    reason: str
    """One of the constants above; `END_TURN` for a provider's word that no reader knows."""
    native: str = ""
    """The provider's own word."""
    sequence: str = ""
    """The stop sequence that was met, if the provider names it."""


@dataclass(frozen=True, slots=True)
class Citation:
    """The source of a text, as a range in a document or search result, or as a web page."""

    kind: str
    """`char`, `page` or `block` (ranges in a document), `search_result`, or `web`."""
    cited: str = ""
    """The quoted words."""
    title: str = ""
    source: str = ""
    """URL of a web page; source of a search result."""
    index: int = 0
    """Index of the document, or of the search result, in the request."""
    start: int = 0
    end: int = 0


class Writer(Protocol):
    """Writes a reply in a client's dialect."""

    def start(self, reply_id: str = "") -> None:
        """Begin the reply. Called before all else, at most once; without it, the writer begins on its own."""

    def text(self, piece: str) -> None: ...

    def refusal(self, piece: str) -> None:
        """Write text with which the model declines; it is plain text in a dialect without a form for it."""

    def citation(self, citation: Citation) -> None:
        """Add a citation to the open text block."""

    def thinking(self, piece: str) -> None: ...

    def signature(self, value: str) -> None:
        """Sign the open thinking block with a whole signature. No provider takes back unsigned thinking."""

    def redacted(self, data: str) -> None:
        """Write a whole block of hidden thinking: Anthropic's base64 text, tagged."""

    def tool(self, tool_id: str, name: str) -> None:
        """Begin a call."""

    def arguments(self, fragment: str) -> None:
        """Write a piece of the open call's JSON. A call without any piece has the arguments `{}`."""

    def block_end(self) -> None: ...

    def usage(self, usage: Usage, tier: str = "") -> None:
        """Take the counts so far, which replace those of the last call."""

    def finish(self, stop: Stop) -> None:
        """End the reply; only `usage` may follow."""


class StreamWriter(Writer, Protocol):
    def take(self) -> list[Event]:
        """Return the events written since the last call."""

    def close(self) -> None:
        """Write what waited for the usage: the stream is over and none will come."""


class WholeWriter(Writer, Protocol):
    def whole(self) -> bytes:
        """Return the body."""


class Reader(Protocol):
    """Reads replies of one upstream dialect, leniently (`shared/lenient.py`)."""

    def event(self, event: Event, writer: Writer) -> None:
        """Read one event of a stream; raise `BadFrame` if the dialect does not allow it."""

    def whole(self, body: bytes, writer: Writer) -> None:
        """Read a whole body; raise `BadFrame` if the dialect does not allow it."""


@dataclass(slots=True)
class Calls:
    """The tool calls of one reply, on their way from a reader to the writer.

    Tools and properties get back the names that the client gave them. The input of the schema tool, which stands for
    a response format, is written as text.
    """

    names: Names
    schema_tool: str
    """Name of the schema tool; "" if there is none."""
    is_open: bool = False
    """A call has begun and not ended."""
    _count: int = 0
    """Calls that the client received."""
    _is_schema_tool: bool = False
    """The last call is one of the schema tool."""
    _pieces: list[str] = field(default_factory=list)
    """Pieces of the open call's input. Filled only if properties were renamed: restoring them takes the whole input."""

    def begin(self, tool_id: str, name: str, writer: Writer) -> None:
        self.is_open = True
        self._is_schema_tool = bool(name) and name == self.schema_tool
        if not self._is_schema_tool:
            self._count += 1
            writer.tool(tool_id, self.names.restore(name))

    def arguments(self, fragment: str, writer: Writer) -> None:
        """Write a piece of the open call's input; ignore one that belongs to no call."""
        if not fragment or not self.is_open:
            return
        if self.names.renames_properties:
            self._pieces.append(fragment)
        else:
            self._write(fragment, writer)

    def end(self, writer: Writer) -> None:
        """End the open call, if there is one: its input is complete."""
        self.is_open = False
        if self._pieces:
            text, self._pieces = "".join(self._pieces), []
            self._write(_restore_names(text, self.names), writer)

    def reason(self, reason: str) -> str:
        """Return the stop reason that tells the client whether it has a call to answer.

        Some families report `end_turn` after a call, at which agents would stop; and a call of the schema tool is no
        call to the client.
        """
        if reason in {END_TURN, TOOL_USE}:
            return TOOL_USE if self._count else END_TURN
        return reason

    def _write(self, text: str, writer: Writer) -> None:
        if self._is_schema_tool:
            writer.text(text)
        else:
            writer.arguments(text)


def _restore_names(text: str, names: Names) -> str:
    """Return a call's input with the client's property names; text that is no object stays as the model wrote it."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return orjson.dumps(names.restore_input(value)).decode() if isinstance(value, dict) else text


@dataclass(slots=True)
class Translation:
    """One translated attempt (`flag.Translation`): a reader and the client's two writers."""

    request: ClientRequest
    reader: Reader
    stream: StreamWriter
    unstreamed: Callable[[], WholeWriter]

    def feed(self, event: Event) -> Sequence[Event]:
        self.reader.event(event, self.stream)
        return self.stream.take()

    def close(self) -> Sequence[Event]:
        self.stream.close()
        return self.stream.take()

    def whole(self, body: bytes) -> bytes:
        writer = self.unstreamed()
        self.reader.whole(body, writer)
        return writer.whole()
