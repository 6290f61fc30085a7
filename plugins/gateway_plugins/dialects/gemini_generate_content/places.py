"""Finds every text in requests, replies and events of the Gemini API, for filters that read text.

A `Place` names the JSON path of one text. A candidate's thinking ends where its answer begins. The answer's text ends
where a function call begins. Source: Gemini API reference (GenerateContentResponse).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

from gateway.contract.flag import Copy, End, Event, Place
from gateway.contract.places import REQUEST, Kind
from gateway_plugins.shared.lenient import mapping, sequence, text, whole_number
from gateway_plugins.shared.unknown_texts import unknown_texts

Path = tuple[str | int, ...]

_CODE: dict[tuple[str, str, str], Kind] = {
    ("executableCode", "executable_code", "code"): "arguments",
    ("codeExecutionResult", "code_execution_result", "output"): "text",
}
"""`Place.kind` of code and of its output.

A key is a triple of field names: the part's field in camelCase, the same field in snake_case, and the field inside it
that has the text."""


def places(event: Event) -> Iterable[Place | End | Copy]:
    """Return the position of each text in a request, a reply, or a chunk of a stream."""
    data = mapping(event.data)
    if event.kind == REQUEST:
        return _requests(data)
    return _answer(data) or _candidates(sequence(data.get("candidates")))


def _requests(data: dict[str, Any]) -> Iterator[Place | End]:
    yield from _request(data, ())
    for name in ("generateContentRequest", "generate_content_request"):  # a whole request to countTokens
        yield from _request(mapping(data.get(name)), (name,))


def _answer(data: dict[str, Any]) -> tuple[Place | End, ...]:
    """Return the position of the text in a chunk that only continues one answer, or () for any other event.

    This is the fast path for nearly all chunks. The result also has an `End`: the answer's thinking has ended, because
    no thinking comes after text.
    """
    try:
        (candidate,) = data["candidates"]
        (part,) = candidate["content"]["parts"]
        words = part["text"]
    except (LookupError, TypeError, ValueError):
        return ()
    if not (isinstance(words, str) and words) or len(part) > 1 or not candidate.keys() <= _PLAIN:
        return ()
    return _piece(whole_number(candidate.get("index")))


@lru_cache(64)  # nearly all events continue the same few answers
def _piece(block: int) -> tuple[Place | End, ...]:
    path = ("candidates", 0, "content", "parts", 0, "text")
    return End((block, "thinking")), Place(path, "text", (block, "text"), role="assistant")


_PLAIN: Final = {"content", "index", "safetyRatings"}
"""Fields that a candidate may have in a chunk that only continues an answer (`_answer`)."""


def _candidates(candidates: list[Any]) -> Iterator[Place | End | Copy]:
    for number, candidate in enumerate(map(mapping, candidates)):
        index = whole_number(candidate.get("index"))
        parts = mapping(candidate.get("content")).get("parts")
        yield from _parts(parts, ("candidates", number, "content", "parts"), index, "assistant")
        yield from _grounding(candidate, ("candidates", number))
        if candidate.get("finishReason"):
            yield End(index)


def _request(data: dict[str, Any], path: Path) -> Iterator[Place | End]:
    for name in ("systemInstruction", "system_instruction"):
        yield from _parts(mapping(data.get(name)).get("parts"), (*path, name, "parts"), "", "system")
    for number, content in enumerate(map(mapping, sequence(data.get("contents")))):
        role = "assistant" if content.get("role") == "model" else text(content.get("role")) or "user"
        yield from _parts(content.get("parts"), (*path, "contents", number, "parts"), number, role)


def _grounding(candidate: dict[str, Any], path: Path) -> Iterator[Place | Copy]:
    """Yield the paths of texts in `groundingMetadata` (`Place`), and of fields that repeat texts (`Copy`)."""
    grounding = mapping(candidate.get("groundingMetadata"))
    where = (*path, "groundingMetadata")
    for number, query in enumerate(sequence(grounding.get("webSearchQueries"))):
        if isinstance(query, str):
            yield Place((*where, "webSearchQueries", number), "arguments", ("query", query), repeats=True)
    for number, chunk in enumerate(map(mapping, sequence(grounding.get("groundingChunks")))):
        passage = mapping(chunk.get("retrievedContext")).get("text")
        if isinstance(passage, str):
            inner = ("groundingChunks", number, "retrievedContext", "text")
            yield Place((*where, *inner), "text", ("passage", passage), repeats=True)
    for name in ("groundingSupports", "searchEntryPoint"):
        if grounding.get(name):
            yield Copy((*where, name))
    if candidate.get("logprobsResult"):
        yield Copy((*path, "logprobsResult"))


def _parts(parts: Any, path: Path, block: Any, role: str) -> Iterator[Place | End]:
    for number, part in enumerate(map(mapping, sequence(parts))):
        where = (*path, number)
        is_thinking = part.get("thought") is True
        yield End((block, "text" if is_thinking else "thinking"))
        if isinstance(part.get("text"), str) and part["text"]:
            kind: Kind = "thinking" if is_thinking else "text"
            yield Place((*where, "text"), kind, (block, kind), role=role)
        else:
            yield End((block, "text"))
        yield from _code(part, where, role)
        yield from _calls(part, where, block, role)
        for name in [name for name in part if name not in _PARTS]:
            yield from unknown_texts(part[name], (*where, name), (block, name), role)


_PARTS: Final = frozenset({
    "text", "thought", "thoughtSignature", "thought_signature", "inlineData", "inline_data", "fileData", "file_data",
    "functionCall", "function_call", "functionResponse", "function_response", "executableCode", "executable_code",
    "codeExecutionResult", "code_execution_result", "videoMetadata", "video_metadata", "mediaResolution",
    "media_resolution", "partMetadata", "part_metadata",
})  # fmt: skip
"""All fields of a part in the Gemini API reference (Part). In any other field, every string counts as a text."""


def _code(part: dict[str, Any], where: Path, role: str) -> Iterator[Place]:
    """Yield a `Place` for code that the provider ran, and for the code's output. A stream sends each in one piece."""
    for names, kind in _CODE.items():
        for name in names[:2]:
            found = mapping(part.get(name)).get(names[2])
            if isinstance(found, str):
                yield Place((*where, name, names[2]), kind, (names[2], found), repeats=True, role=role)


def _calls(part: dict[str, Any], where: Path, block: Any, role: str) -> Iterator[Place]:
    for call in ("functionCall", "function_call"):
        if mapping(part.get(call)).get("args"):
            yield Place((*where, call, "args"), "arguments", (block, "args"), role=role)
        pieces = mapping(part.get(call)).get("partialArgs")
        for number, piece in enumerate(map(mapping, sequence(pieces))):
            if isinstance(piece.get("stringValue"), str):
                name = (block, "args", text(piece.get("jsonPath")))
                yield Place((*where, call, "partialArgs", number, "stringValue"), "arguments", name, role=role)
    for result in ("functionResponse", "function_response"):
        if mapping(part.get(result)).get("response"):
            yield Place((*where, result, "response"), "text", (block, "response"), role="tool")
