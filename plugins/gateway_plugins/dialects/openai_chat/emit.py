"""Writes replies in the Chat Completions dialect: chunks of a stream, and the whole completion.

Source: OpenAI's API reference (Chat, Streaming). Defects that this file exists to avoid: an index of a tool call that
is not dense from 0, or a choice's index that is not 0 (agentgateway#2965, litellm#19506); arguments that stay "" for
a tool without any (vercel/ai#10859). `[DONE]` and the framing belong to the flag's encoder; what an upstream's events
mean belongs to the translators.

Beyond the reference, as other gateways do it: `reasoning_content` (text), `thinking_blocks` (what must come back to be
replayed), `native_finish_reason` (the provider's own word).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.contract.flag import Drop, Event, Usage, event
from gateway_plugins.shared import reply_events
from gateway_plugins.shared.reply_events import Citation, Stop

CHUNK: Final = "chat.completion.chunk"


def new_id() -> str:
    """For providers that do not name their replies."""
    return f"chatcmpl-{uuid.uuid4().hex}"


_REASONS: Final[Mapping[str, str]] = {
    reply_events.TOOL_USE: "tool_calls",
    reply_events.MAX_TOKENS: "length",
    reply_events.CONTEXT: "length",
    reply_events.REFUSAL: "content_filter",
}
"""Chat's reasons; all others are a plain stop, and the provider's own word stands beside it."""


def usage_dict(usage: Usage) -> dict[str, Any]:
    """OpenAI's usage: prompt tokens include what was read from a cache and written to one."""
    written = usage.cache_write_5m + usage.cache_write_1h
    prompt = usage.input + usage.cache_read + written
    told: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": usage.output,
        "total_tokens": prompt + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read},
    }
    if written:
        told["prompt_tokens_details"]["cache_write_tokens"] = written
    if usage.reasoning:
        told["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning}
    return told


_TIERS: Final = frozenset({"auto", "default", "flex", "scale", "priority"})


def openai_tier(tier: str) -> str:
    """The service tier in OpenAI's words; those of others stand for the usual one."""
    return tier if tier in _TIERS else "default"


class _Said:
    """What both kinds of reply keep of the block that is open."""

    def __init__(self, drop: Drop) -> None:
        self._drop = drop
        self._length = 0
        """Characters of the answer so far."""
        self._from = 0
        """Where the open text block began among them."""
        self._thought: list[str] = []

    def _signed(self, signature: str) -> dict[str, Any]:
        thought, self._thought = "".join(self._thought), []
        return {"type": "thinking", "thinking": thought, "signature": signature}

    def _cited(self, citation: Citation) -> dict[str, Any] | None:
        """Chat knows what has an address, pages and search results; places in documents have no form in it."""
        if not citation.source.startswith(("http://", "https://")):
            self._drop("/reply/citation")
            return None
        place = {"start_index": self._from, "end_index": self._length}
        cited = {"url": citation.source, "title": citation.title or citation.source, **place}
        return {"type": "url_citation", "url_citation": cited}

    def block_end(self) -> None:
        self._from = self._length
        self._thought = []


class Stream(_Said):
    """The chunks of one streamed reply."""

    def __init__(self, model: str, drop: Drop, *, include_usage: bool) -> None:
        super().__init__(drop)
        self._base: dict[str, Any] = {"id": "", "object": CHUNK, "created": int(time.time()), "model": model}
        if include_usage:
            self._base["usage"] = None
        self._include_usage = include_usage
        self._events: list[Event] = []
        self._has_arguments: list[bool] = []
        self._entries: dict[str, int] = {}
        self._finished = False
        self._usage: Usage | None = None

    def take(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """Nothing is held back: a client that asked for usage and gets none sees that none was told."""

    def start(self, reply_id: str = "") -> None:
        """The chunk with the role."""
        if not self._base["id"]:
            self._base["id"] = reply_id or new_id()
            self._chunk({"role": "assistant", "content": ""})

    def text(self, piece: str) -> None:
        if piece:
            self._length += len(piece)
            self._delta({"content": piece})

    refusal = text

    def citation(self, citation: Citation) -> None:
        if (annotation := self._cited(citation)) is not None:
            self._entry("annotations", annotation)

    def thinking(self, piece: str) -> None:
        """As text; what must be replayed goes out whole behind it."""
        if piece:
            self._thought.append(piece)
            self._delta({"reasoning_content": piece})

    def signature(self, value: str) -> None:
        self._entry("thinking_blocks", self._signed(value))

    def redacted(self, data: str) -> None:
        self._entry("thinking_blocks", {"type": "redacted_thinking", "data": data})

    def tool(self, tool_id: str, name: str) -> None:
        """A call, by an index that is dense from 0."""
        self._fill_arguments()
        index = len(self._has_arguments)
        self._has_arguments.append(False)
        called = {"index": index, "id": tool_id, "type": "function", "function": {"name": name, "arguments": ""}}
        self._delta({"tool_calls": [called]})

    def arguments(self, fragment: str) -> None:
        self._has_arguments[-1] = True
        index = len(self._has_arguments) - 1
        self._delta({"tool_calls": [{"index": index, "function": {"arguments": fragment}}]})

    def block_end(self) -> None:
        super().block_end()
        self._fill_arguments()

    def finish(self, stop: Stop) -> None:
        """The chunk with the reason, once; usage that came before goes out behind it."""
        if self._finished:
            return
        self._fill_arguments()
        self.start()
        self._finished = True
        self._chunk({}, stop)
        if self._usage is not None:
            self.usage(self._usage)

    def usage(self, usage: Usage, tier: str = "") -> None:
        """The last figures, once. Sent only to a client that asked, and never before the reason."""
        if tier:
            self._base["service_tier"] = openai_tier(tier)
        self._usage = usage
        if self._include_usage and self._finished:
            self._include_usage = False
            self._events.append(event(CHUNK, {**self._base, "choices": [], "usage": usage_dict(usage)}))

    def _fill_arguments(self) -> None:
        if self._has_arguments and not self._has_arguments[-1]:
            self.arguments("{}")

    def _entry(self, name: str, entry: Mapping[str, Any]) -> None:
        """An entry of a list, with its index: OpenAI's SDK gives up on a second one without (openai 3.54, _deltas)."""
        index = self._entries.get(name, 0)
        self._entries[name] = index + 1
        self._delta({name: [{**entry, "index": index}]})

    def _delta(self, delta: dict[str, Any]) -> None:
        self.start()
        self._chunk(delta)

    def _chunk(self, delta: dict[str, Any], stop: Stop | None = None) -> None:
        reason = None if stop is None else _REASONS.get(stop.reason, "stop")
        choice: dict[str, Any] = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        if stop is not None and stop.native:
            choice["native_finish_reason"] = stop.native
        self._events.append(event(CHUNK, {**self._base, "choices": [choice]}))


class Whole(_Said):
    """One whole reply."""

    def __init__(self, model: str, drop: Drop) -> None:
        super().__init__(drop)
        self._model = model
        self._id = ""
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._lists: dict[str, list[dict[str, Any]]] = {"thinking_blocks": [], "tool_calls": [], "annotations": []}
        self._stop = Stop(reply_events.END_TURN)
        self._usage: Usage | None = None
        self._tier = ""

    def start(self, reply_id: str = "") -> None:
        self._id = reply_id

    def text(self, piece: str) -> None:
        self._length += len(piece)
        self._text.append(piece)

    refusal = text

    def citation(self, citation: Citation) -> None:
        if (annotation := self._cited(citation)) is not None:
            self._lists["annotations"].append(annotation)

    def thinking(self, piece: str) -> None:
        self._thought.append(piece)
        self._reasoning.append(piece)

    def signature(self, value: str) -> None:
        self._lists["thinking_blocks"].append(self._signed(value))

    def redacted(self, data: str) -> None:
        self._lists["thinking_blocks"].append({"type": "redacted_thinking", "data": data})

    def tool(self, tool_id: str, name: str) -> None:
        function = {"name": name, "arguments": ""}
        self._lists["tool_calls"].append({"id": tool_id, "type": "function", "function": function})

    def arguments(self, fragment: str) -> None:
        self._lists["tool_calls"][-1]["function"]["arguments"] += fragment

    def usage(self, usage: Usage, tier: str = "") -> None:
        self._usage, self._tier = usage, tier

    def finish(self, stop: Stop) -> None:
        self._stop = stop

    def whole(self) -> bytes:
        """The `chat.completion` body."""
        calls = self._lists["tool_calls"]
        for call in calls:
            call["function"]["arguments"] = call["function"]["arguments"] or "{}"
        content = "".join(self._text) or (None if calls else "")
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if reasoning := "".join(self._reasoning):
            message["reasoning_content"] = reasoning
        message |= {name: entries for name, entries in self._lists.items() if entries}
        reason = _REASONS.get(self._stop.reason, "stop")
        choice: dict[str, Any] = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        if self._stop.native:
            choice["native_finish_reason"] = self._stop.native
        body = {
            "id": self._id or new_id(),
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self._model,
            "choices": [choice],
        }
        if self._usage is not None:
            body["usage"] = usage_dict(self._usage)
        if self._tier:
            body["service_tier"] = openai_tier(self._tier)
        return orjson.dumps(body)
