"""Readers of a Chat Completions request: what the client said, checked and in plain values, for any road from it.

Source: OpenAI's API reference (Chat); the extensions `cache_control` as opencode and `thinking_blocks` as LiteLLM
sends them. A value that cannot be read is a 400 that names its field. What a provider can take, and what
becomes of a value there, belongs to the roads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.errors import invalid
from gateway.flag import Drop, Members
from gateway_plugins.parts import media
from gateway_plugins.parts.fields import Ttl, is_deep, member, param
from gateway_plugins.parts.media import Media

_ROLES: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `role` is system, user, assistant or tool; `at` its JSON pointer."""

    role: str
    at: str
    raw: dict[str, Any]

    @property
    def ttl(self) -> Ttl:
        return cache_ttl(self.raw, self.at)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a message's content: a text, or a file."""

    at: str
    text: str = ""
    media: Media | None = None
    ttl: Ttl = None


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call of an earlier assistant turn; `input` is always an object."""

    at: str
    id: str
    name: str
    input: dict[str, Any]
    ttl: Ttl = None


@dataclass(frozen=True, slots=True)
class Thinking:
    """An entry of `thinking_blocks`: text with a signature, or `data` of a redacted one."""

    at: str
    text: str = ""
    signature: str = ""
    data: str = ""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the client offers."""

    at: str
    name: str
    description: str
    schema: Any
    """`parameters` as they came; None if there are none."""
    strict: bool
    ttl: Ttl = None


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`mode` is auto, none, any or tool; `name` belongs to the last."""

    mode: str = "auto"
    name: str = ""
    allowed: tuple[str, ...] | None = None
    """The only tools that may be called (`allowed_tools`); None if all may."""


def messages(top: Members) -> list[Message]:
    """The conversation. Legacy function calls are read as tool calls."""
    raws = member(top, "messages")
    if not isinstance(raws, list) or not raws:
        raise invalid('"messages" must be a list with at least one message', "messages")
    found = []
    legacy: dict[str, str] = {}
    for index, raw in enumerate(raws):
        at = f"/messages/{index}"
        role = str(raw.get("role")) if isinstance(raw, dict) else ""
        if role not in _ROLES:
            raise invalid(f'{param(at)}.role: "{role}" is not one of {", ".join(_ROLES)}', f"{param(at)}.role")
        found.append(Message(_ROLES[role], at, _modern(raw, index, legacy)))
    return found


def _modern(raw: dict[str, Any], index: int, legacy: dict[str, str]) -> dict[str, Any]:
    """`function_call` as a tool call with an id of our own; `role: function` as the result of the last of that name."""
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
    """Anthropic's `cache_control`, which opencode sends on messages, parts and tools."""
    mark = raw.get("cache_control")
    if mark is None:
        return None
    ttl = mark.get("ttl") if isinstance(mark, dict) else None
    if not isinstance(mark, dict) or ttl not in (None, "5m", "1h"):
        field = param(f"{at}/cache_control")
        raise invalid(f'{field} must be {{"type": "ephemeral"}}, with a "ttl" of 5m or 1h or none', field)
    return ttl or ""


def parts(message: Message, drop: Drop) -> list[Part]:
    """Content as parts, blank texts included."""
    at = f"{message.at}/content"
    content = message.raw.get("content")
    if content is None:
        return []
    if isinstance(content, str):
        return [Part(at, content)]
    if not isinstance(content, list):
        raise invalid(f"{param(at)} must be a string or a list of parts", param(at))
    return [_part(raw, f"{at}/{index}", drop) for index, raw in enumerate(content)]


def _part(raw: Any, at: str, drop: Drop) -> Part:
    if isinstance(raw, str):
        return Part(at, raw)
    kind = str(raw.get("type")) if isinstance(raw, dict) else ""
    if kind in {"text", "refusal"}:
        return Part(at, text_of(raw.get(kind), f"{at}/{kind}"), ttl=cache_ttl(raw, at))
    if kind not in _FILES:
        known = ", ".join(("text", *_FILES))
        raise invalid(f'{param(at)}.type: "{kind}" is not one of {known}', f"{param(at)}.type")
    return Part(at, media=_FILES[kind](raw, at, drop), ttl=cache_ttl(raw, at))


def text_of(value: Any, at: str) -> str:
    """A member that must be a string; null reads as ""."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise invalid(f"{param(at)} must be a string", param(at))
    return value


def _list(value: Any, at: str) -> list[Any]:
    """A member that must be a list; null reads as none."""
    if value is not None and not isinstance(value, list):
        raise invalid(f"{param(at)} must be a list", param(at))
    return value or []


def _image(raw: dict[str, Any], at: str, drop: Drop) -> Media:
    image = raw.get("image_url")
    inner = image if isinstance(image, dict) else {"url": image}
    if inner.get("detail") not in (None, "auto"):
        drop(f"{at}/image_url/detail")
    return media.image(text_of(inner.get("url"), f"{at}/image_url/url"), f"{param(at)}.image_url.url")


def _file(raw: dict[str, Any], at: str, drop: Drop) -> Media:
    _ = drop
    file = raw.get("file")
    data = file.get("file_data") if isinstance(file, dict) else None
    if not isinstance(file, dict) or not data:
        field = f"{param(at)}.file.file_data"
        raise invalid(f"{field}: the file itself must be here, as a data: URL; no files are stored", field)
    name = text_of(file.get("filename"), f"{at}/file/filename")
    return media.document(text_of(data, f"{at}/file/file_data"), name, f"{param(at)}.file.file_data")


def _audio(raw: dict[str, Any], at: str, drop: Drop) -> Media:
    _ = drop
    audio = raw.get("input_audio")
    inner = audio if isinstance(audio, dict) else {}
    data = text_of(inner.get("data"), f"{at}/input_audio/data")
    return media.audio(data, str(inner.get("format")), f"{param(at)}.input_audio")


_FILES: Final = {"image_url": _image, "file": _file, "input_audio": _audio}


def thinking(message: Message) -> Iterator[Thinking]:
    """The `thinking_blocks` that an earlier reply brought; entries without signature and data are yielded empty."""
    for index, block in enumerate(_list(message.raw.get("thinking_blocks"), f"{message.at}/thinking_blocks")):
        at = f"{message.at}/thinking_blocks/{index}"
        inner = block if isinstance(block, dict) else {}
        if inner.get("type") == "redacted_thinking":
            yield Thinking(at, data=text_of(inner.get("data"), f"{at}/data"))
        else:
            text = text_of(inner.get("thinking"), f"{at}/thinking")
            yield Thinking(at, text, text_of(inner.get("signature"), f"{at}/signature"))


def calls(message: Message) -> list[Call]:
    """The tool calls of an assistant message."""
    found = []
    for index, raw in enumerate(_list(message.raw.get("tool_calls"), f"{message.at}/tool_calls")):
        at = f"{message.at}/tool_calls/{index}"
        function = raw.get("function") if isinstance(raw, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise invalid(f"{param(at)} must be a call of a function, with its name", param(at))
        called = arguments(function.get("arguments"))
        found.append(Call(at, str(raw.get("id") or ""), function["name"], called, cache_ttl(raw, at)))
    return found


def arguments(text: Any) -> dict[str, Any]:
    """A tool's arguments as the object that providers demand of a replayed call.

    "" and "{}" in quotes are objects written badly (litellm#18414); text that is no object at all is kept under
    `rawInvalidInput`, so that the model sees what it wrote. Empty member names are refused upstream (pi#7782).
    """
    value = text
    for _ in range(2):  # some clients encode the JSON twice
        if isinstance(value, str):
            try:
                value = orjson.loads(value) if value.strip() else {}
            except orjson.JSONDecodeError:
                break
    if value is None:
        value = {}
    return _named(value) if isinstance(value, dict) and not is_deep(value) else {"rawInvalidInput": text}


def _named(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _named(inner) for name, inner in value.items() if name}
    return [_named(inner) for inner in value] if isinstance(value, list) else value


def tool_call_id(message: Message) -> str:
    """Whose result a tool message is."""
    found = message.raw.get("tool_call_id")
    if not isinstance(found, str) or not found:
        field = f"{param(message.at)}.tool_call_id"
        raise invalid(f"{field} must name the tool call that this answers", field)
    return found


def tools(top: Members) -> list[Tool]:
    """The functions offered, by `tools` or by the older `functions`."""
    raws = [(f"/tools/{index}", raw) for index, raw in enumerate(_list(member(top, "tools"), "/tools"))]
    functions = _list(member(top, "functions"), "/functions")
    raws += [(f"/functions/{index}", {"type": "function", "function": raw}) for index, raw in enumerate(functions)]
    return [_tool(raw, at) for at, raw in raws]


def _tool(raw: Any, at: str) -> Tool:
    kind = raw.get("type", "function") if isinstance(raw, dict) else None
    function = raw.get("function") if isinstance(raw, dict) else None
    if kind != "function" or not isinstance(function, dict):
        raise invalid(
            f'{param(at)}: a tool of type "{kind}" cannot be offered to this model, only functions', param(at)
        )
    name = function.get("name")
    if not isinstance(name, str) or not name.strip():
        raise invalid(f"{param(at)}.function.name must not be empty", f"{param(at)}.function.name")
    mark = cache_ttl(raw, at)
    return Tool(
        at=at,
        name=name,
        description=text_of(function.get("description"), f"{at}/function/description"),
        schema=function.get("parameters"),
        strict=function.get("strict") is True,
        ttl=cache_ttl(function, f"{at}/function") if mark is None else mark,
    )


_MODES: Final = {"auto": "auto", "none": "none", "required": "any", "any": "any"}


def tool_choice(top: Members) -> ToolChoice:
    """`tool_choice`, or the older `function_call`."""
    field = "tool_choice" if top.decode("tool_choice") is not None else "function_call"
    value = member(top, field)
    if value is None:
        return ToolChoice()
    if isinstance(value, str) and value in _MODES:
        return ToolChoice(_MODES[value])
    inner = value if isinstance(value, dict) else {}
    if inner.get("type") == "allowed_tools":
        return _allowed(inner.get("allowed_tools"))
    function = inner.get("function") or inner
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name:
        raise invalid(f"{field} must be auto, none, required, or name one function", field)
    return ToolChoice("tool", name)


def _allowed(value: Any) -> ToolChoice:
    inner = value if isinstance(value, dict) else {}
    names = tuple(
        str(tool["function"].get("name"))
        for tool in _list(inner.get("tools"), "/tool_choice/allowed_tools/tools")
        if isinstance(tool, dict) and isinstance(tool.get("function"), dict)
    )
    return ToolChoice(_MODES.get(str(inner.get("mode")), "auto"), allowed=names)


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools that may be called, and the choice among them."""

    offered: list[Tool]
    mode: str
    """auto, none, any or tool."""
    name: str
    """The demanded one, as the client calls it."""
    path: str
    """Where the client made the choice."""
    parallel: bool


def offer(top: Members) -> Tools:
    """Raises `Refused` for a demand that no tool can meet."""
    choice, offered = tool_choice(top), tools(top)
    if choice.allowed is not None:
        offered = [tool for tool in offered if tool.name in choice.allowed]
    field = "function_call" if top.decode("tool_choice") is None and "function_call" in top else "tool_choice"
    if choice.mode in {"any", "tool"} and not offered:
        raise invalid(f"{field}: a tool is demanded but none is offered; send tools", field)
    if choice.mode == "tool" and choice.name not in {tool.name for tool in offered}:
        raise invalid(f'{field}: no tool is named "{choice.name}"', field)
    parallel = member(top, "parallel_tool_calls") is not False
    return Tools(offered, choice.mode, choice.name, f"/{field}", parallel)
