"""The way back: what the reader of an upstream's reply tells the writer of the client's dialect.

A reader (`parts/walk_<dialect>.py`) goes through a reply, streamed or whole, and calls what it finds; a writer
(`parts/emit_<dialect>.py`) turns the calls into events or a body at once. Nothing is kept in between: a signature, a
cache count or a citation either has a verb here or is dropped aloud by the reader. A conversion joins one of each in
its `Translation`. No dialect's words stand here but the few below, which are Anthropic's, since those tell the most.
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
"""A content filter, a guardrail, or the model itself declined."""
CONTEXT: Final = "model_context_window_exceeded"
MALFORMED: Final = "malformed"
"""What the model wrote is no answer and no call (Converse's malformed_model_output and malformed_tool_use)."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a reply ended."""

    reason: str
    """One of the constants above; what a provider says that is not known yet is `END_TURN`."""
    native: str = ""
    """The provider's own word."""
    sequence: str = ""
    """The stop sequence that was met, where the provider tells."""


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a text comes from. Numbers mean what Anthropic's do: characters and blocks from 0, pages from 1, ends
    exclusive.
    """

    kind: str
    """`char`, `page`, `block` (places in a document), `search_result`, or `web`."""
    cited: str = ""
    """The words of the source."""
    title: str = ""
    source: str = ""
    """URL of a web page; source of a search result."""
    index: int = 0
    """Of the document, or of the search result, in the request."""
    start: int = 0
    end: int = 0


class Writer(Protocol):
    """Writes a reply in a client's dialect. A block begins with its first call and lasts until `block_end` or until one
    of another kind begins; ids, signatures and names come as the client is to get them.
    """

    def start(self, reply_id: str = "") -> None:
        """The reply begins; called at most once, before all else, and done by the writer itself if nobody calls it."""

    def text(self, piece: str) -> None: ...

    def refusal(self, piece: str) -> None:
        """Text with which the model declines; text in a dialect that has no word for it."""

    def citation(self, citation: Citation) -> None:
        """Belongs to the text block that is open."""

    def thinking(self, piece: str) -> None: ...

    def signature(self, value: str) -> None:
        """Of the thinking that is open, whole, and tagged. Thinking without one is never taken back by a provider."""

    def redacted(self, data: str) -> None:
        """A whole block of hidden thinking: Anthropic's base64 text, tagged."""

    def tool(self, tool_id: str, name: str) -> None:
        """A call begins."""

    def arguments(self, fragment: str) -> None:
        """A piece of the open call's JSON. A call that gets none has no arguments: `{}`."""

    def block_end(self) -> None: ...

    def usage(self, usage: Usage, tier: str = "") -> None:
        """The counts, whole and cumulative; before or behind `finish`, or never."""

    def finish(self, stop: Stop) -> None:
        """All has been said; only usage may follow."""


class StreamWriter(Writer, Protocol):
    def take(self) -> list[Event]:
        """The events since the last call."""

    def close(self) -> None:
        """The stream is over: what was held back for the usage goes out without it."""


class WholeWriter(Writer, Protocol):
    def whole(self) -> bytes:
        """The body."""


class Reader(Protocol):
    """Reads replies of one upstream dialect, without trust."""

    def event(self, event: Event, to: Writer) -> None:
        """Raises `BadFrame` for what cannot be read as the dialect."""

    def whole(self, body: bytes, to: Writer) -> None:
        """Raises `BadFrame` for what cannot be read as the dialect."""


def _as_text(to: Writer, fragment: str) -> None:
    to.text(fragment)


def _as_arguments(to: Writer, fragment: str) -> None:
    to.arguments(fragment)


def _restored(made: str, names: Names) -> str:
    """A call's input by the client's names; what is no object stays as the model wrote it."""
    try:
        value = orjson.loads(made)
    except orjson.JSONDecodeError:
        return made
    return orjson.dumps(names.restored_input(value)).decode() if isinstance(value, dict) else made


@dataclass(slots=True)
class Calls:
    """The model's calls as a reader tells them: by the names that the client knows, and the input of the tool that only
    stands for a format as the answer's text.
    """

    names: Names
    schema_tool: str
    """That tool's name; "" if there is none."""
    told: int = 0
    """Calls that the client got."""
    _tell: Callable[[Writer, str], None] | None = None
    """What becomes of the open call's input; None while none is open."""
    _held: list[str] = field(default_factory=list)
    """Its pieces, where names of properties must be given back in it: that takes all of them."""
    _last: Callable[[Writer, str], None] = _as_arguments
    """What becomes of the pieces then."""

    @property
    def is_open(self) -> bool:
        return self._tell is not None

    def begin(self, tool_id: str, name: str, to: Writer) -> None:
        if name and name == self.schema_tool:
            self._open(_as_text)
            return
        self._open(_as_arguments)
        self.told += 1
        to.tool(tool_id, self.names.restore(name))

    def arguments(self, fragment: str, to: Writer) -> None:
        """A piece of the open call's input; one that belongs to no call says nothing."""
        if fragment and self._tell is not None:
            self._tell(to, fragment)

    def end(self, to: Writer) -> None:
        """The open call has its whole input; without one, nothing happens."""
        held, self._held, self._tell = "".join(self._held), [], None
        if held:
            self._last(to, _restored(held, self.names))

    def _open(self, tell: Callable[[Writer, str], None]) -> None:
        self._last = tell
        self._tell = self._hold if self.names.renames_properties else tell

    def _hold(self, to: Writer, fragment: str) -> None:
        _ = to
        self._held.append(fragment)

    def reason(self, reason: str) -> str:
        """Whether the client has something to do. Some families say `end_turn` behind a call, on which agents would
        stop; and a call of the schema tool is none to the client.
        """
        if reason in {END_TURN, TOOL_USE}:
            return TOOL_USE if self.told else END_TURN
        return reason


@dataclass(slots=True)
class Translation:
    """One translated attempt (`flag.Translation`), of a reader and the client's two writers."""

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
