"""Finds every text in requests, replies and chunks of Chat Completions, for filters that read text.

A `Place` names the JSON path of one text. Chunks report only the end of a choice (`finish_reason`), not of each text.
So thinking is assumed to end when the answer begins. Text is assumed to end when a tool call begins. Sources: OpenAI's
API reference (Chat), OpenRouter's API reference for `reasoning_details`, and LiteLLM's documentation of
`thinking_blocks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from gateway.contract.flag import Copy, End, Event, Place
from gateway.contract.places import Kind
from gateway_plugins.dialects.openai_chat.facts import finish_reason
from gateway_plugins.shared.lenient import mapping, sequence, text, whole_number
from gateway_plugins.shared.unknown_texts import unknown_texts

Path = tuple[str | int, ...]

_ROLES = {"developer": "system", "function": "tool"}
_TEXTS: dict[str, Kind] = {
    "reasoning_content": "thinking", "reasoning": "thinking", "content": "text", "refusal": "text",
}  # fmt: skip


def places(event: Event) -> Iterable[Place | End | Copy]:
    if event.kind == "chat.completion.chunk":
        return _answer(event.data) or _chunk(sequence(mapping(event.data).get("choices")))
    return _whole(event)


def _whole(event: Event) -> Iterator[Place | Copy]:
    match event.kind:
        case "request":
            for number, message in enumerate(sequence(mapping(event.data).get("messages"))):
                role = text(mapping(message).get("role"))
                yield from _message(mapping(message), ("messages", number), _ROLES.get(role, role))
            yield from _message(mapping(mapping(event.data).get("prediction")), ("prediction",), "user")
        case "reply":
            for number, choice in enumerate(sequence(mapping(event.data).get("choices"))):
                message = mapping(mapping(choice).get("message"))
                yield from _message(message, ("choices", number, "message"), "assistant")
                yield from _copies(mapping(choice), number, "message")


def _answer(data: Any) -> tuple[Place | End, ...]:
    """Return the position of the text in a chunk that only continues one answer, or () for any other chunk.

    This is the fast path for nearly all chunks. The result also has an `End`: the answer's thinking has ended, because
    no thinking comes after text.
    """
    try:
        (choice,) = data["choices"]
        delta = choice["delta"]
        content = delta["content"]
    except (LookupError, TypeError, ValueError):
        return ()
    if (
        not (isinstance(content, str) and content)
        or len(delta) > 1
        or choice.get("finish_reason")
        or choice.get("logprobs")
    ):
        return ()
    return _piece(whole_number(choice.get("index")))


@lru_cache(64)  # nearly all chunks continue the same few answers
def _piece(answer: int) -> tuple[Place | End, ...]:
    return End((answer, "thinking")), Place(("choices", 0, "delta", "content"), "text", (answer, "content"))


def _chunk(choices: list[Any]) -> Iterator[Place | End | Copy]:
    for number, choice in enumerate(choices):
        delta = mapping(mapping(choice).get("delta"))
        answer = whole_number(mapping(choice).get("index"))
        path = ("choices", number, "delta")
        if delta.get("content") or delta.get("tool_calls"):
            yield End((answer, "thinking"))
        if delta.get("tool_calls"):
            yield from _ended_by_calls(delta, answer)
        yield from _message(delta, path, "", answer)
        yield from _copies(mapping(choice), number, "delta")
        if finish_reason(mapping(choice)):
            yield End(answer)


def _copies(choice: dict[str, Any], number: int, inner: str) -> Iterator[Copy]:
    """Yield the paths of the fields that repeat the text or the thinking of a choice. `inner` is `message` or `delta`.

    `logprobs` repeats the text. LiteLLM's `provider_specific_fields` repeats the thinking in the provider's own form.
    """
    if choice.get("logprobs"):
        yield Copy(("choices", number, "logprobs"))
    if mapping(choice.get(inner)).get("provider_specific_fields"):
        yield Copy(("choices", number, inner, "provider_specific_fields"))


def _ended_by_calls(delta: dict[str, Any], answer: Any) -> Iterator[End]:
    """Yield an `End` for each text that ends because `delta` has pieces of tool calls.

    - A piece of tool call number n ends the arguments of tool call number n - 1.
    - The answer's text ends too, unless `delta` has text: some servers send both in the same delta.

    `answer` is the index of the choice.
    """
    if not delta.get("content"):
        yield End((answer, "content"))
    for number, call in enumerate(map(mapping, sequence(delta.get("tool_calls")))):
        yield End((answer, "call", whole_number(call.get("index", number)) - 1))


def _message(message: dict[str, Any], path: Path, role: str, answer: Any = "") -> Iterator[Place]:
    if not message:
        return
    for name, kind in _TEXTS.items():
        value = message.get(name)
        if isinstance(value, str) and value:
            block: Path = (answer, "thinking", name) if kind == "thinking" else (answer, name)
            yield Place((*path, name), kind, block, role=role)
        elif name == "content":
            yield from _parts(sequence(value), (*path, name), role, answer)
    yield from _more_texts(message, path, role, answer)
    for number, call in enumerate(map(mapping, sequence(message.get("tool_calls")))):
        block = (answer, "call", whole_number(call.get("index", number)))
        for member, inner in (("function", "arguments"), ("custom", "input")):
            if isinstance(mapping(call.get(member)).get(inner), str):
                yield Place((*path, "tool_calls", number, member, inner), "arguments", block, role=role)
    if isinstance(mapping(message.get("function_call")).get("arguments"), str):
        yield Place((*path, "function_call", "arguments"), "arguments", (answer, "call"), role=role)


def _more_texts(message: dict[str, Any], path: Path, role: str, answer: Any) -> Iterator[Place]:
    """Yield a `Place` for each thinking block of a message, and one for the transcript of the message's audio.

    The thinking blocks are in LiteLLM's `thinking_blocks` and in OpenRouter's `reasoning_details`. If `message` is a
    delta of a stream, `answer` is the index of the choice. Otherwise `answer` is "".
    """
    if isinstance(mapping(message.get("audio")).get("transcript"), str):
        yield Place((*path, "audio", "transcript"), "text", (answer, "transcript"), role=role)
    for number, thinking in enumerate(map(mapping, sequence(message.get("thinking_blocks")))):
        if isinstance(thinking.get("thinking"), str) and thinking["thinking"]:
            block = (answer, "thinking", "blocks", whole_number(thinking.get("index", number)))
            yield Place((*path, "thinking_blocks", number, "thinking"), "thinking", block, role=role)
    for number, detail in enumerate(map(mapping, sequence(message.get("reasoning_details")))):
        for name in ("text", "summary"):
            if isinstance(detail.get(name), str) and detail[name]:
                block = (answer, "thinking", "details", whole_number(detail.get("index", number)))
                yield Place((*path, "reasoning_details", number, name), "thinking", block, role=role)


_PARTS = {"text", "refusal", "thinking", "image_url", "input_audio", "file", "video_url", "audio_url"}
"""Fields that show the kind of a part of `content`. In a part with none of them, every string counts as a text."""


def _parts(parts: list[Any], path: Path, role: str, answer: Any) -> Iterator[Place]:
    for number, part in enumerate(parts):
        if not (isinstance(part, dict) and part.keys() & _PARTS):
            yield from unknown_texts(part, (*path, number), (answer, "content"), role)
            continue
        for name in ("text", "refusal"):
            if isinstance(part.get(name), str):
                yield Place((*path, number, name), "text", (answer, "content"), role=role)
        thoughts = part.get("thinking")
        if isinstance(thoughts, str):
            yield Place((*path, number, "thinking"), "thinking", (answer, "thinking", "content"), role=role)
        yield from _thoughts(sequence(thoughts), (*path, number, "thinking"), role, answer)


def _thoughts(thoughts: list[Any], path: Path, role: str, answer: Any) -> Iterator[Place]:
    for number, thought in enumerate(map(mapping, thoughts)):
        if isinstance(thought.get("text"), str):
            yield Place((*path, number, "text"), "thinking", (answer, "thinking", "content"), role=role)
