"""Reads replies of Gemini, streamed or whole, and calls the writer of the client's reply (`shared/reply_events.py`).

- Each chunk of a stream is a complete response with the new parts. A text part continues the previous text part. A
  function call is complete in one part.
- Older models send a finish reason with every chunk. So the reply ends only with the last chunk.
- A signature is on the part that it signs. The signature of a text may also come later, in a part without text
  (`carried.py`).
- If Gemini blocks the prompt, the reply has no candidates. Its field `promptFeedback` has the reason.

Source: Google's API reference (GenerateContentResponse).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.contract import json_api
from gateway.contract.errors import BadFrame
from gateway.contract.flag import Drop, Event
from gateway_plugins.dialects.gemini_generate_content import carried, facts
from gateway_plugins.dialects.gemini_generate_content.carried import Signature
from gateway_plugins.dialects.gemini_generate_content.usage import Reports
from gateway_plugins.shared import lenient, reply_events
from gateway_plugins.shared.cache_marks import Marks
from gateway_plugins.shared.reasoning import Maker
from gateway_plugins.shared.reply_events import Calls, Citation, Stop, Writer
from gateway_plugins.shared.tools import Names

_REASONS: Final[Mapping[str, str]] = {
    facts.STOP: reply_events.END_TURN,
    facts.MAX_TOKENS: reply_events.MAX_TOKENS,
    facts.CONTINUATION: reply_events.MAX_TOKENS,
    **dict.fromkeys(facts.REFUSALS, reply_events.REFUSAL),
    **dict.fromkeys(facts.FAULTS, reply_events.MALFORMED),
}
"""Stop reason for each finish reason of Gemini. Any other finish reason counts as the end of the turn."""
_DESCRIBING: Final = frozenset({
    "thought", "thoughtSignature", "partMetadata", "mediaResolution", "videoMetadata",
})  # fmt: skip
"""Fields of a part that only describe the part's content. They are not reported as dropped."""
_CALL: Final = b"functionCall"
"""Name of the field with a function call, as bytes for a quick search. If a chunk contains the name, large numbers are
decoded with all digits."""
_UNMAPPED: Final = ("groundingMetadata", "urlContextMetadata", "logprobsResult")
"""Fields of a candidate that no other dialect has. They are reported as dropped."""


class Reader:
    """Reads one reply, and puts the gateway's tag before each signature of thinking.

    The tag names the model's family (`shared/reasoning.py`).
    """

    def __init__(self, names: Names, schema_tool: str, maker: Maker, drop: Drop) -> None:
        self._calls = Calls(names, schema_tool)
        self._schema_tool = schema_tool
        self._maker = maker
        self._drop = drop
        self._reports = Reports()
        self._started = self._thinks = self._in_text = False
        """`_started`: the first chunk has come. `_thinks`: a block of thinking is open. `_in_text`: a text is open."""
        self._native = self._blocked = ""
        """`_native` is the candidate's finish reason. `_blocked` is the reason why the prompt was blocked, or ""."""
        self._cited: set[str] = set()

    def event(self, event: Event, writer: Writer) -> None:
        data = lenient.mapping(event.data)
        self._response(lenient.all_digits(event.payload, data) if _CALL in event.payload else data, writer)

    def whole(self, body: bytes, writer: Writer) -> None:
        data = lenient.all_digits(body, json_api.json_object(body))
        if not facts.candidates(data) and not facts.block_reason(data):
            raise BadFrame("the provider's reply has no candidates and no promptFeedback")
        self._response(data, writer)

    def end(self, writer: Writer, marks: Marks) -> None:  # noqa: ARG002 (Gemini writes to no cache on request)
        self._settle(writer)
        reason = _REASONS.get(self._native, reply_events.END_TURN)
        if self._blocked:
            reason = reply_events.REFUSAL
        writer.finish(Stop(self._calls.reason(reason), self._native or self._blocked))
        if self._reports.reported:
            writer.usage(self._reports.usage, self._reports.part("").tier)

    def _response(self, data: Mapping[str, Any], writer: Writer) -> None:
        if not self._started and data:
            self._started = True
            writer.start(lenient.text(data.get(facts.RESPONSE_ID)))
        for candidate in facts.candidates(data):
            if not lenient.whole_number(candidate.get("index")):
                self._candidate(candidate, writer)
        self._blocked = facts.block_reason(data) or self._blocked
        if facts.USAGE in data:
            self._reports.add(lenient.mapping(data[facts.USAGE]))

    def _candidate(self, candidate: Mapping[str, Any], writer: Writer) -> None:
        for part in facts.parts_of(candidate):
            self._part(part, writer)
        citations = lenient.mapping(candidate.get("citationMetadata"))
        for name in ("citationSources", "citations"):  # the names in the Gemini API and in Vertex AI
            for entry in map(lenient.mapping, lenient.sequence(citations.get(name))):
                self._cite(entry, writer)
        for name in _UNMAPPED:
            if candidate.get(name):
                self._drop(f"/reply/{name}")
        self._native = facts.finish_reason(candidate) or self._native

    def _part(self, part: Mapping[str, Any], writer: Writer) -> None:
        signature = lenient.text(part.get(facts.SIGNATURE))
        for kind, value in part.items():
            if kind == facts.CALL:
                self._call(lenient.mapping(value), signature, writer)
            elif kind == "text" and part.get(facts.THOUGHT) is True:
                self._think(lenient.text(value), signature, writer)
            elif kind == "text":
                self._text(lenient.text(value), signature, writer)
            elif kind not in _DESCRIBING:
                self._drop(f"/reply/{kind}")
        if signature and part.keys() <= _DESCRIBING:
            self._text("", signature, writer)

    def _think(self, piece: str, signature: str, writer: Writer) -> None:
        if piece:
            self._end_text(writer)
            self._thinks = True
            writer.thinking(piece)
        if signature:
            self._carry(carried.THOUGHT, signature, writer)

    def _text(self, piece: str, signature: str, writer: Writer) -> None:
        if piece:
            self._settle(writer)
            self._in_text = True
            writer.text(piece)
        if signature:
            self._settle(writer)
            self._carry(carried.TEXT, signature, writer)

    def _call(self, call: Mapping[str, Any], signature: str, writer: Writer) -> None:
        """Write a function call.

        - A call of the schema tool (a tool whose input is the answer) is written as text. Its signature is reported as
          dropped.
        - A call without a name is reported as dropped. It is a later piece of streamed arguments, which the gateway
          never requests.
        """
        name = lenient.text(call.get("name"))
        if not name:
            self._drop(f"/reply/{facts.CALL}")
            return
        self._end_text(writer)
        if signature and name == self._schema_tool:
            self._drop(f"/reply/{facts.SIGNATURE}")
        elif signature:
            self._carry(carried.CALL, signature, writer)
        self._settle(writer)
        self._calls.begin(lenient.text(call.get("id")), name, writer)
        self._calls.arguments(lenient.arguments(call.get("args")), writer)
        self._calls.end(writer)
        writer.block_end()

    def _carry(self, kind: str, signature: str, writer: Writer) -> None:
        """Write a signature of Gemini as the signature of the open thinking block, or else as redacted thinking.

        `kind` tells what Gemini signed (`Signature.kind`).
        """
        token = carried.encode(Signature(kind, signature), self._maker)
        if not token:
            self._drop(f"/reply/{facts.SIGNATURE}")
        elif self._thinks:
            self._thinks = False
            writer.signature(token)
            writer.block_end()
        else:
            self._end_text(writer)
            writer.redacted(token)

    def _settle(self, writer: Writer) -> None:
        """End the open thinking block without a signature of Gemini.

        The block still gets a signature: the gateway's tag, which names the model family that wrote the thinking.
        """
        if self._thinks:
            self._thinks = False
            writer.signature(self._maker.tagged(""))
            writer.block_end()

    def _end_text(self, writer: Writer) -> None:
        if self._in_text:
            self._in_text = False
            writer.block_end()

    def _cite(self, entry: Mapping[str, Any], writer: Writer) -> None:
        """Write the citation of a web page, unless the same page has been cited already. Every chunk repeats the
        citations.
        """
        source = lenient.text(entry.get("uri"))
        if not source or not self._in_text:
            self._drop("/reply/citationMetadata")
        elif source not in self._cited:
            self._cited.add(source)
            writer.citation(Citation("web", title=lenient.text(entry.get("title")), source=source))
