"""Writes replies in the Converse dialect: the events of a stream, and the whole body (`replies.Writer`).

Source: botocore's service model, and the order of recorded streams: text and thinking begin with a bare delta, only a
call has a start, and `metadata` comes behind `messageStop`. What a provider's events mean belongs to the readers,
frames and padding to the flag's encoder.

The service model demands `usage` and `latencyMs`, and clients read both without asking: where the provider told no
counts they are 0. The latency is measured: from the request's translation to the end of the reply.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

import orjson

from gateway.contract.flag import Event, Usage, event
from gateway_plugins.shared import reply_events
from gateway_plugins.shared.checks import arguments
from gateway_plugins.shared.reply_events import Citation, Stop

Block = dict[str, Any]

FIELD_PATHS: Final = ("/stop_sequence", "/delta/stop_sequence", "/usage/output_tokens_details")
"""Of `additionalModelResponseFieldPaths`, those that can be answered; the second is for streams (Vercel's AI SDK)."""

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
"""Of content filters, the one whose provider is Bedrock."""
_TIERS: Final[Mapping[str, str]] = {
    "default": "default",
    "standard": "default",
    "priority": "priority",
    "flex": "flex",
    "reserved": "reserved",
}
"""Bedrock's word for a provider's; any other is not told."""
PLACES: Final[Mapping[str, tuple[str, str]]] = {
    # kind: (location, its index)
    "char": ("documentChar", "documentIndex"),
    "page": ("documentPage", "documentIndex"),
    "block": ("documentChunk", "documentIndex"),
    "search_result": ("searchResultLocation", "searchResultIndex"),
}
"""Where a citation stands, but for one of the web."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the client asked of the reply's form. `begun` is the monotonic clock's time of the request, in seconds."""

    paths: tuple[str, ...] = ()
    """JSON pointers of `additionalModelResponseFieldPaths`, into a reply of Claude's."""
    begun: float = field(default_factory=monotonic)

    def metrics(self) -> Block:
        return {"latencyMs": round((monotonic() - self.begun) * 1000)}

    def fields(self, stop: Stop, usage: Usage | None) -> Block:
        """`additionalModelResponseFields`: what was asked for and is known, each in its own place."""
        known = {
            "/stop_sequence": stop.sequence,
            "/delta/stop_sequence": stop.sequence,
            "/usage/output_tokens_details": usage and usage.reasoning and {"thinking_tokens": usage.reasoning},
        }
        found: Block = {}
        for path in self.paths:
            if value := known.get(path):
                *steps, last = path[1:].split("/")
                inner = found
                for step in steps:
                    inner = inner.setdefault(step, {})
                inner[last] = value
        return {"additionalModelResponseFields": found} if found else {}


def usage_dict(usage: Usage) -> Block:
    """Converse's `TokenUsage`; the total counts the cache's tokens in, as recorded replies do."""
    written = usage.cache_write_5m + usage.cache_write_1h
    told: Block = {
        "inputTokens": usage.input,
        "outputTokens": usage.output,
        "totalTokens": usage.input + usage.output + usage.cache_read + written,
        "cacheReadInputTokens": usage.cache_read,
        "cacheWriteInputTokens": written,
    }
    kept = {"5m": usage.cache_write_5m, "1h": usage.cache_write_1h}
    if written:
        told["cacheDetails"] = [{"ttl": ttl, "inputTokens": count} for ttl, count in kept.items() if count]
    return told


class Stream:
    """The events of one streamed reply. Blocks are numbered densely from 0, each closed before the next begins."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._events: list[Event] = []
        self._started = False
        self._index = -1
        self._open = ""
        """Kind of the open block; "" between blocks."""
        self._silent = False
        """The open call has no arguments so far."""
        self._finished = False
        self._usage: Usage | None = None
        self._tier = ""
        self._ended = False

    def take(self) -> list[Event]:
        if self._usage is not None:
            self._end()
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        self._end()

    def start(self, reply_id: str = "") -> None:
        _ = reply_id  # the dialect has no place for it
        if not self._started:
            self._started = True
            self._put("messageStart", {"role": "assistant"})

    def text(self, piece: str) -> None:
        self._delta("text", {"text": piece}, said=piece)

    refusal = text

    def citation(self, citation: Citation) -> None:
        self._delta("text", {"citation": citation_of(citation)})

    def thinking(self, piece: str) -> None:
        self._delta("thinking", {"reasoningContent": {"text": piece}}, said=piece)

    def signature(self, value: str) -> None:
        self._delta("thinking", {"reasoningContent": {"signature": value}})

    def redacted(self, data: str) -> None:
        self.block_end()
        self._delta("redacted", {"reasoningContent": _redacted(data)})
        self.block_end()

    def tool(self, tool_id: str, name: str) -> None:
        self.block_end()
        self._begin("tool")
        self._silent = True
        start = {"toolUse": {"toolUseId": tool_id, "name": name}}
        self._put("contentBlockStart", {"contentBlockIndex": self._index, "start": start})

    def arguments(self, fragment: str) -> None:
        if fragment and self._open == "tool":
            self._silent = False
            self._delta("tool", {"toolUse": {"input": fragment}})

    def block_end(self) -> None:
        if not self._open:
            return
        if self._open == "tool" and self._silent:
            self.arguments("{}")
        self._open = ""
        self._put("contentBlockStop", {"contentBlockIndex": self._index})

    def usage(self, usage: Usage, tier: str = "") -> None:
        self._usage, self._tier = usage, tier

    def finish(self, stop: Stop) -> None:
        if self._finished:
            return
        self.start()
        self.block_end()
        self._finished = True
        self._put("messageStop", {"stopReason": _reason(stop), **self._wanted.fields(stop, self._usage)})

    def _end(self) -> None:
        """The last event, once all of one read has been told: some providers count on from chunk to chunk."""
        if self._finished and not self._ended:
            self._ended = True
            self._put("metadata", _told(self._wanted, self._usage, self._tier))

    def _begin(self, kind: str) -> None:
        self.start()
        self._open = kind
        self._index += 1

    def _delta(self, kind: str, delta: Block, *, said: str = "-") -> None:
        if not said:
            return
        if self._open != kind:
            self.block_end()
            self._begin(kind)
        self._put("contentBlockDelta", {"contentBlockIndex": self._index, "delta": delta})

    def _put(self, kind: str, data: Block) -> None:
        self._events.append(event(kind, data))


@dataclass(slots=True)
class _Open:
    """A block of a whole reply, as far as it has been told."""

    kind: str
    pieces: list[str] = field(default_factory=list)
    citations: list[Citation] = field(default_factory=list)
    signature: str = ""
    call: Block = field(default_factory=dict)

    def block(self) -> Block | None:
        """The block; None for a text without a character, which could not be sent back."""
        said = "".join(self.pieces)
        if self.kind == "tool":
            return {"toolUse": {**self.call, "input": arguments(said)}}
        if self.kind == "redacted":
            return {"reasoningContent": _redacted(said)}
        if self.kind == "thinking":
            signed = {"signature": self.signature} if self.signature else {}
            return {"reasoningContent": {"reasoningText": {"text": said, **signed}}}
        if self.citations:
            cited = [citation_of(citation) for citation in self.citations]
            return {"citationsContent": {"content": [{"text": said}], "citations": cited}}
        return {"text": said} if said else None


class Whole:
    """The body of one reply that is not streamed."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._blocks: list[Block] = []
        self._open: _Open | None = None
        self._stop = Stop(reply_events.END_TURN)
        self._usage: Usage | None = None
        self._tier = ""

    def start(self, reply_id: str = "") -> None:
        _ = self, reply_id  # the dialect has no place for it

    def text(self, piece: str) -> None:
        self._in("text").pieces.append(piece)

    refusal = text

    def citation(self, citation: Citation) -> None:
        self._in("text").citations.append(citation)

    def thinking(self, piece: str) -> None:
        self._in("thinking").pieces.append(piece)

    def signature(self, value: str) -> None:
        self._in("thinking").signature = value

    def redacted(self, data: str) -> None:
        self.block_end()
        self._in("redacted").pieces.append(data)
        self.block_end()

    def tool(self, tool_id: str, name: str) -> None:
        self.block_end()
        self._in("tool").call = {"toolUseId": tool_id, "name": name}

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
        return orjson.dumps({
            "output": {"message": {"role": "assistant", "content": self._blocks}},
            "stopReason": _reason(self._stop),
            **_told(self._wanted, self._usage, self._tier),
            **self._wanted.fields(self._stop, self._usage),
        })  # fmt: skip

    def _in(self, kind: str) -> _Open:
        """The open block, if it is of this kind, or a new one."""
        if self._open is None or self._open.kind != kind:
            self.block_end()
            self._open = _Open(kind)
        return self._open


def _reason(stop: Stop) -> str:
    return _INTERVENED if stop.native == _INTERVENED else _STOPS[stop.reason]


def _told(wanted: Wanted, usage: Usage | None, tier: str) -> Block:
    told: Block = {"usage": usage_dict(usage or Usage()), "metrics": wanted.metrics()}
    if tier in _TIERS:
        told["serviceTier"] = {"type": _TIERS[tier]}
    return told


def _redacted(data: str) -> Block:
    """Bedrock's base64 around Anthropic's base64 text (recorded traffic, thinking_part_redacted)."""
    return {"redactedContent": b64encode(data.encode("latin-1", "replace")).decode()}


def citation_of(citation: Citation) -> Block:
    told: Block = {
        "title": citation.title,
        "source": citation.source,
        "sourceContent": [{"text": citation.cited}] if citation.cited else None,
        "location": _location(citation),
    }
    return {name: value for name, value in told.items() if value}


def _location(citation: Citation) -> Block:
    if citation.kind == "web":
        return {"web": {"url": citation.source}}
    name, index = PLACES[citation.kind]
    return {name: {index: citation.index, "start": citation.start, "end": citation.end}}
