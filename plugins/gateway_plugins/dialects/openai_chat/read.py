"""Readers that turn the messages of a Chat Completions request into the classes of `shared/plain_request.py`.

- A value that cannot be read is refused with a 400 that names its field.
- Two extensions of OpenAI's API are read: `cache_control` as opencode sends it, and LiteLLM's `thinking_blocks`.

Tools and parameters are read in `read_options.py`. The translations decide which values a provider accepts. Source:
OpenAI's API reference (Chat).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Drop, Members
from gateway_plugins.dialects.openai.read import BREAKPOINT, breakpoint_ttl, refuse_files
from gateway_plugins.dialects.openai_chat.emit import PLACE
from gateway_plugins.dialects.openai_chat.facts import parts_of
from gateway_plugins.shared import media
from gateway_plugins.shared.attribution import without_attribution
from gateway_plugins.shared.checks import arguments, inner_leftovers, list_of, text_of
from gateway_plugins.shared.fields import Ttl, member, param
from gateway_plugins.shared.lenient import mapping, sequence, text, whole_number
from gateway_plugins.shared.media import Media
from gateway_plugins.shared.plain_request import Call, Message, Part
from gateway_plugins.shared.reasoning import Reasoning

_ROLES: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_COMMON: Final = frozenset({"role", "content", "cache_control"})
_CARRIED: Final[Mapping[str, frozenset[str]]] = {
    "system": _COMMON,
    "user": _COMMON,
    "assistant": _COMMON | {"tool_calls", "refusal", "thinking_blocks"},
    "tool": _COMMON | {"tool_call_id", "name"},  # `name` is not used: the call has the tool's name already
}
_BLOCKS: Final = ("thinking", "redacted_thinking")
_UNSIGNED: Final = frozenset({"reasoning_content", "reasoning"})
"""Fields with thinking as unsigned text. They are not translated, and are reported as dropped.

Exception: if the message also has `thinking_blocks`, nothing is reported, because these have the same text.
"""


def messages(top: Members, drop: Drop) -> list[Message]:
    """Return the conversation. Calls in the older field `function_call` are read as tool calls."""
    raws = member(top, "messages")
    if not isinstance(raws, list) or not raws:
        raise invalid('"messages" must be a list with at least one message', "messages")
    conversation = []
    legacy: dict[str, str] = {}
    for index, raw in enumerate(raws):
        at = f"/messages/{index}"
        role = str(raw.get("role")) if isinstance(raw, dict) else ""
        if role not in _ROLES:
            raise invalid(f'{param(at)}.role: "{role}" is not one of {", ".join(_ROLES)}', f"{param(at)}.role")
        conversation.append(_message(_ROLES[role], _modern(raw, index, legacy), at, drop))
    return conversation


def _message(role: str, raw: dict[str, Any], at: str, drop: Drop) -> Message:
    raw = _with_blocks(raw, at, drop) if role == "assistant" else raw
    replayed = _UNSIGNED if raw.get("thinking_blocks") else frozenset()
    inner_leftovers(raw, _CARRIED[role] | replayed, at, drop)
    given = raw.get("content")
    if role == "assistant" and isinstance(given, list):
        given = [_answered(part, f"{at}/content/{index}", drop) for index, part in enumerate(given)]
    parts = _parts(given, f"{at}/content", drop)
    if role == "system":
        refuse_files(parts, role)
        parts = [replace(part, text=without_attribution(part.text)) for part in parts]
    content: Sequence[Part | Call | Reasoning] = parts
    ttl = cache_ttl(raw, at)
    if role == "tool":
        return Message(role, at, content, ttl, _tool_call_id(raw, at), f"{at}/tool_call_id")
    if role == "assistant":
        refusal = Part(f"{at}/refusal", text_of(raw.get("refusal"), f"{at}/refusal"))
        if refusal.text and refusal.text not in {part.text for part in parts}:  # the content may have the refusal too
            parts.append(refusal)
        content = _ordered(_thinking(raw, at), parts, [*_calls(raw, at)])
    return Message(role, at, content, ttl)


def _with_blocks(raw: dict[str, Any], at: str, drop: Drop) -> dict[str, Any]:
    """Move thinking from the content of an assistant message to `thinking_blocks`.

    Some clients, such as Mistral's, send thinking as parts of the content (BerriAI/litellm#23137). If the message
    already has `thinking_blocks`, they stay unchanged, and thinking that they lack is reported as dropped.
    """
    if not isinstance(raw.get("content"), list):
        return raw
    content: list[Any] = []
    blocks: list[Any] = []
    given = [mapping(block) for block in sequence(raw.get("thinking_blocks"))]
    known = {text(block.get("data")) for block in given} | {text(block.get("thinking")) for block in given}
    length = 0
    for index, part in enumerate(sequence(raw.get("content"))):
        block = mapping(part)
        if block.get("type") in _BLOCKS:
            thinking = "".join(parts_of(block.get("thinking"))[0])
            if given and (text(block.get("data")) or thinking) not in known:
                drop(f"{at}/content/{index}")
            blocks.append({**block, "thinking": thinking, **dict(zip(PLACE, (length, 0), strict=True))})
            content.append("")  # keeps the places of the other parts
        else:
            content.append(part)
            length += len(part if isinstance(part, str) else text(block.get("text")))
    if not blocks:
        return raw
    return {**raw, "content": content, "thinking_blocks": raw.get("thinking_blocks") or blocks}


def _modern(raw: dict[str, Any], index: int, legacy: dict[str, str]) -> dict[str, Any]:
    """Convert a message in the older form of OpenAI's function calls to tool calls. Return other messages unchanged.

    The older form has the field `function_call`, and the role `function` for a result. It has no ids of calls. So the
    id is made from `index`, the index of the message, and a result gets the id of the last call of its function.
    `legacy` has these ids by the function's name.
    """
    call = raw.get("function_call")
    if isinstance(call, dict) and not raw.get("tool_calls"):
        tool_id = legacy[str(call.get("name"))] = f"call_{index}"
        rest = {name: value for name, value in raw.items() if name != "function_call"}
        return {**rest, "tool_calls": [{"id": tool_id, "type": "function", "function": call}]}
    if raw["role"] == "function":
        rest = {name: value for name, value in raw.items() if name != "name"}
        return {**rest, "tool_call_id": legacy.get(str(raw.get("name")), str(raw.get("name")))}
    return raw


def cache_ttl(raw: dict[str, Any], at: str) -> Ttl:
    """Return the lifetime that `cache_control` names, or "" if it names none. Return None if there is no such field.

    opencode sends this field of Anthropic's API on messages, parts and tools.
    """
    mark = raw.get("cache_control")
    if mark is None:
        return None
    ttl = mark.get("ttl") if isinstance(mark, dict) else None
    if not isinstance(mark, dict) or ttl not in (None, "5m", "1h"):
        field = param(f"{at}/cache_control")
        raise invalid(f'{field} must be {{"type": "ephemeral"}}, with a "ttl" of 5m or 1h or none', field)
    return ttl or ""


def _parts(content: Any, at: str, drop: Drop) -> list[Part]:
    """Return the parts of a message's `content`, which may be a string or a list. Blank texts are kept."""
    if content is None:
        return []
    if isinstance(content, str):
        return [Part(at, content)]
    if not isinstance(content, list):
        raise invalid(f"{param(at)} must be a string or a list of parts", param(at))
    return [_part(raw, f"{at}/{index}", drop) for index, raw in enumerate(content)]


def _answered(raw: Any, at: str, drop: Drop) -> Any:
    """Return a part of an assistant message. A part that is neither text nor refusal is replaced by "".

    The replaced part, such as a picture, is reported as dropped. A 400 would end the client's session.
    """
    if not isinstance(raw, dict) or str(raw.get("type")) in {"text", "refusal"}:
        return raw
    drop(at)
    return ""


def _part(raw: Any, at: str, drop: Drop) -> Part:
    if isinstance(raw, str):
        return Part(at, raw)
    kind = str(raw.get("type")) if isinstance(raw, dict) else ""
    if isinstance(raw, dict):
        inner_leftovers(raw, ("type", kind, "cache_control", BREAKPOINT), at, drop)
    if kind in {"text", "refusal"}:
        return _marked(Part(at, text_of(raw.get(kind), f"{at}/{kind}")), raw, drop)
    if kind not in _FILES:
        known = ", ".join(("text", *_FILES))
        raise invalid(f'{param(at)}.type: "{kind}" is not one of {known}', f"{param(at)}.type")
    return _marked(Part(at, media=_FILES[kind](raw, at, drop)), raw, drop)


def _marked(part: Part, raw: dict[str, Any], drop: Drop) -> Part:
    """Return `part` with the cache breakpoint of `raw`, the part as the client sent it.

    The breakpoint is in Anthropic's field (`cache_control`) or in OpenAI's field (`BREAKPOINT`).
    """
    if (ttl := cache_ttl(raw, part.at)) is not None:
        return replace(part, ttl=ttl)
    return replace(part, ttl=breakpoint_ttl(raw, part.at, drop), mark=BREAKPOINT)


def _image(raw: dict[str, Any], at: str, drop: Drop) -> Media:
    image = raw.get("image_url")
    inner = image if isinstance(image, dict) else {"url": image}
    if inner.get("detail") not in (None, "auto"):
        drop(f"{at}/image_url/detail")
    return media.image(text_of(inner.get("url"), f"{at}/image_url/url"), f"{param(at)}.image_url.url")


def _file(raw: dict[str, Any], at: str, _drop: Drop) -> Media:
    file = raw.get("file")
    data = file.get("file_data") if isinstance(file, dict) else None
    if not isinstance(file, dict) or not data:
        field = f"{param(at)}.file.file_data"
        raise invalid(f"{field}: the file itself must be here, as a data: URL; no files are stored", field)
    name = text_of(file.get("filename"), f"{at}/file/filename")
    return media.document(text_of(data, f"{at}/file/file_data"), name, f"{param(at)}.file.file_data")


def _audio(raw: dict[str, Any], at: str, _drop: Drop) -> Media:
    audio = raw.get("input_audio")
    inner = audio if isinstance(audio, dict) else {}
    data = text_of(inner.get("data"), f"{at}/input_audio/data")
    return media.audio(data, str(inner.get("format")), f"{param(at)}.input_audio")


_FILES: Final = {"image_url": _image, "file": _file, "input_audio": _audio}


def _thinking(raw: dict[str, Any], message: str) -> Iterator[tuple[Reasoning, int, int]]:
    """Yield the thinking blocks in `thinking_blocks`, which the client copied from an earlier reply.

    Each block comes with the number of characters of text before it, and the number of tool calls before it. `message`
    is the JSON pointer of the message.
    """
    for index, block in enumerate(list_of(raw.get("thinking_blocks"), f"{message}/thinking_blocks")):
        at = f"{message}/thinking_blocks/{index}"
        inner = block if isinstance(block, dict) else {}
        text_before, calls_before = (max(0, whole_number(inner.get(name))) for name in PLACE)
        if inner.get("type") == "redacted_thinking":
            thinking = Reasoning(at, data=text_of(inner.get("data"), f"{at}/data"))
        else:
            text = text_of(inner.get("thinking"), f"{at}/thinking")
            thinking = Reasoning(at, text, text_of(inner.get("signature"), f"{at}/signature"))
        yield thinking, text_before, calls_before


def _ordered(
    thoughts: Iterable[tuple[Reasoning, int, int]], parts: list[Part], calls: list[Call]
) -> list[Part | Call | Reasoning]:
    """Return thinking, text and tool calls in the order in which the model wrote them.

    `thoughts` has each thinking block with its position: the number of characters of text before the block, and the
    number of calls before it. After the last thinking block, the remaining text comes before the remaining calls.
    """
    content: list[Part | Call | Reasoning] = []
    written = called = 0
    for thinking, text_before, calls_before in thoughts:
        while parts and written < text_before:
            part, size = parts.pop(0), text_before - written
            if len(part.text) > size:
                parts.insert(0, replace(part, text=part.text[size:]))
                part = replace(part, text=part.text[:size], ttl=None)
            content.append(part)
            written += len(part.text)
        content += calls[called:calls_before]
        called = max(called, min(calls_before, len(calls)))
        content.append(thinking)
    return [*content, *parts, *calls[called:]]


def _calls(raw: dict[str, Any], message: str) -> Iterator[Call]:
    """Yield the tool calls of an assistant message. `message` is the JSON pointer of the message."""
    for index, call in enumerate(list_of(raw.get("tool_calls"), f"{message}/tool_calls")):
        at = f"{message}/tool_calls/{index}"
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(call, dict) and isinstance(custom := call.get("custom"), dict):
            function = {"name": custom.get("name"), "arguments": {"input": custom.get("input")}}
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise invalid(f"{param(at)} must be a call of a function, with its name", param(at))
        input_ = arguments(function.get("arguments"))
        yield Call(at, str(call.get("id") or ""), function["name"], input_, cache_ttl(call, at))


def _tool_call_id(raw: dict[str, Any], at: str) -> str:
    """Return the id of the tool call that a tool message answers."""
    call_id = raw.get("tool_call_id")
    if not isinstance(call_id, str) or not call_id:
        field = f"{param(at)}.tool_call_id"
        raise invalid(f"{field} must name the tool call that this answers", field)
    return call_id
