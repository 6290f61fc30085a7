"""Replies in the Chat Completions dialect: chunks of a stream, and the whole completion.

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway.flag import Event, Usage, event
from gateway_plugins.parts import lenient

CHUNK: Final = "chat.completion.chunk"


def new_id() -> str:
    """For providers that do not name their replies."""
    return f"chatcmpl-{uuid.uuid4().hex}"


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


class ChatStream:
    """Builds the chunks of one streamed reply. Call what happened, then `take` the chunks that came of it."""

    def __init__(self, model: str, *, include_usage: bool, reply_id: str = "", created: int = 0) -> None:
        self._base: dict[str, Any] = {
            "id": reply_id or new_id(),
            "object": CHUNK,
            "created": created or int(time.time()),
            "model": model,
        }
        if include_usage:
            self._base["usage"] = None
        self._include_usage = include_usage
        self._events: list[Event] = []
        self._has_arguments: list[bool] = []
        self._entries: dict[str, int] = {}
        self._started = False
        self._finished = False
        self._usage: Usage | None = None

    @property
    def tools(self) -> int:
        """Tool calls so far."""
        return len(self._has_arguments)

    def take(self) -> list[Event]:
        """The chunks since the last call."""
        events, self._events = self._events, []
        return events

    def start(self) -> None:
        """The chunk with the role; sent once, by itself if nobody asks for it."""
        if not self._started:
            self._started = True
            self._chunk({"role": "assistant", "content": ""})

    def text(self, text: str) -> None:
        if text:
            self._delta({"content": text})

    def reasoning(self, text: str) -> None:
        """Thinking, as text; what must be replayed goes out by `reasoning_block` too."""
        if text:
            self._delta({"reasoning_content": text})

    def reasoning_block(self, block: Mapping[str, Any]) -> None:
        """A whole entry of `thinking_blocks`, when it is complete."""
        self._entry("thinking_blocks", block)

    def annotation(self, annotation: Mapping[str, Any]) -> None:
        self._entry("annotations", annotation)

    def tool(self, tool_id: str, name: str) -> int:
        """Begin a tool call; returns its index, dense from 0."""
        index = len(self._has_arguments)
        self._has_arguments.append(False)
        called = {"index": index, "id": tool_id, "type": "function", "function": {"name": name, "arguments": ""}}
        self._delta({"tool_calls": [called]})
        return index

    def arguments(self, index: int, fragment: str) -> None:
        if fragment:
            self._has_arguments[index] = True
            self._delta({"tool_calls": [{"index": index, "function": {"arguments": fragment}}]})

    def tool_end(self, index: int) -> None:
        """The arguments are complete: none at all are an empty object."""
        if not self._has_arguments[index]:
            self.arguments(index, "{}")

    def finish(self, finish_reason: str, native: str) -> None:
        """The chunk with the reason, once; usage that came before goes out behind it."""
        if self._finished:
            return
        for index in range(len(self._has_arguments)):
            self.tool_end(index)
        self.start()
        self._finished = True
        self._chunk({}, finish_reason, native)
        if self._usage is not None:
            self.usage(self._usage)

    def usage(self, usage: Usage) -> None:
        """The last figures, once. Sent only to a client that asked, and never before the reason."""
        self._usage = usage
        if self._include_usage and self._finished:
            self._include_usage = False
            self._events.append(event(CHUNK, {**self._base, "choices": [], "usage": usage_dict(usage)}))

    def _entry(self, name: str, entry: Mapping[str, Any]) -> None:
        """An entry of a list, with its index: OpenAI's SDK gives up on a second one without (openai 3.54, _deltas)."""
        index = self._entries.get(name, 0)
        self._entries[name] = index + 1
        self._delta({name: [{**entry, "index": index}]})

    def _delta(self, delta: dict[str, Any]) -> None:
        self.start()
        self._chunk(delta)

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None, native: str = "") -> None:
        choice: dict[str, Any] = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        if native:
            choice["native_finish_reason"] = native
        self._events.append(event(CHUNK, {**self._base, "choices": [choice]}))


@dataclass(slots=True)
class Completion:
    """What a whole reply says, collected by a translator and rendered once."""

    model: str
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    thinking_blocks: list[Mapping[str, Any]] = field(default_factory=list)
    tool_calls: list[Mapping[str, Any]] = field(default_factory=list)
    annotations: list[Mapping[str, Any]] = field(default_factory=list)
    finish_reason: str = "stop"
    native: str = ""
    """The provider's own stop reason."""
    usage: Usage | None = None
    """None when the provider reported none."""
    reply_id: str = ""
    created: int = 0

    def tool(self, tool_id: str, name: str, arguments: Any) -> None:
        """A tool call with decoded arguments. Raises `BadFrame` for some that cannot be written."""
        function = {"name": name, "arguments": lenient.encoded(arguments or {})}
        self.tool_calls.append({"id": tool_id, "type": "function", "function": function})


def completion(reply: Completion) -> bytes:
    """The `chat.completion` body."""
    message: dict[str, Any] = {"role": "assistant", "content": "".join(reply.text) or None, "refusal": None}
    if message["content"] is None and not reply.tool_calls:
        message["content"] = ""
    _fill(message, "reasoning_content", "".join(reply.reasoning))
    _fill(message, "thinking_blocks", reply.thinking_blocks)
    _fill(message, "tool_calls", reply.tool_calls)
    _fill(message, "annotations", reply.annotations)
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish_reason}
    if reply.native:
        choice["native_finish_reason"] = reply.native
    body = {
        "id": reply.reply_id or new_id(),
        "object": "chat.completion",
        "created": reply.created or int(time.time()),
        "model": reply.model,
        "choices": [choice],
    }
    if reply.usage is not None:
        body["usage"] = usage_dict(reply.usage)
    return orjson.dumps(body)


def _fill(message: dict[str, Any], name: str, value: str | Sequence[Any]) -> None:
    if value:
        message[name] = value
