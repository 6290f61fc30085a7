"""Finds every text in requests, replies and events of Responses, for filters that read text.

A `Place` names the JSON path of one text. A stream has each text in pieces (`….delta`), and then four more times as a
whole: at the end of the text, of its content part, of its item, and of the response. Source: OpenAI API reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

from gateway.contract.flag import Copy, Event, Place
from gateway.contract.places import REPLY, REQUEST, Kind
from gateway_plugins.shared.lenient import mapping, sequence, text, whole_number
from gateway_plugins.shared.unknown_texts import unknown_texts

Path = tuple[str | int, ...]

_TEXTS: Final[dict[str, tuple[Kind, str, str]]] = {
    # beginning of the event's name: kind, list of the item, and field with the whole text at the end
    "response.output_text": ("text", "content", "text"),
    "response.refusal": ("text", "content", "refusal"),
    "response.audio.transcript": ("text", "content", "transcript"),
    "response.reasoning_text": ("thinking", "content", "text"),
    "response.reasoning_summary_text": ("thinking", "summary", "text"),
    "response.function_call_arguments": ("arguments", "arguments", "arguments"),
    "response.mcp_call_arguments": ("arguments", "arguments", "arguments"),
    "response.custom_tool_call_input": ("arguments", "input", "input"),
    "response.code_interpreter_call_code": ("arguments", "code", "code"),
}
_INDEXES: Final = {"content": "content_index", "summary": "summary_index"}
_MEMBERS: Final = ("arguments", "input", "code")
"""Fields of an item whose value is one text: `arguments` or `input` of a tool call, `code` of the code interpreter."""
_FOUND: Final = {
    "results": ("text",), "outputs": ("logs",), "operation": ("diff",),
    "action": ("query", "queries", "command", "commands", "text"),
}  # fmt: skip
"""Names of the inner fields with texts, for each field of a tool item whose value is an object or a list of objects."""
_OWN: Final = ("queries", "revised_prompt")
"""Fields of a tool item whose value is a text or a list of texts: the queries of a file search, and the prompt that the
model wrote for an image."""
_ITEMS: Final = frozenset({
    "message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output",
    "file_search_call", "web_search_call", "code_interpreter_call", "computer_call", "computer_call_output",
    "image_generation_call", "local_shell_call", "local_shell_call_output", "shell_call", "shell_call_output",
    "apply_patch_call", "apply_patch_call_output", "mcp_call", "mcp_list_tools", "mcp_approval_request",
    "mcp_approval_response", "item_reference", "compaction", "",
})  # fmt: skip
"""Types of items whose fields with text are known. In an item of any other type, every string counts as a text. ""
stands for a missing type, which messages may have."""
_PARTS: Final = frozenset({
    "input_text", "output_text", "refusal", "summary_text", "reasoning_text", "text", "input_image", "input_file",
    "input_audio", "output_audio", "computer_screenshot", "",
})  # fmt: skip
_AUTHORS: Final = {"developer": "system"}


def places(event: Event) -> Iterable[Place | Copy]:
    kind = event.kind
    if kind == "response.output_text.delta":
        data = mapping(event.data)
        if not data.get("logprobs") and isinstance(data.get("delta"), str):
            return _piece(whole_number(data.get("output_index")), whole_number(data.get("content_index")))
    name, _, last = kind.rpartition(".")
    if name in _TEXTS:
        return _text(mapping(event.data), last, *_TEXTS[name])
    if event.kind in {REQUEST, REPLY}:
        return (_request if event.kind == REQUEST else _reply)(mapping(event.data))
    return _wholes(event, name, last)


@lru_cache(64)  # nearly all events continue the text of the same few items
def _piece(item: int, part: int) -> tuple[Place, ...]:
    return (Place(("delta",), "text", (item, "content", part)),)


def _wholes(event: Event, name: str, last: str) -> Iterator[Place | Copy]:
    """Yield a `Place` for each text in an event with a whole content part, a whole item or the whole response.

    `name` and `last` are the event's kind before and after the last dot, such as `response.output_item` and `done`.
    """
    if name in {"response.content_part", "response.reasoning_summary_part"}:
        data = mapping(event.data)
        where = "content" if "content_index" in data else "summary"
        block = (whole_number(data.get("output_index")), where, whole_number(data.get(_INDEXES[where])))
        yield from _part(mapping(data.get("part")), ("part",), where, block, repeats=last == "done")
    elif name == "response.output_item":
        data = mapping(event.data)
        yield from _item(
            mapping(data.get("item")), ("item",), whole_number(data.get("output_index")), repeats=last == "done"
        )
    elif last in {"completed", "incomplete", "failed"}:
        yield from _reply(mapping(mapping(event.data).get("response")), ("response",), repeats=True)


def _text(data: dict[str, Any], last: str, kind: Kind, where: str, member: str) -> list[Place | Copy]:
    block = (whole_number(data.get("output_index")), where, whole_number(data.get(_INDEXES.get(where, ""))))
    name = "delta" if last == "delta" else member
    texts: list[Place | Copy] = []
    if isinstance(data.get(name), str) and last in {"delta", "done"}:
        texts.append(Place((name,), kind, block, repeats=last == "done"))
    if data.get("logprobs"):
        texts.append(Copy(("logprobs",)))
    return texts


def _request(data: dict[str, Any]) -> Iterator[Place | Copy]:
    if isinstance(data.get("instructions"), str):
        yield Place(("instructions",), role="system")
    if isinstance(data.get("input"), str):
        yield Place(("input",), role="user")
    yield from _items(data.get("input"), ("input",))
    variables = ("prompt", "variables")
    for name, value in mapping(mapping(data.get("prompt")).get("variables")).items():
        if isinstance(value, str):
            yield Place((*variables, name), role="user")
        elif isinstance(mapping(value).get("text"), str):
            yield Place((*variables, name, "text"), role="user")


def _reply(data: dict[str, Any], path: Path = (), *, repeats: bool = False) -> Iterator[Place | Copy]:
    yield from _items(data.get("output"), (*path, "output"), repeats=repeats)
    if data.get("output_text"):  # all texts, which some servers add as OpenAI's SDK does
        yield Copy((*path, "output_text"))


def _items(items: Any, path: Path, *, repeats: bool = False) -> Iterator[Place | Copy]:
    for number, item in enumerate(sequence(items)):
        yield from _item(mapping(item), (*path, number), number, repeats=repeats)


def _item(item: dict[str, Any], path: Path, number: Any, *, repeats: bool) -> Iterator[Place | Copy]:
    role = text(item.get("role"))
    role = _AUTHORS.get(role, role)
    if text(item.get("type")) in _ITEMS:
        yield from _known_item(item, path, number, role, repeats=repeats)
    else:
        yield from unknown_texts(item, path, number, role, repeats=repeats)


def _known_item(item: dict[str, Any], path: Path, number: Any, role: str, *, repeats: bool) -> Iterator[Place | Copy]:
    yield from _tool_texts(item, path, _OWN, (number,), repeats=repeats)
    for member in _MEMBERS:
        if isinstance(item.get(member), str) and item[member]:
            yield Place((*path, member), "arguments", (number, member, 0), repeats, role or "assistant")
    if isinstance(item.get("content"), str):
        yield Place((*path, "content"), "text", (number, "content", 0), repeats, role)
    if isinstance(item.get("output"), str):
        yield Place((*path, "output"), "text", (number, "output", 0), repeats, "tool")
    for where in ("content", "summary", "output"):
        author = "tool" if where == "output" else role
        for index, part in enumerate(map(mapping, sequence(item.get(where)))):
            block = (number, where, index)
            yield from _part(part, (*path, where, index), where, block, repeats=repeats, role=author)
    for member, names in _FOUND.items():
        values = item.get(member)
        listed: list[tuple[Path, Any]] = [((member, at), value) for at, value in enumerate(sequence(values))]
        listed = listed or [((member,), values)]
        for inner, value in listed:
            yield from _tool_texts(mapping(value), (*path, *inner), names, (number, *inner), repeats=repeats)


def _tool_texts(
    value: dict[str, Any], path: Path, names: tuple[str, ...], block: Path, *, repeats: bool
) -> Iterator[Place]:
    """Yield a `Place` for each string in the fields `names` of `value`, including strings in lists.

    A `Place.block` is the tuple `block` with the field's name appended, and for a list also the index. `repeats` is
    true if earlier events of the stream had the same texts.
    """
    for name in names:
        kind: Kind = "text" if name in {"text", "logs"} else "arguments"
        if isinstance(value.get(name), str):
            yield Place((*path, name), kind, (*block, name), repeats, "tool")
        for at, item in enumerate(sequence(value.get(name))):
            if isinstance(item, str):
                yield Place((*path, name, at), kind, (*block, name, at), repeats, "tool")


def _part(
    part: dict[str, Any], path: Path, where: str, block: Any, *, repeats: bool, role: str = ""
) -> Iterator[Place | Copy]:
    is_thinking = where == "summary" or part.get("type") == "reasoning_text"
    if text(part.get("type")) not in _PARTS and part.keys().isdisjoint(("text", "stdout", "stderr")):
        yield from unknown_texts(part, path, block, role, repeats=repeats)
        return
    if part.get("logprobs"):
        yield Copy((*path, "logprobs"))
    for member in ("text", "refusal", "transcript", "stdout", "stderr"):
        if isinstance(part.get(member), str) and part[member]:
            yield Place((*path, member), "thinking" if is_thinking else "text", block, repeats, role)
