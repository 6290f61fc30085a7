"""Writes replies in the Converse dialect (`shared/reply_events.py`): the events of a stream, or one body.

- Text and thinking begin with a `contentBlockDelta`. Only a tool call has a `contentBlockStart`.
- `metadata` comes after `messageStop`.
- botocore's service model requires `usage` and `latencyMs`, and clients rely on both. If the provider sends no usage,
  the counts are 0. The latency is the time from the request's translation to the end of the reply.

The encoder of Converse's plugin writes the frames and the padding. Sources: botocore's service model, and recorded
streams.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from time import monotonic
from typing import Any, Final

import msgspec

from gateway.contract import lenient_json
from gateway.contract.flag import Event, Usage, event
from gateway_plugins.shared import checks, reply_events
from gateway_plugins.shared.reply_events import Citation, Stop

Block = dict[str, Any]

FIELD_PATHS: Final = ("/stop_sequence", "/delta/stop_sequence", "/usage/output_tokens_details")
"""Paths in `additionalModelResponseFieldPaths` that the gateway supports. All other paths are reported as dropped.

For a stream, Vercel's AI SDK sends `/delta/stop_sequence`."""

_STOPS: Final[Mapping[str, str]] = {
    reply_events.END_TURN: "end_turn",
    reply_events.TOOL_USE: "tool_use",
    reply_events.MAX_TOKENS: "max_tokens",
    reply_events.STOP_SEQUENCE: "stop_sequence",
    reply_events.REFUSAL: "content_filtered",
    reply_events.CONTEXT: "model_context_window_exceeded",
    reply_events.MALFORMED: "malformed_model_output",
}
_INTERVENED: Final = "guardrail_intervened"
"""Stop reason if Bedrock's guardrails ended the reply. The stop reason for other content filters is
`content_filtered`."""
_TIERS: Final[Mapping[str, str]] = {
    "default": "default",
    "standard": "default",
    "priority": "priority",
    "flex": "flex",
    "reserved": "reserved",
}
"""Bedrock's service tier for each tier that a provider may report. Any other tier is left out of the reply."""
PLACES: Final[Mapping[str, tuple[str, str]]] = {
    # kind: (location, field with the index)
    "char": ("documentChar", "documentIndex"),
    "page": ("documentPage", "documentIndex"),
    "block": ("documentChunk", "documentIndex"),
    "search_result": ("searchResultLocation", "searchResultIndex"),
}
"""Names of two nested fields for each kind of citation. The inner field has the index of the document or search result.

For example, the index for the kind `char` is in `location.documentChar.documentIndex`."""
LOCATIONS: Final[Mapping[str, tuple[str, str]]] = {name: (kind, index) for kind, (name, index) in PLACES.items()}
"""The inverse of `PLACES`: maps a field of Converse's `location`, such as `documentChar`, to the kind of the citation
and the inner field, such as `("char", "documentIndex")`."""


class ReplyOptions(msgspec.Struct, frozen=True):
    """Values of the client's request that the writer of the reply needs."""

    paths: tuple[str, ...] = ()
    """The request's `additionalModelResponseFieldPaths`. Each is a JSON pointer to a field of the model's own reply."""
    started: float = msgspec.field(default_factory=monotonic)
    """Monotonic time in seconds at which the request was translated."""

    def metrics(self) -> Block:
        return {"latencyMs": round((monotonic() - self.started) * 1000)}

    def fields(self, stop: Stop, usage: Usage | None) -> Block:
        """Return `additionalModelResponseFields` with the requested values that the reply has, or {} for none.

        Two values can be requested: the stop sequence in `stop`, and the number of thinking tokens in `usage`.
        """
        known: dict[str, Any] = {}
        if stop.sequence:
            known |= {"/stop_sequence": stop.sequence, "/delta/stop_sequence": stop.sequence}
        if usage is not None and usage.reasoning:
            known["/usage/output_tokens_details"] = {"thinking_tokens": usage.reasoning}
        fields: Block = {}
        for path in self.paths:
            if path in known:
                *steps, last = path[1:].split("/")
                inner = fields
                for step in steps:
                    inner = inner.setdefault(step, {})
                inner[last] = known[path]
        return {"additionalModelResponseFields": fields} if fields else {}


def usage_dict(usage: Usage) -> Block:
    """Return Converse's `TokenUsage`. `totalTokens` includes cache tokens, as in recorded replies."""
    written = usage.cache_write_5m + usage.cache_write_1h
    counts: Block = {
        "inputTokens": usage.input,
        "outputTokens": usage.output,
        "totalTokens": usage.input + usage.output + usage.cache_read + written,
        "cacheReadInputTokens": usage.cache_read,
        "cacheWriteInputTokens": written,
    }
    writes = {"5m": usage.cache_write_5m, "1h": usage.cache_write_1h}
    if written:
        counts["cacheDetails"] = [{"ttl": ttl, "inputTokens": count} for ttl, count in writes.items() if count]
    return counts


class Stream:
    """Writes one streamed reply. Blocks are numbered from 0, and each ends before the next begins."""

    def __init__(self, options: ReplyOptions) -> None:
        self._options = options
        self._events: list[Event] = []
        self._started = False
        self._index = -1
        self._open = ""
        """Kind of the open block. It is "" between blocks."""
        self._has_arguments = False
        """True if a piece of the open call's arguments was written."""
        self._stop: Stop | None = None
        """The stop reason from `finish`, or None before that.

        It is kept until `close`, because the event `messageStop` may repeat token counts, which come later.
        """
        self._usage: Usage | None = None
        self._tier = ""
        self._ended = False

    def take(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """Write `messageStop` and `metadata`, if the reply has ended and they are not written yet."""
        if self._stop is None or self._ended:
            return
        self._ended = True
        fields = self._options.fields(self._stop, self._usage)
        self._put("messageStop", {"stopReason": _reason(self._stop), **fields})
        self._put("metadata", _ending(self._options, self._usage, self._tier))

    def start(self, _reply_id: str = "") -> None:
        """Write `messageStart`, once. Converse has no field for the id of a reply."""
        if not self._started:
            self._started = True
            self._put("messageStart", {"role": "assistant"})

    def text(self, piece: str) -> None:
        if piece:
            self._delta("text", {"text": piece})

    refusal = text

    def citation(self, citation: Citation) -> None:
        self._delta("text", {"citation": citation_of(citation)})

    def thinking(self, piece: str) -> None:
        if piece:
            self._delta("thinking", {"reasoningContent": {"text": piece}})

    def signature(self, value: str) -> None:
        self._delta("thinking", {"reasoningContent": {"signature": value}})

    def redacted(self, data: str) -> None:
        self.block_end()
        self._delta("redacted", {"reasoningContent": _redacted(data)})
        self.block_end()

    def tool(self, tool_id: str, name: str) -> None:
        self.block_end()
        self._begin("tool")
        self._has_arguments = False
        start = {"toolUse": {"toolUseId": tool_id, "name": name}}
        self._put("contentBlockStart", {"contentBlockIndex": self._index, "start": start})

    def arguments(self, fragment: str) -> None:
        if fragment and self._open == "tool":
            self._has_arguments = True
            self._delta("tool", {"toolUse": {"input": fragment}})

    def block_end(self) -> None:
        if not self._open:
            return
        if self._open == "tool" and not self._has_arguments:
            self.arguments("{}")
        self._open = ""
        self._put("contentBlockStop", {"contentBlockIndex": self._index})

    def usage(self, usage: Usage, tier: str = "") -> None:
        self._usage, self._tier = usage, tier

    def finish(self, stop: Stop) -> None:
        if self._stop is None:
            self.start()
            self.block_end()
            self._stop = stop

    def _begin(self, kind: str) -> None:
        self.start()
        self._open = kind
        self._index += 1

    def _delta(self, kind: str, delta: Block) -> None:
        if self._open != kind:
            self.block_end()
            self._begin(kind)
        self._put("contentBlockDelta", {"contentBlockIndex": self._index, "delta": delta})

    def _put(self, kind: str, data: Block) -> None:
        self._events.append(event(kind, data))


class _Open(msgspec.Struct):
    """The content block that `Whole` is building."""

    kind: str
    pieces: list[str] = msgspec.field(default_factory=list)
    citations: list[Citation] = msgspec.field(default_factory=list)
    signature: str = ""
    call: Block = msgspec.field(default_factory=dict)

    def block(self) -> Block | None:
        """Return the block in Converse's form, or None for an empty text, which Bedrock refuses in later requests."""
        text = "".join(self.pieces)
        if self.kind == "tool":
            return {"toolUse": {**self.call, "input": checks.arguments(text)}}
        if self.kind == "redacted":
            return {"reasoningContent": _redacted(text)}
        if self.kind == "thinking":
            signed = {"signature": self.signature} if self.signature else {}
            return {"reasoningContent": {"reasoningText": {"text": text, **signed}}}
        if self.citations:
            cited = [citation_of(citation) for citation in self.citations]
            return {"citationsContent": {"content": [{"text": text}], "citations": cited}}
        return {"text": text} if text else None


class Whole:
    """Writes one reply that is not streamed."""

    def __init__(self, options: ReplyOptions) -> None:
        self._options = options
        self._blocks: list[Block] = []
        self._open: _Open | None = None
        self._stop = Stop(reply_events.END_TURN)
        self._usage: Usage | None = None
        self._tier = ""

    def start(self, _reply_id: str = "") -> None:
        """Do nothing: Converse has no field for the id of a reply."""

    def text(self, piece: str) -> None:
        self._block("text").pieces.append(piece)

    refusal = text

    def citation(self, citation: Citation) -> None:
        self._block("text").citations.append(citation)

    def thinking(self, piece: str) -> None:
        self._block("thinking").pieces.append(piece)

    def signature(self, value: str) -> None:
        self._block("thinking").signature = value

    def redacted(self, data: str) -> None:
        self.block_end()
        self._block("redacted").pieces.append(data)
        self.block_end()

    def tool(self, tool_id: str, name: str) -> None:
        self.block_end()
        self._block("tool").call = {"toolUseId": tool_id, "name": name}

    def arguments(self, fragment: str) -> None:
        if self._open is not None and self._open.kind == "tool":
            self._open.pieces.append(fragment)

    def block_end(self) -> None:
        if self._open is not None and (block := self._open.block()) is not None:
            self._blocks.append(block)
        self._open = None

    def usage(self, usage: Usage, tier: str = "") -> None:
        self._usage, self._tier = usage, tier

    def finish(self, stop: Stop) -> None:
        self.block_end()
        self._stop = stop

    def whole(self) -> bytes:
        self.block_end()
        return lenient_json.dumps({
            "output": {"message": {"role": "assistant", "content": self._blocks}},
            "stopReason": _reason(self._stop),
            **_ending(self._options, self._usage, self._tier),
            **self._options.fields(self._stop, self._usage),
        })  # fmt: skip

    def _block(self, kind: str) -> _Open:
        """Return the open block if it is of type `kind`. Otherwise end the open block, and return a new one."""
        if self._open is None or self._open.kind != kind:
            self.block_end()
            self._open = _Open(kind)
        return self._open


def _reason(stop: Stop) -> str:
    return _INTERVENED if stop.native == _INTERVENED else _STOPS[stop.reason]


def _ending(options: ReplyOptions, usage: Usage | None, tier: str) -> Block:
    """Return the fields `usage`, `metrics` and `serviceTier`, which a stream has in the event `metadata`."""
    members: Block = {"usage": usage_dict(usage or Usage()), "metrics": options.metrics()}
    if tier in _TIERS:
        members["serviceTier"] = {"type": _TIERS[tier]}
    return members


def _redacted(data: str) -> Block:
    """Return a block of redacted thinking.

    Anthropic's data is base64 text already. It is encoded in base64 once more, as Bedrock does (recorded traffic).
    """
    return {"redactedContent": b64encode(data.encode("latin-1", "replace")).decode()}


def citation_of(citation: Citation) -> Block:
    members: Block = {
        "title": citation.title,
        "source": citation.source,
        "sourceContent": [{"text": citation.cited}] if citation.cited else None,
        "location": _location(citation),
    }
    return {name: value for name, value in members.items() if value}


def _location(citation: Citation) -> Block:
    if citation.kind == "web":
        return {"web": {"url": citation.source}}
    name, index = PLACES[citation.kind]
    return {name: {index: citation.index, "start": citation.start, "end": citation.end}}
