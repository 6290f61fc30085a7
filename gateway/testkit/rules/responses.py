"""Rules for bodies of OpenAI's Responses API.

Faults are unknown fields and items, tool calls without an output, and encrypted reasoning of another service. Unlike
Chat Completions, the real Responses API refuses unknown fields with 400. The wording of a fault is OpenAI's if a source
shows it. No rule depends on the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from gateway.testkit.rules import common as rules

ResponsesRule = Callable[[Mapping[str, Any]], Iterator[str]]

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NUMBER: Final = (int, float)
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "model": (str,),
    "input": (str, list),
    "instructions": (str,),
    "stream": (bool,),
    "stream_options": (dict,),
    "store": (bool,),
    "access_programs": (dict,),
    "background": (bool,),
    "background_options": (dict,),
    "conversation": (str, dict),
    "previous_response_id": (str,),
    "prompt": (dict,),
    "image": (dict,),
    "include": (list,),
    "metadata": (dict,),
    "client_metadata": (dict,),
    "context_management": (list,),
    "max_output_tokens": (int,),
    "max_tool_calls": (int,),
    "moderation": (dict,),
    "parallel_tool_calls": (bool,),
    "prompt_cache_key": (str,),
    "prompt_cache_options": (dict,),
    "prompt_cache_retention": (str,),
    "reasoning": (dict,),
    "safety_identifier": (str,),
    "service_tier": (str,),
    "temperature": _NUMBER,
    "text": (dict,),
    "tool_choice": (str, dict),
    "tools": (list,),
    "top_logprobs": (int,),
    "top_p": _NUMBER,
    "truncation": (str,),
    "user": (str,),
}
"""All known fields of a body, with their types (openai 3.54, ResponseCreateParams; `client_metadata` is Codex's)."""
_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "max_output_tokens": (16, float("inf")),
    "top_logprobs": (0, 20),
}
_ITEMS: Final[Mapping[str, tuple[frozenset[str], frozenset[str]]]] = {
    # type of an item: its required members, its optional members
    "message": (frozenset({"role", "content"}), frozenset({"phase"})),
    "function_call": (frozenset({"call_id", "name", "arguments"}), frozenset({"namespace"})),
    "function_call_output": (frozenset({"call_id", "output"}), frozenset()),
    "custom_tool_call": (frozenset({"call_id", "name", "input"}), frozenset({"namespace"})),
    "custom_tool_call_output": (frozenset({"call_id", "output"}), frozenset()),
    "local_shell_call": (frozenset({"call_id", "action"}), frozenset()),
    "local_shell_call_output": (frozenset({"output"}), frozenset({"call_id"})),
    "reasoning": (frozenset({"summary"}), frozenset({"content", "encrypted_content"})),
    "item_reference": (frozenset({"id"}), frozenset()),
}
_COMMON: Final = frozenset({"type", "id", "status"})
_PREFIXES: Final[Mapping[str, str]] = {
    "message": "msg",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "reasoning": "rs",
}
_PARTS: Final[Mapping[str, frozenset[str]]] = {
    "system": frozenset({"input_text"}),
    "developer": frozenset({"input_text"}),
    "user": frozenset({"input_text", "input_image", "input_file"}),
    "assistant": frozenset({"output_text", "refusal"}),
}
_CALLS: Final = frozenset({"function_call", "custom_tool_call", "local_shell_call"})
_OUTPUTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})
_TOOLS: Final[Mapping[str, frozenset[str]]] = {
    "function": frozenset({"name", "description", "parameters", "strict", "defer_loading"}),
    "custom": frozenset({"name", "description", "format", "defer_loading"}),
    "namespace": frozenset({"name", "description", "tools"}),
    "web_search": frozenset({"filters", "search_context_size", "user_location", "external_web_access"}),
    "local_shell": frozenset(),
}
_CHOICES: Final = frozenset({"none", "auto", "required"})
_FORMATS: Final = frozenset({"text", "json_object", "json_schema"})

ENCRYPTED: Final = "gAAAAA-sim-"
"""The prefix of simulated encrypted reasoning. A request whose encrypted reasoning lacks this prefix is refused."""


def responses_fault(body: Any) -> str | None:
    """Return the first fault of the body of a request to POST /v1/responses, or None if the body is valid."""
    if not isinstance(body, dict):
        return "Invalid body: expected an object."
    return rules.first(fault for rule in _RULES for fault in rule(body))


def _members(body: Mapping[str, Any]) -> Iterator[str]:
    for name in body:
        if name not in _TYPES:
            yield f"Unknown parameter: '{name}'."
    for name in ("model", "input"):
        if body.get(name) is None:
            yield f"Missing required parameter: '{name}'."
    for name, value in body.items():
        types = _TYPES[name]
        if value is not None and not (isinstance(value, types) and (bool in types or not isinstance(value, bool))):
            yield f"Invalid type for '{name}': expected {' or '.join(kind.__name__ for kind in types)}."
    for name, (least, most) in _RANGES.items():
        if body.get(name) is not None and not least <= body[name] <= most:
            yield f"Invalid '{name}': expected a value between {least} and {most}, but got {body[name]} instead."


def _items(body: Mapping[str, Any]) -> Iterator[str]:
    given = body["input"]
    for number, item in enumerate(given if isinstance(given, list) else ()):
        at = f"input[{number}]"
        if not isinstance(item, dict):
            yield f"Invalid type for '{at}': expected an object."
            continue
        kind = str(item.get("type", "message"))
        if kind not in _ITEMS:
            yield f"Invalid value: '{kind}'. Supported values are: {sorted(_ITEMS)}. ({at})"
            continue
        required, allowed = _ITEMS[kind]
        yield from (f"Missing required parameter: '{at}.{name}'." for name in sorted(required - item.keys()))
        yield from (f"Unknown parameter: '{at}.{name}'." for name in item.keys() - required - allowed - _COMMON)
        yield from _item(item, kind, at)


def _item(item: Mapping[str, Any], kind: str, at: str) -> Iterator[str]:
    prefix, made = _PREFIXES.get(kind, ""), item.get("id")
    if made is not None and not str(made).startswith(prefix):
        yield f"Invalid '{at}.id': '{made}'. Expected an ID that begins with '{prefix}'."
    for name in ("call_id", "name", "arguments", "input"):
        if name in item and not isinstance(item[name], str):
            yield f"Invalid type for '{at}.{name}': expected a string."
    if kind == "message":
        yield from _message(item, at)
    encrypted = item.get("encrypted_content")
    if encrypted is not None and not str(encrypted).startswith(ENCRYPTED):
        yield f"The encrypted content for item {item.get('id')} could not be verified."
    if kind in _OUTPUTS and not isinstance(item["output"], (str, list)):
        yield f"Invalid type for '{at}.output': expected one of a string or array of objects."


def _message(item: Mapping[str, Any], at: str) -> Iterator[str]:
    role, content = str(item.get("role")), item.get("content")
    if role not in _PARTS:
        yield f"Invalid value: '{role}'. Supported values are: {sorted(_PARTS)}. ({at}.role)"
    elif isinstance(content, list):
        for index, part in enumerate(content):
            if rules.tag_of(part) not in _PARTS[role]:
                yield (
                    f"Invalid value: '{rules.tag_of(part)}'. Supported values are: {sorted(_PARTS[role])}."
                    f" ({at}.content[{index}])"
                )
    elif not isinstance(content, str):
        yield f"Invalid type for '{at}.content': expected one of a string or array of objects."


def _answers(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield faults of items that require another item, if the other item is missing.

    A tool output requires an earlier tool call, and a tool call requires an output. Reasoning must be followed directly
    by a tool call, a message or more reasoning.
    """
    items = body["input"] if isinstance(body["input"], list) else []
    called: dict[str, None] = {}
    answered = set()
    for number, item in enumerate(items):
        kind = item.get("type", "message")
        if kind in _CALLS:
            called[item["call_id"]] = None
        elif kind in _OUTPUTS and item["call_id"] not in called:
            yield f"No tool call found for function call output with call_id {item['call_id']}."
        elif kind in _OUTPUTS:
            answered.add(item["call_id"])
        following = items[number + 1].get("type", "message") if number + 1 < len(items) else ""
        if kind == "reasoning" and following not in {*_CALLS, "message", "reasoning"}:
            yield f"Item '{item.get('id')}' of type 'reasoning' was provided without its required following item."
    yield from (f"No tool output found for function call {made}." for made in called if made not in answered)


def _tools(body: Mapping[str, Any]) -> Iterator[str]:
    for index, tool in enumerate(body.get("tools") or ()):
        yield from _tool(tool, f"tools[{index}]")


def _tool(tool: Any, at: str) -> Iterator[str]:
    kind = rules.tag_of(tool)
    if kind not in _TOOLS:
        yield f"Invalid value: '{kind}'. Supported values are: {sorted(_TOOLS)}. ({at}.type)"
        return
    yield from (f"Unknown parameter: '{at}.{name}'." for name in tool.keys() - _TOOLS[kind] - {"type"})
    if "name" in _TOOLS[kind] and not isinstance(tool.get("name"), str):
        yield f"Missing required parameter: '{at}.name'."
    elif "name" in _TOOLS[kind] and not _NAME.fullmatch(tool["name"]):
        yield f"Invalid '{at}.name': string does not match pattern. Expected '^{_NAME.pattern}$'."
    schema = tool.get("parameters")
    if schema is not None and (not isinstance(schema, dict) or schema.get("type", "object") != "object"):
        yield f"Invalid schema for function '{tool['name']}': schema must be a JSON Schema of 'type: \"object\"'."
    for number, inner in enumerate(tool.get("tools") or ()):
        yield from _tool(inner, f"{at}.tools[{number}]")


def _choices(body: Mapping[str, Any]) -> Iterator[str]:
    choice = body.get("tool_choice")
    if isinstance(choice, str) and choice not in _CHOICES:
        yield f"Invalid value: '{choice}'. Supported values for tool_choice are {sorted(_CHOICES)}."
    if rules.tag_of(choice) in {"function", "custom"}:
        wanted = rules.member(choice, "name")
        if wanted not in [rules.member(tool, "name") for tool in body.get("tools") or ()]:
            yield f"Tool choice '{wanted}' not found in 'tools' parameter."
    form = rules.member(body.get("text"), "format") or {"type": "text"}
    if rules.tag_of(form) not in _FORMATS:
        yield f"Invalid value: '{rules.tag_of(form)}'. Supported values for text.format.type are {sorted(_FORMATS)}."
    elif form["type"] == "json_schema" and not (isinstance(form.get("name"), str) and "schema" in form):
        yield "Missing required parameter: 'text.format.name' or 'text.format.schema'."


_RULES: Final[tuple[ResponsesRule, ...]] = (_members, _items, _answers, _tools, _choices)
"""All rules, in order. A rule may rely on what the rules before it have checked."""
