"""The interface between the reader of a provider's reply and the writer of the client's reply.

A reader (`dialects/<dialect>/walk.py`) goes through a reply in the provider's dialect, and calls a method of a writer
for each piece of content. The writer (`dialects/<dialect>/emit.py`) makes the reply in the client's dialect. There is
one reader per dialect, and two writers: one for a stream, and one for a reply that is not streamed ("whole").

- The writer turns each method call into events, or into a part of the body.
- If the writer has no method for some content, the reader reports this content as dropped.
- The reader passes the client's own tool names to the writer. Signatures and redacted data of thinking have the tag of
  the model family, if they need one (`Maker.tagged` of `shared/reasoning.py`).
- A block begins with the first call of a method for its kind (text, thinking, tool call). It ends with `block_end`, or
  when a block of another kind begins.
- Blocks are never nested. If a provider sends other content between two pieces of a tool call, the reader passes this
  content on after the call.
- A stop reason is one of the constants below. Most are Anthropic's names, because Anthropic's API has the most reasons.
- The method `usage` is called once, after `finish`, with the counts of the whole reply. A provider may report counts
  several times, and only the end of the reply shows which report was the last.
- No method except `usage` may be called after `finish`. If a provider ends a reply twice, content after the first end
  is ignored.
- Positions of citations are counted as in Anthropic's API: characters and blocks from 0, pages from 1. The end of a
  range is the first position after it.

Events and fields of a single dialect do not belong here.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec
import orjson

from gateway.contract import lenient_json
from gateway.contract.errors import BadFrame
from gateway.contract.flag import ClientRequest, Event, Usage
from gateway_plugins.shared.cache_marks import Marks
from gateway_plugins.shared.split_characters import SplitCharacters
from gateway_plugins.shared.tools import Names

END_TURN: Final = "end_turn"
TOOL_USE: Final = "tool_use"
MAX_TOKENS: Final = "max_tokens"
STOP_SEQUENCE: Final = "stop_sequence"
REFUSAL: Final = "refusal"
"""Stop reason if a content filter, a guardrail or the model's refusal ended the reply."""
CONTEXT: Final = "model_context_window_exceeded"
MALFORMED: Final = "malformed"
"""Stop reason for model output that is neither text nor a valid call (Converse: malformed_model_output,
malformed_tool_use)."""


class Stop(msgspec.Struct, frozen=True):
    """The reason why a reply ended."""

    reason: str
    """One of this module's stop reasons. For an unknown reason of the provider, it is `END_TURN`."""
    native: str = ""
    """The provider's own name of the reason."""
    sequence: str = ""
    """The stop sequence that ended the reply, if the provider names it."""


def check_answer(stop: Stop, *, answered: bool) -> None:
    """Raise `BadFrame` if the reply has neither text nor a tool call, and its stop reason says that the model failed.

    Messages and Chat have no stop reason for this. Without an error, an agent would end its work in silence
    (BerriAI/litellm#40477).
    """
    if stop.reason == MALFORMED and not answered:
        raise BadFrame(f"the model's reply is neither an answer nor a call ({stop.native})")


class Citation(msgspec.Struct, frozen=True):
    """The source of a text: a range in a document, a search result or a web page."""

    kind: str
    """The kind of the source: `char`, `page` or `block` (ranges in a document), `search_result`, or `web`."""
    cited: str = ""
    """The cited passage of the source."""
    title: str = ""
    source: str = ""
    """URL of a web page, or the source of a search result as the client names it."""
    index: int = 0
    """Index of the document, or of the search result, in the request."""
    start: int = 0
    end: int = 0


class Writer(Protocol):
    """Writer of one reply in the client's dialect."""

    def start(self, reply_id: str = "") -> None:
        """Begin the reply. This call may be left out: the first content then begins the reply."""

    def text(self, piece: str) -> None: ...

    def refusal(self, piece: str) -> None:
        """Write a piece of a refusal by the model. In a dialect without refusals, the piece becomes plain text."""

    def citation(self, citation: Citation) -> None:
        """Add a citation to the open text block."""

    def thinking(self, piece: str) -> None: ...

    def signature(self, value: str) -> None:
        """Add the complete signature to the open thinking block. The client must send it back with the thinking."""

    def redacted(self, data: str) -> None:
        """Write a whole block of redacted thinking. `data` already has the tag of the model family
        (`shared/reasoning.py`).
        """

    def tool(self, tool_id: str, name: str) -> None:
        """Begin a tool call."""

    def arguments(self, fragment: str) -> None:
        """Write a piece of the open tool call's arguments, which are JSON text. Without any piece, the arguments are
        `{}`.
        """

    def block_end(self) -> None: ...

    def usage(self, usage: Usage, tier: str = "") -> None:
        """Set the token counts and the service tier of the reply."""

    def finish(self, stop: Stop) -> None:
        """End the reply. Only `usage` may be called after it."""


class StreamWriter(Writer, Protocol):
    def take(self) -> list[Event]:
        """Return the events that were written since the last call of `take`."""

    def close(self) -> None:
        """Write the events that need the token counts and were held back until now. Called at the end of the stream."""


class WholeWriter(Writer, Protocol):
    def whole(self) -> bytes:
        """Return the body of the reply."""


class Reader(Protocol):
    """Reader of one reply in a provider's dialect. It ignores most faults in a reply (`shared/lenient.py`)."""

    def event(self, event: Event, writer: Writer) -> None:
        """Read one event of a stream, and pass its parts to `writer`. Raises `BadFrame` if the event is not valid."""

    def whole(self, body: bytes, writer: Writer) -> None:
        """Read an unstreamed reply, and pass its parts to `writer`. Raises `BadFrame` if the body is invalid."""

    def end(self, writer: Writer, marks: Marks) -> None:
        """Pass the token counts to the writer, if the provider reported any. This method is called once, at the end of
        the reply.

        `marks` are the cache marks (`cache_control`, `cachePoint`) of the request to the provider.
        """


MAX_ID: Final = 56
"""Number of characters that are kept of a tool call's id if an earlier call has the same id. A suffix such as `_3` then
makes it unique.

Converse accepts ids of up to 64 characters (botocore's model)."""


class Calls(msgspec.Struct):
    """The tool calls of one reply. A reader passes each call through this class to the writer.

    Aliases of tools and properties are replaced by the client's names. The input of the schema tool
    (`shared/output_format.py`) is the answer itself, so it is written as text.
    """

    names: Names
    schema_tool: str
    """Name of the schema tool, the tool whose input is the answer. It is "" if there is none."""
    is_open: bool = False
    """True if a call has begun and has not ended."""
    _count: int = 0
    """Number of calls that the client gets. Calls of `schema_tool` are not counted."""
    _is_schema_tool: bool = False
    """True if the call that was begun last is a call of `schema_tool`."""
    _ids: set[str] = msgspec.field(default_factory=set)
    _pieces: list[str] = msgspec.field(default_factory=list)
    """Pieces of the open tool call's input, if properties of the tool have aliases. It is empty for any other call.

    The client's own names can be restored only in the whole input."""

    def begin(self, tool_id: str, name: str, writer: Writer) -> None:
        """Begin a call.

        A client sends the result of a call with the call's id. So a call without an id, or with the id of an earlier
        call, gets a new id.
        """
        self.is_open = True
        number, given = len(self._ids), tool_id
        while tool_id in self._ids:
            tool_id, number = f"{given[:MAX_ID]}_{number}", number + 1
        tool_id = tool_id or f"call_{uuid.uuid4().hex[:24]}"
        self._ids.add(tool_id)
        self._is_schema_tool = bool(name) and name == self.schema_tool
        if not self._is_schema_tool:
            self._count += 1
            writer.tool(tool_id, self.names.restore(name))

    def arguments(self, fragment: str, writer: Writer) -> None:
        """Write a piece of the open tool call's input. The piece is ignored if no tool call is open."""
        if not fragment or not self.is_open:
            return
        if self.names.renames_properties:
            self._pieces.append(fragment)
        else:
            self._write(fragment, writer)

    def end(self, writer: Writer) -> None:
        """End the open call, whose input is now complete. Does nothing if no call is open."""
        self.is_open = False
        if self._pieces:
            text, self._pieces = "".join(self._pieces), []
            self._write(_restore_names(text, self.names), writer)

    def reason(self, reason: str) -> str:
        """Return the stop reason for the client.

        The reasons `END_TURN` and `TOOL_USE` are corrected: the client gets `TOOL_USE` if the reply has tool calls, and
        `END_TURN` if it has none. Some model families report `end_turn` after a call, which would stop agents. After a
        call of the schema tool, providers report `tool_use`, although the client gets text.

        Any other reason is returned unchanged.
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
    """Return a tool call's input with the client's names of properties. Text that is no JSON object is returned
    unchanged.
    """
    try:
        value = lenient_json.exact(text)
    except orjson.JSONDecodeError:
        return text
    return lenient_json.dumps(names.restore_input(value)).decode() if isinstance(value, dict) else text


class Translation(msgspec.Struct):
    """The translated request, and the code that translates its reply (the protocol `Translation` of
    `gateway/contract/flag.py`).

    `stream` writes a streamed reply. `unstreamed` creates the writer of a reply that is not streamed.
    """

    request: ClientRequest
    reader: Reader
    stream: StreamWriter
    unstreamed: Callable[[], WholeWriter]
    _characters: SplitCharacters = msgspec.field(default_factory=SplitCharacters)

    def feed(self, event: Event) -> Sequence[Event]:
        for whole in self._characters.feed(event):
            self.reader.event(whole, self.stream)
        return self.stream.take()

    def close(self) -> Sequence[Event]:
        for whole in self._characters.close():
            self.reader.event(whole, self.stream)
        self.reader.end(self.stream, Marks(self.request))
        self.stream.close()
        return self.stream.take()

    def whole(self, body: bytes) -> bytes:
        writer = self.unstreamed()
        self.reader.whole(body, writer)
        self.reader.end(writer, Marks(self.request))
        return writer.whole()
