"""Writes replies in Google's generateContent dialect: the chunks of a stream, or one body.

- Each chunk of a stream is a complete response with the new parts. The last one has the finish reason and the usage.
- A function call is one part, so its arguments are collected first.
- Thinking is written only for a client that requests it.
- The client must send signed thinking back in the next request. So the signed thinking is encoded in the signature of
  the next part (`signatures.py`).
- `candidatesTokenCount` excludes thinking tokens. `promptTokenCount` includes cached tokens.

`shared/reply_events.py` defines the writers. The plugin's encoder frames the chunks. Source: Google's API reference
(GenerateContentResponse, UsageMetadata).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.contract import lenient_json
from gateway.contract.flag import Drop, Event, Usage, event
from gateway_plugins.dialects.gemini_generate_content import signatures
from gateway_plugins.dialects.gemini_generate_content.answers import AnswerText
from gateway_plugins.dialects.gemini_generate_content.facts import CHUNK, MAX_TOKENS, SAFETY, STOP
from gateway_plugins.shared import checks, reply_events
from gateway_plugins.shared.reply_events import Citation, Stop
from gateway_plugins.shared.reply_ids import reply_id as own_id

Json = dict[str, Any]

_REASONS: Final[Mapping[str, str]] = {
    reply_events.MAX_TOKENS: MAX_TOKENS,
    reply_events.CONTEXT: MAX_TOKENS,
    reply_events.REFUSAL: SAFETY,
    reply_events.MALFORMED: "MALFORMED_FUNCTION_CALL",
}
"""Google's finish reason for a stop reason of `reply_events`. Any other reason becomes `STOP`."""
_TEXT: Final = "text"
_THOUGHT: Final = "thought"
_CALL: Final = "call"


def usage_dict(usage: Usage) -> Json:
    """Return usage in Google's form. The prompt count includes cached tokens. The answer's count excludes thinking."""
    prompt = usage.input + usage.cache_read + usage.cache_write_5m + usage.cache_write_1h
    counts = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": max(0, usage.output - usage.reasoning),
        "totalTokenCount": prompt + usage.output,
    }
    if usage.cache_read:
        counts["cachedContentTokenCount"] = usage.cache_read
    if usage.reasoning:
        counts["thoughtsTokenCount"] = usage.reasoning
    return counts


class ReplyOptions(msgspec.Struct, frozen=True):
    """Values of the client's request that the writer of the reply needs."""

    include_thoughts: bool = False
    """True if the client requests the text of the thinking."""
    in_object: bool = False
    """True if the provider was asked for `{"answer": ...}` instead of the client's own schema (`answers.py`)."""


class _Writer(ABC):
    """Turns a reply into parts. A subclass writes each part with `_put`."""

    def __init__(self, model: str, drop: Drop, options: ReplyOptions) -> None:
        self._model = model
        self._drop = drop
        self._include_thoughts = options.include_thoughts
        self._answer = AnswerText() if options.in_object else None
        self._id = ""
        self._open = ""
        """Kind of the open block. It is "" between blocks."""
        self._thought: list[str] = []
        """Pieces of the open block of thinking."""
        self._signed: list[dict[str, str]] = []
        """Signed and redacted thinking since the last part that has a signature."""
        self._call: Json = {}
        """The open function call, without its arguments."""
        self._arguments: list[str] = []
        self._bytes = self._block_start = 0
        """`_bytes` counts the UTF-8 bytes of text so far. `_block_start` is its value when the open block began."""
        self._cited: list[str] = []
        """URLs that the open block cites. They are kept until the block ends, because a citation has the index of the
        block's last byte."""
        self._citations: list[Json] = []
        self._has_parts = False
        self._stop: Stop | None = None
        self._usage: Usage | None = None

    @abstractmethod
    def _put(self, part: Json) -> None:
        """Add a part to the reply."""

    def start(self, reply_id: str = "") -> None:
        self._id = self._id or own_id("", reply_id)

    def text(self, piece: str) -> None:
        if piece:
            self._begin(_TEXT)
            self._write_text(piece if self._answer is None else self._answer.feed(piece))

    refusal = text

    def citation(self, citation: Citation) -> None:
        """Write a citation with a URL. Report any other citation as dropped, because this API has no form for it."""
        if not citation.source.startswith(("http://", "https://")):
            self._drop("/reply/citation")
            return
        self._begin(_TEXT)
        self._cited.append(citation.source)

    def thinking(self, piece: str) -> None:
        if not piece:
            return
        self._begin(_THOUGHT)
        self._thought.append(piece)
        if self._include_thoughts:
            self._has_parts = True
            self._put({"text": piece, "thought": True})

    def signature(self, value: str) -> None:
        self._signed.append({"thinking": "".join(self._thought), "signature": value})
        self._thought = []

    def redacted(self, data: str) -> None:
        self.block_end()
        self._signed.append({"data": data})

    def tool(self, tool_id: str, name: str) -> None:
        self.block_end()
        self._begin(_CALL)
        self._call = {"id": tool_id, "name": name}

    def arguments(self, fragment: str) -> None:
        if self._open == _CALL:
            self._arguments.append(fragment)

    def block_end(self) -> None:
        if self._open == _TEXT and self._answer is not None:
            self._write_text(self._answer.close())
        elif self._open == _CALL:
            pieces, self._arguments = self._arguments, []
            self._write({"functionCall": {**self._call, "args": checks.arguments("".join(pieces))}})
        place = {"startIndex": self._block_start, "endIndex": self._bytes}
        self._citations += [{**place, "uri": source} for source in self._cited]
        self._open, self._thought, self._block_start, self._cited = "", [], self._bytes, []

    def usage(self, usage: Usage, tier: str = "") -> None:
        del tier  # this API has no service tier in its replies
        self._usage = usage

    def finish(self, stop: Stop) -> None:
        """End the reply.

        If signed or redacted thinking has not been written yet, write it as the signature of an empty text.
        """
        if self._stop is not None:
            return
        self.block_end()
        if self._signed:
            self._write({"text": ""})
        self._stop = stop

    def _begin(self, kind: str) -> None:
        """Begin a block of type `kind`, unless the open block is of this type."""
        if self._open != kind:
            self.block_end()
            self._open = kind

    def _write_text(self, piece: str) -> None:
        if piece:
            self._bytes += len(piece.encode("utf-8", "surrogatepass"))
            self._write({"text": piece})

    def _write(self, part: Json) -> None:
        if self._signed:
            part["thoughtSignature"] = signatures.packed(self._signed)
            self._signed = []
        self._has_parts = True
        self._put(part)

    def _response(self, parts: list[Json], ending: Json) -> Json:
        self.start()
        candidate = {"content": {"parts": parts, "role": "model"}, **ending, "index": 0}
        return {"candidates": [candidate], "modelVersion": self._model, "responseId": self._id}

    def _last(self, parts: list[Json], stop: Stop) -> Json:
        """Return the last `GenerateContentResponse` of a reply, with the finish reason, citations and usage."""
        reason = _REASONS.get(stop.reason, STOP)
        ending: Json = {"finishReason": reason}
        if reason != STOP and stop.native:
            ending["finishMessage"] = stop.native
        if self._citations:
            ending["citationMetadata"] = {"citationSources": self._citations}
        response = self._response(parts, ending)
        if reason == SAFETY and not self._has_parts:
            response["promptFeedback"] = {"blockReason": SAFETY}
        if self._usage is not None:
            response["usageMetadata"] = usage_dict(self._usage)
        return response


class Stream(_Writer):
    """Writer of one streamed reply."""

    def __init__(self, model: str, drop: Drop, options: ReplyOptions) -> None:
        super().__init__(model, drop, options)
        self._events: list[Event] = []

    def take(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """Write the last chunk, with an empty text as in Google's streams.

        Do nothing if `finish` was not called, or if the chunk is written already.
        """
        if (stop := self._stop) is not None:
            self._stop = None
            self._events.append(event(CHUNK, self._last([{"text": ""}], stop)))

    def _put(self, part: Json) -> None:
        self._events.append(event(CHUNK, self._response([part], {})))


class Whole(_Writer):
    """Writer of one reply that is not streamed."""

    def __init__(self, model: str, drop: Drop, options: ReplyOptions) -> None:
        super().__init__(model, drop, options)
        self._parts: list[Json] = []

    def whole(self) -> bytes:
        self.block_end()
        return lenient_json.dumps(self._last(self._parts, self._stop or Stop(reply_events.END_TURN)))

    def _put(self, part: Json) -> None:
        """Add a part. Unsigned text is appended to the previous part, if both are answer text or both are thinking."""
        last = self._parts[-1] if self._parts else {}
        continues = "text" in part and "text" in last and "thoughtSignature" not in part
        if continues and part.get("thought") == last.get("thought"):
            last["text"] += part["text"]
        else:
            self._parts.append(part)
