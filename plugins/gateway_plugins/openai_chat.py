"""OpenAI's Chat Completions: POST /v1/chat/completions, data-only server-sent events that close with [DONE].

Source: OpenAI's API reference (Chat, Errors). A stream reports usage only when it is asked to: it always is here, and
the chunk that then comes is kept from a client that did not ask.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import orjson

from gateway import plain
from gateway.errors import Problem
from gateway.flag import Ask, Decoder, Drop, Event, Facts, Head, Meter, Route, Send, Target
from gateway.framing import sse
from gateway_plugins.parts import openai_errors, remote, tagged_history
from gateway_plugins.parts.chat_facts import is_told, media_of, usage_of
from gateway_plugins.parts.lenient import mapping, sequence, text, whole_number
from gateway_plugins.parts.read_openai_options import stream_options

api = 1
dialects = ("openai_chat",)
routes = (
    Route("POST", "/v1/chat/completions", "generate"),
    Route("POST", "/chat/completions", "generate"),
)
error = openai_errors.error
parse = partial(plain.parse, "openai_chat", "openai_chat")
steps = remote.steps

CHUNK: Final = "chat.completion.chunk"
_DONE: Final = "done"
_QUERY: Final = ("api-version",)
"""What is taken in a query: by Azure, where it serves OpenAI's API."""


def build(ask: Ask, target: Target, drop: Drop) -> Send:
    changes: dict[str, bytes | None] = tagged_history.of_chat(ask.top, target.caps.family, drop)
    if ask.top.decode("model") != target.model:
        changes["model"] = orjson.dumps(target.model)
    if not wants_usage(ask) and ask.stream:
        changes["stream_options"] = orjson.dumps({**stream_options(ask.top), "include_usage": True})
    body = ask.top.spliced(changes) if changes else ask.top.body
    query = plain.kept(ask.query, _QUERY) if ask.flag == "openai_chat" else ""
    return Send("POST", "/v1/chat/completions", body, query, {"content-type": "application/json"})


def limit(ask: Ask) -> int | None:
    """Of all the answers together that the client asks for."""
    one = plain.limit_of(ask, "max_completion_tokens", "max_tokens")
    answers = whole_number(ask.top.decode("n"))
    if answers <= 1:
        return one
    return answers * (one if one is not None and one > 0 else plain.UNLIMITED)


def wants_usage(ask: Ask) -> bool:
    """The client asked for the chunk with the usage. Raises `Refused` for options that are none."""
    return stream_options(ask.top).get("include_usage") is True


def decoder(ask: Ask, target: Target, head: Head) -> Decoder:
    _ = target, head
    return ChatDecoder(hide_usage=not wants_usage(ask))


class ChatDecoder(plain.SseDecoder):
    """Chunks. [DONE] ends them, and little follows a usage chunk that comes after the finish reason.

    The reason itself is not the end, since usage and [DONE] may be seconds behind it; but a stream that ends after it
    is complete: some servers send neither.
    """

    def __init__(self, *, hide_usage: bool) -> None:
        super().__init__(_kind, self._is_last, _failure)
        self._hide_usage = hide_usage
        self._finished = False

    def close(self) -> Iterator[Event]:
        self.done = self.done or self._finished
        return super().close()

    def _is_last(self, event: Event) -> bool:
        if event.kind == _DONE:
            return True
        if b'"finish_reason"' in event.payload and not self._finished:
            self._finished = any(choice.get("finish_reason") for choice in _choices(event.data))
        if b'"usage"' in event.payload and mapping(event.data).get("choices") == []:
            self.done = self.done or (self._finished and bool(mapping(event.data.get("usage"))))
            if self._hide_usage:
                event.raw = b""
                event.kind = f"{CHUNK}.usage"
        return False


def _kind(name: str, payload: bytes) -> str:
    _ = name
    return _DONE if payload == b"[DONE]" else CHUNK


def _failure(event: Event) -> Problem | None:
    if event.kind == _DONE or b'"error"' not in event.payload or not mapping(event.data).get("error"):
        return None
    return openai_errors.stream_problem(event.data["error"])


class ChatMeter:
    """Usage of the last chunk that has it, or of the body; OpenAI counts cached tokens inside `prompt_tokens`."""

    def __init__(self) -> None:
        self._facts = Facts()

    def feed(self, event: Event) -> None:
        if b'"usage"' in event.payload or b'"finish_reason"' in event.payload or b'"name"' in event.payload:
            self._read(event.data, "delta")

    def whole(self, body: bytes) -> None:
        self._read(plain.decoded(body), "message")

    def facts(self) -> Facts:
        return self._facts

    def _read(self, data: Any, part: str) -> None:
        facts = self._facts
        facts.model = text(mapping(data).get("model")) or facts.model
        facts.tier = text(mapping(data).get("service_tier")) or facts.tier
        for choice in _choices(data):
            facts.stop = text(choice.get("finish_reason")) or facts.stop
            for call in sequence(mapping(choice.get(part)).get("tool_calls")):
                if name := text(mapping(mapping(call).get("function")).get("name")):
                    facts.tools.append(name)
        if is_told(reported := mapping(mapping(data).get("usage"))):
            facts.usage.merge(usage_of(reported))
            facts.extra |= media_of(reported)
            facts.reported = True


def _choices(data: Any) -> list[dict[str, Any]]:
    return [mapping(choice) for choice in sequence(mapping(data).get("choices"))]


def meter(ask: Ask, target: Target, head: Head) -> Meter:
    _ = ask, target, head
    return ChatMeter()


class Encoder(plain.SseEncoder):
    def feed(self, event: Event) -> bytes:
        if event.kind != CHUNK:
            return b""
        return sse.encode(event.payload)

    def fail(self, problem: Problem) -> bytes:
        return sse.encode(error(problem)[2])

    def close(self) -> bytes:
        return sse.encode(b"[DONE]")


def encoder(ask: Ask) -> Encoder:
    _ = ask
    return Encoder()


def texts(event: Event) -> str:
    if event.kind != CHUNK:
        return ""
    return "".join(text(mapping(choice.get("delta")).get("content")) for choice in _choices(event.data))


def written(event: Event) -> int:
    """Text, refusals, thinking by the names that servers give it, and arguments of tools."""
    return sum(map(_written, _choices(event.data))) if event.kind == CHUNK else 0


def _written(choice: dict[str, Any]) -> int:
    delta = mapping(choice.get("delta"))
    calls = [mapping(mapping(call).get("function")) for call in sequence(delta.get("tool_calls"))]
    arguments = (call.get("arguments") for call in calls)
    return plain.size(*map(delta.get, _WRITTEN), *arguments)


_WRITTEN: Final = ("content", "refusal", "reasoning_content", "reasoning")


def with_text(event: Event, other: str) -> Event:
    choices = [
        {**choice, "delta": {**choice["delta"], "content": other}}
        if mapping(choice.get("delta")).get("content")
        else choice
        for choice in _choices(event.data)
    ]
    return Event(event.kind, orjson.dumps({**event.data, "choices": choices}))
