"""Writes replies in the Chat dialect (`shared/reply_events.py`): the chunks of a stream, or the whole completion.

- Tool calls are numbered from 0 without gaps, and the choice has the index 0 (agentgateway#2965, litellm#19506).
- A tool call without arguments has `{}`, never "" (vercel/ai#10859).
- A Chat client gets text, thinking and tool calls in three separate fields, which do not show their order. So in a
  thinking block that comes after text or calls, the gateway writes how many characters and how many calls precede it
  (`PLACE`). When the client sends the block back, the gateway restores the order from these numbers.
- Three fields are not in OpenAI's reference, but other gateways have them: `reasoning_content` (thinking as text),
  `thinking_blocks` (thinking with its signature, which a client must send back), and `native_finish_reason` (the
  provider's own stop reason).

The plugin's encoder adds framing and `[DONE]`. Source: OpenAI's API reference (Chat, Streaming).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, Final

import orjson

from gateway.contract.flag import Drop, Event, Usage, event
from gateway_plugins.dialects.openai.custom_tools import CUSTOM, input_of
from gateway_plugins.shared import reply_events
from gateway_plugins.shared.reply_events import Citation, Stop
from gateway_plugins.shared.reply_ids import reply_id as own_id

PLACE: Final = ("text_offset", "call_offset")
"""Names of two fields of a thinking block, which tell its position in the reply: the number of characters of text
before the block, and the number of tool calls before it."""
CHUNK: Final = "chat.completion.chunk"


_REASONS: Final[Mapping[str, str]] = {
    reply_events.TOOL_USE: "tool_calls",
    reply_events.MAX_TOKENS: "length",
    reply_events.CONTEXT: "length",
    reply_events.REFUSAL: "content_filter",
}
"""Chat's finish reason for a stop reason of `reply_events`. Any other reason becomes "stop"."""


def usage_dict(usage: Usage) -> dict[str, Any]:
    """Return usage in OpenAI's form. Its `prompt_tokens` include the tokens read from the cache or written to it."""
    written = usage.cache_write_5m + usage.cache_write_1h
    prompt = usage.input + usage.cache_read + written
    counts: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": usage.output,
        "total_tokens": prompt + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read},
    }
    if written:
        counts["prompt_tokens_details"]["cache_write_tokens"] = written
    if usage.reasoning:
        counts["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning}
    return counts


_TIERS: Final = frozenset({"auto", "default", "flex", "scale", "priority"})


def openai_tier(tier: str) -> str:
    """Return the service tier if OpenAI has a tier of this name, and otherwise "default"."""
    return tier if tier in _TIERS else "default"


def _call(tool_id: str, name: str, given: str, *, is_custom: bool) -> dict[str, Any]:
    """Return a call of a function with its arguments, or of a custom tool with its input."""
    if is_custom:
        return {"id": tool_id, "type": CUSTOM, CUSTOM: {"name": name, "input": given}}
    return {"id": tool_id, "type": "function", "function": {"name": name, "arguments": given}}


class _OpenBlock(ABC):
    """Base class of `Stream` and `Whole`: the state of the content block that is being written."""

    def __init__(self, drop: Drop) -> None:
        self._drop = drop
        self._length = 0
        """Length of the reply's text so far, in characters."""
        self._block_start = 0
        """Offset at which the open text block begins in the reply's text, in characters."""
        self._unsigned: list[str] = []
        """Pieces of thinking in the open block, until the signature of the block comes."""
        self._citations: list[Citation] = []
        """Citations of the open block. They are kept until the block ends, because a citation has the offset of the
        block's end."""

    def _thinking_block(self, signature: str, calls: int) -> dict[str, Any]:
        """Return the collected pieces of thinking as one block, and forget the pieces. `calls` is the number of tool
        calls before the block.
        """
        thinking, self._unsigned = "".join(self._unsigned), []
        return {"type": "thinking", "thinking": thinking, "signature": signature} | self._place(calls)

    def _redacted_block(self, data: str, calls: int) -> dict[str, Any]:
        return {"type": "redacted_thinking", "data": data} | self._place(calls)

    def _place(self, calls: int) -> dict[str, int]:
        return {name: count for name, count in zip(PLACE, (self._length, calls), strict=True) if count}

    def citation(self, citation: Citation) -> None:
        """Add a citation of a URL. Report any other citation as dropped, because Chat has no form for it."""
        if citation.source.startswith(("http://", "https://")):
            self._citations.append(citation)
        else:
            self._drop("/reply/citation")

    @abstractmethod
    def _annotate(self, annotation: dict[str, Any]) -> None:
        """Add `annotation` to the message. An annotation is Chat's form of a citation."""

    def block_end(self) -> None:
        citations, self._citations = self._citations, []
        span = {"start_index": self._block_start, "end_index": self._length}
        for citation in citations:
            cited = {"url": citation.source, "title": citation.title or citation.source, **span}
            self._annotate({"type": "url_citation", "url_citation": cited})
        self._block_start = self._length
        self._unsigned = []


class Stream(_OpenBlock):
    """Writes the chunks of one streamed reply."""

    def __init__(self, model: str, drop: Drop, *, include_usage: bool, custom: Collection[str] = frozenset()) -> None:
        super().__init__(drop)
        self._custom = custom
        """Names of the client's custom tools."""
        self._input: list[str] | None = None
        """Pieces of the open custom tool's input, which is written when it is complete. It is None for a function."""
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
        """Do nothing. This writer has nothing left to write at the end."""

    def start(self, reply_id: str = "") -> None:
        """Write the first chunk. It says that the message has the role `assistant`."""
        if not self._base["id"]:
            self._base["id"] = own_id("chatcmpl-", reply_id)
            self._chunk({"role": "assistant", "content": ""})

    def text(self, piece: str) -> None:
        if piece:
            self._length += len(piece)
            self._delta({"content": piece})

    refusal = text

    def _annotate(self, annotation: dict[str, Any]) -> None:
        self._entry("annotations", annotation)

    def thinking(self, piece: str) -> None:
        """Write a piece of thinking as `reasoning_content`.

        The field `thinking_blocks` repeats the thinking: the method `signature` writes all pieces there, as one block.
        """
        if piece:
            self._unsigned.append(piece)
            self._delta({"reasoning_content": piece})

    def signature(self, value: str) -> None:
        self._entry("thinking_blocks", self._thinking_block(value, len(self._has_arguments)))

    def redacted(self, data: str) -> None:
        self._entry("thinking_blocks", self._redacted_block(data, len(self._has_arguments)))

    def tool(self, tool_id: str, name: str) -> None:
        self._fill_arguments()
        index = len(self._has_arguments)
        self._has_arguments.append(False)
        self._input = [] if name in self._custom else None
        self._delta({"tool_calls": [{"index": index, **_call(tool_id, name, "", is_custom=name in self._custom)}]})

    def arguments(self, fragment: str) -> None:
        self._has_arguments[-1] = True
        if self._input is not None:
            self._input.append(fragment)
            return
        index = len(self._has_arguments) - 1
        self._delta({"tool_calls": [{"index": index, "function": {"arguments": fragment}}]})

    def block_end(self) -> None:
        super().block_end()
        self._fill_arguments()

    def finish(self, stop: Stop) -> None:
        """Write the chunk with the finish reason, once. If the usage is already known, write the usage chunk too."""
        if self._finished:
            return
        self.block_end()
        reply_events.check_answer(stop, answered=bool(self._length or self._has_arguments))
        self.start()
        self._finished = True
        self._chunk({}, stop)
        if self._usage is not None:
            self.usage(self._usage)

    def usage(self, usage: Usage, tier: str = "") -> None:
        """Store the usage, and write the usage chunk if the client requested it.

        The chunk is written only once, and only after `finish` was called.
        """
        if tier:
            self._base["service_tier"] = openai_tier(tier)
        self._usage = usage
        if self._include_usage and self._finished:
            self._include_usage = False
            self._events.append(event(CHUNK, {**self._base, "choices": [], "usage": usage_dict(usage)}))

    def _fill_arguments(self) -> None:
        if self._input is not None:
            pieces, self._input = self._input, None
            value, index = input_of("".join(pieces)), len(self._has_arguments) - 1
            self._delta({"tool_calls": [{"index": index, CUSTOM: {"input": value}}]})
        elif self._has_arguments and not self._has_arguments[-1]:
            self.arguments("{}")

    def _entry(self, name: str, entry: Mapping[str, Any]) -> None:
        """Write a delta with one entry of the list `name`, and with the entry's index in the whole list.

        OpenAI's SDK 3.54 fails if the second entry of a list has no index.
        """
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


class Whole(_OpenBlock):
    """Writes one reply that is not streamed."""

    def __init__(self, model: str, drop: Drop, custom: Collection[str] = frozenset()) -> None:
        super().__init__(drop)
        self._custom = custom
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

    def _annotate(self, annotation: dict[str, Any]) -> None:
        self._lists["annotations"].append(annotation)

    def thinking(self, piece: str) -> None:
        self._unsigned.append(piece)
        self._reasoning.append(piece)

    def signature(self, value: str) -> None:
        self._lists["thinking_blocks"].append(self._thinking_block(value, len(self._lists["tool_calls"])))

    def redacted(self, data: str) -> None:
        self._lists["thinking_blocks"].append(self._redacted_block(data, len(self._lists["tool_calls"])))

    def tool(self, tool_id: str, name: str) -> None:
        self._lists["tool_calls"].append(_call(tool_id, name, "", is_custom=False))

    def arguments(self, fragment: str) -> None:
        self._lists["tool_calls"][-1]["function"]["arguments"] += fragment

    def usage(self, usage: Usage, tier: str = "") -> None:
        self._usage, self._tier = usage, tier

    def finish(self, stop: Stop) -> None:
        self.block_end()
        reply_events.check_answer(stop, answered=bool(self._length or self._lists["tool_calls"]))
        self._stop = stop

    def whole(self) -> bytes:
        """Return the `chat.completion` body."""
        calls = self._lists["tool_calls"]
        for index, call in enumerate(calls):
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            is_custom = name in self._custom
            calls[index] = _call(
                call["id"], name, input_of(arguments) if is_custom else arguments or "{}", is_custom=is_custom
            )
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
            "id": own_id("chatcmpl-", self._id),
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
