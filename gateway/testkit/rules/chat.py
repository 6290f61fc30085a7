"""Rules for bodies of OpenAI's Chat Completions.

Faults are wrong types, roles, tools and tool choices, and tool calls without a result. Unknown fields are accepted,
because compatible providers have fields of their own. The wording of a fault is OpenAI's if a source shows it. No rule
depends on the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from gateway.testkit.rules import common as rules

ChatRule = Callable[[Mapping[str, Any]], Iterator[str]]

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NUMBER: Final = (int, float)
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "model": (str,),
    "messages": (list,),
    "stream": (bool,),
    "stream_options": (dict,),
    "temperature": _NUMBER,
    "top_p": _NUMBER,
    "max_tokens": (int,),
    "max_completion_tokens": (int,),
    "n": (int,),
    "stop": (str, list),
    "tools": (list,),
    "tool_choice": (str, dict),
    "parallel_tool_calls": (bool,),
    "response_format": (dict,),
    "reasoning_effort": (str,),
    "seed": (int,),
    "logprobs": (bool,),
    "user": (str,),
    "metadata": (dict,),
}
_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "max_tokens": (1, float("inf")),
    "max_completion_tokens": (1, float("inf")),
    "n": (1, 128),
}
_PARTS: Final[Mapping[str, frozenset[str]]] = {
    "system": frozenset({"text"}),
    "developer": frozenset({"text"}),
    "user": frozenset({"text", "image_url", "input_audio", "file"}),
    "assistant": frozenset({"text", "refusal"}),
    "tool": frozenset({"text"}),
    "function": frozenset(),
}
"""The types of content parts that a message of each role may have."""
_PART_VALUES: Final[Mapping[str, type]] = {
    "text": str, "refusal": str, "image_url": dict, "input_audio": dict, "file": dict,
}  # fmt: skip
_CHOICES: Final = frozenset({"none", "auto", "required"})
_FORMATS: Final = frozenset({"text", "json_object", "json_schema"})
_EMPTY: Final = "empty array. Expected an array with minimum length 1, but got an empty array instead."
_MAX_STOPS: Final = 4


def chat_fault(body: Any) -> str | None:
    """Return the first fault of a body of /v1/chat/completions, or None."""
    if not isinstance(body, dict):
        return "Invalid body: expected an object."
    return rules.first(fault for rule in _RULES for fault in rule(body))


def _types(body: Mapping[str, Any]) -> Iterator[str]:
    for name in ("model", "messages"):
        if body.get(name) is None:
            yield f"Missing required parameter: '{name}'."
    for name, types in _TYPES.items():
        value = body.get(name)
        if value is not None and not (isinstance(value, types) and (bool in types or not isinstance(value, bool))):
            yield f"Invalid type for '{name}': expected {' or '.join(kind.__name__ for kind in types)}."
    for name, (least, most) in _RANGES.items():
        if body.get(name) is not None and not least <= body[name] <= most:
            yield f"Invalid '{name}': expected a value between {least} and {most}, but got {body[name]} instead."


def _together(body: Mapping[str, Any]) -> Iterator[str]:
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        yield "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
    if body.get("stream_options") is not None and not body.get("stream"):
        yield "The 'stream_options' parameter is only allowed when 'stream' is enabled."
    stops = body.get("stop")
    if isinstance(stops, list) and (len(stops) > _MAX_STOPS or not all(isinstance(stop, str) for stop in stops)):
        yield f"Invalid 'stop': expected at most {_MAX_STOPS} strings."
    kind = rules.tag_of(body.get("response_format") or {"type": "text"})
    if kind not in _FORMATS:
        yield f"Invalid value: '{kind}'. Supported values for response_format.type are {sorted(_FORMATS)}."


def _messages(body: Mapping[str, Any]) -> Iterator[str]:
    if not body["messages"]:
        yield f"Invalid 'messages': {_EMPTY}"
    for number, message in enumerate(body["messages"]):
        at = f"messages[{number}]"
        if not isinstance(message, dict):
            yield f"Invalid type for '{at}': expected an object."
        elif str(message.get("role")) not in _PARTS:
            yield f"Invalid value: '{message.get('role')}'. Supported values for {at}.role are {sorted(_PARTS)}."
        else:
            yield from _content(message, at)


def _content(message: Mapping[str, Any], at: str) -> Iterator[str]:
    content = message.get("content")
    silent = message["role"] == "assistant" and any(
        message.get(name) for name in ("tool_calls", "function_call", "refusal", "audio")
    )
    if content is None and not silent:
        yield f"Invalid value for 'content': expected a string, got null. ({at})"
    elif isinstance(content, list):
        for index, part in enumerate(content):
            yield from _part(part, message["role"], f"{at}.content[{index}]")
    elif content is not None and not isinstance(content, str):
        yield f"Invalid type for '{at}.content': expected one of a string or array of objects."


def _part(part: Any, role: str, at: str) -> Iterator[str]:
    kind = rules.tag_of(part)
    if kind not in _PARTS[role]:
        yield f"Invalid value: '{kind}'. Supported values for {at}.type are {sorted(_PARTS[role])}."
    elif not isinstance(part.get(kind), _PART_VALUES[kind]):
        yield f"Missing required parameter: '{at}.{kind}'."


def _calls(body: Mapping[str, Any]) -> Iterator[str]:
    for number, message in enumerate(body["messages"]):
        calls = message.get("tool_calls")
        if calls is None:
            continue
        at = f"messages[{number}].tool_calls"
        if message["role"] != "assistant" or not isinstance(calls, list) or not calls:
            yield f"Invalid '{at}': expected an array with minimum length 1 in an assistant message."
            continue
        for index, call in enumerate(calls):
            yield from _call(call, f"{at}[{index}]")


def _call(call: Any, at: str) -> Iterator[str]:
    if not isinstance(call, dict) or not isinstance(call.get("id"), str):
        yield f"Missing required parameter: '{at}.id'."
    elif rules.tag_of(call) not in {"function", "custom"}:
        yield f"Missing required parameter: '{at}.type'."
    elif call["type"] == "function":
        yield from _called(call.get("function"), f"{at}.function")


def _called(function: Any, at: str) -> Iterator[str]:
    for name in ("name", "arguments"):
        if not isinstance(function, dict) or not isinstance(function.get(name), str):
            yield f"Missing required parameter: '{at}.{name}'."
    if not _NAME.fullmatch(function["name"]):
        yield f"Invalid '{at}.name': string does not match pattern. Expected '^{_NAME.pattern}$'."


def _answers(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield faults of tool calls without a result, and of results without a call.

    After a message with tool calls, one tool message for each call must come before any other message.
    """
    waiting: list[str] = []
    for number, message in enumerate(body["messages"]):
        if message["role"] == "tool":
            if message.get("tool_call_id") not in waiting:
                yield (
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with"
                    f" 'tool_calls'. (messages[{number}])"
                )
            waiting.remove(message["tool_call_id"])
            continue
        yield from _missing(waiting)
        waiting = [call["id"] for call in message.get("tool_calls") or ()]
    yield from _missing(waiting)


def _missing(waiting: list[str]) -> Iterator[str]:
    if waiting:
        yield (
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each"
            f" 'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(waiting)}"
        )


def _tools(body: Mapping[str, Any]) -> Iterator[str]:
    tools = body.get("tools")
    if tools == []:
        yield f"Invalid 'tools': {_EMPTY}"
    for index, tool in enumerate(tools or ()):
        at = f"tools[{index}]"
        if rules.tag_of(tool) not in {"function", "custom"}:
            yield f"Invalid value for '{at}.type'. Supported values are: 'function' and 'custom'."
        elif tool["type"] == "function":
            yield from _function(tool.get("function"), f"{at}.function")


def _function(function: Any, at: str) -> Iterator[str]:
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        yield f"Missing required parameter: '{at}.name'."
        return
    if not _NAME.fullmatch(function["name"]):
        yield f"Invalid '{at}.name': string does not match pattern. Expected '^{_NAME.pattern}$'."
    schema = function.get("parameters")
    if schema is not None and (not isinstance(schema, dict) or schema.get("type", "object") != "object"):
        yield f"Invalid schema for function '{function['name']}': schema must be a JSON Schema of 'type: \"object\"'."


def _tool_choice(body: Mapping[str, Any]) -> Iterator[str]:
    choice = body.get("tool_choice")
    if choice is None:
        return
    if not body.get("tools"):
        yield "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified."
    if isinstance(choice, str) and choice not in _CHOICES:
        yield f"Invalid value: '{choice}'. Supported values for tool_choice are {sorted(_CHOICES)}."
    if isinstance(choice, dict) and rules.tag_of(choice) == "function":
        wanted = rules.member(choice.get("function"), "name")
        if wanted not in [rules.member(tool.get("function"), "name") for tool in body["tools"]]:
            yield f"Tool choice '{wanted}' not found in 'tools' parameter."


_RULES: Final[tuple[ChatRule, ...]] = (_types, _together, _messages, _calls, _answers, _tools, _tool_choice)
"""All rules, in order. A rule may rely on what the rules before it have checked."""
