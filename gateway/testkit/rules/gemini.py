"""Rules for bodies of Gemini's generateContent. The wording of a fault is Google's if a source shows it.

- Unknown fields and wrong types are refused, as by ProtoJSON. A field name may be in snake_case.
- A tool call without a result, and a part without data, are refused. Gemini 3 also requires
  the thought signatures of tool calls.

Sources: the Gemini API's reference; google-gemini/gemini-cli#16543 for turns with tool calls; "Thought signatures" in
the Gemini API's guide.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from gateway.testkit.rules.common import first
from gateway.testkit.rules.gemini_members import ANY, BYTES, INTEGER, NUMBER, TEXT, TRUTH, TYPES

Body = Mapping[str, Any]

_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}")
_SNAKE: Final = re.compile(r"_([a-z])")
_ROLES: Final = ("user", "model", "function")
_MODES: Final = frozenset({"MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"})
_KINDS: Final = frozenset({"STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL", "TYPE_UNSPECIFIED"})
_LEVELS: Final = frozenset({"THINKING_LEVEL_UNSPECIFIED", "MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH"})
_DATA: Final = (
    "text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode", "codeExecutionResult",
    "toolCall", "toolResponse",
)  # fmt: skip
_SIGNS_CALLS: Final = re.compile(r"gemini-[3-9]")
"""Pattern for the models that require signatures of tool calls (`_signatures`)."""
_COUNTS: Final = (
    "Please ensure that the number of function response parts is equal to the number of function call parts of the "
    "function call turn."
)
_ORDER: Final = (
    "Please ensure that function call turn comes immediately after a user turn or after a function response turn."
)
_INVALID: Final = "Invalid JSON payload received."


def gemini_fault(body: Any, model: str = "") -> str | None:
    """Return the first fault of a body of generateContent, or None."""
    if not isinstance(body, dict):
        return f"{_INVALID} Expected an object."
    if fault := first(_members("GenerateContentRequest", body, "")):
        return fault
    return first(fault for rule in _RULES for fault in rule(_camel(body), model))


def _members(kind: str, value: Any, at: str) -> Iterator[str]:
    if kind not in TYPES:
        yield from _scalar(kind, value, at)
        return
    if not isinstance(value, dict):
        yield f"Invalid value at '{at}' ({kind})"
        return
    for name, inner in value.items():
        if (expected := TYPES[kind].get(_in_camel(name))) is None:
            place = f" at '{at}'" if at else ""
            yield f'{_INVALID} Unknown name "{name}"{place}: Cannot find field.'
        elif inner is not None:
            yield from _value(expected, inner, f"{at}.{name}" if at else name)


def _value(expected: Any, value: Any, at: str) -> Iterator[str]:
    match expected:
        case [kind]:
            if not isinstance(value, list):
                yield f"Invalid value at '{at}': expected a list"
                return
            for number, entry in enumerate(value):
                yield from _members(kind, entry, f"{at}[{number}]")
        case {"": kind}:
            if not isinstance(value, dict):
                yield f"Invalid value at '{at}': expected an object"
                return
            for name, entry in value.items():
                yield from _members(kind, entry, f"{at}[{name}]")
        case _:
            yield from _members(expected, value, at)


def _scalar(kind: str, value: Any, at: str) -> Iterator[str]:
    if not _SCALARS[kind](value):
        yield f"Invalid value at '{at}' ({kind}), {value!r:.100}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_bytes(value: Any) -> bool:
    """Return whether a value is base64, standard or URL-safe, as ProtoJSON accepts it."""
    if not isinstance(value, str):
        return False
    try:
        base64.b64decode(value.replace("-", "+").replace("_", "/") + "=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        return False
    return True


_SCALARS: Final[Mapping[str, Callable[[Any], bool]]] = {
    TEXT: lambda value: isinstance(value, str),
    NUMBER: _is_number,
    INTEGER: lambda value: _is_number(value) and value == int(value),
    TRUTH: lambda value: isinstance(value, bool),
    BYTES: _is_bytes,
    ANY: lambda _: True,
    "Struct": lambda value: isinstance(value, dict),
}


def _in_camel(name: str) -> str:
    return _SNAKE.sub(lambda match: match[1].upper(), name) if not name.startswith("_") else name


def _camel(body: Body) -> Body:
    """Return the body with the names of its fields in camelCase, at every depth.

    Tool arguments, tool results and the `properties` of schemas stay unchanged.
    """
    return {_in_camel(name): _camel_value(value) for name, value in body.items()}


def _camel_value(value: Any) -> Any:
    if isinstance(value, list):
        return [_camel_value(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    kept = ("args", "response", "properties", "parametersJsonSchema", "responseJsonSchema")
    named = {_in_camel(name): inner for name, inner in value.items()}
    return {name: inner if name in kept else _camel_value(inner) for name, inner in named.items()}


def _turns(body: Body, _model: str) -> Iterator[str]:
    contents = body.get("contents")
    if not contents:
        yield "* GenerateContentRequest.contents: contents is not specified"
        return
    for number, content in enumerate([*contents, *([system] if (system := body.get("systemInstruction")) else [])]):
        if content.get("role", "user") not in (*_ROLES, "system"):
            yield "Please use a valid role: user, model."
        if not content.get("parts"):
            yield f"* GenerateContentRequest.contents[{number}].parts: contents.parts must not be empty."
        for part in content.get("parts") or ():
            if sum(name in part for name in _DATA) != 1:
                yield (
                    f"* GenerateContentRequest.contents[{number}].parts: required oneof field 'data' must have one "
                    "initialized field"
                )
            yield from _part(part)


def _part(part: Body) -> Iterator[str]:
    for name in ("functionCall", "functionResponse"):
        if name in part and not _NAME.fullmatch(str(part[name].get("name") or "")):
            yield f"* GenerateContentRequest.contents: {name}.name: Invalid function name."
    if "functionResponse" in part and not isinstance(part["functionResponse"].get("response"), dict):
        yield "* GenerateContentRequest.contents: function_response.response: required field is not specified"
    if "inlineData" in part and not (part["inlineData"].get("mimeType") and part["inlineData"].get("data")):
        yield "* GenerateContentRequest.contents: inline_data: required field 'mime_type' or 'data' is not specified"


def _calls(body: Body, model: str) -> Iterator[str]:
    contents: Sequence[Body] = body["contents"]
    if _number(contents[0], "functionCall"):
        yield _ORDER
    if _number(contents[0], "functionResponse"):
        yield _COUNTS
    for content, following in pairwise(contents):
        calls, results = _number(content, "functionCall"), _number(following, "functionResponse")
        if calls != results and (calls or results):
            yield _COUNTS
        if _number(following, "functionCall") and content.get("role") == "model":
            yield _ORDER
    if _SIGNS_CALLS.match(model):
        yield from _signatures(contents)


def _signatures(contents: Sequence[Body]) -> Iterator[str]:
    """Yield a fault for each message whose first tool call has no signature. Messages before the user's last prompt are
    not checked.
    """
    asked = [at for at, content in enumerate(contents) if _is_prompt(content)]
    for number, content in enumerate(contents[asked[-1] if asked else 0 :]):
        calls = [part for part in content.get("parts") or () if "functionCall" in part]
        if calls and not calls[0].get("thoughtSignature"):
            yield (
                f"Function call is missing a thought_signature in functionCall parts. Function call "
                f"`{calls[0]['functionCall'].get('name')}`, position {number}."
            )


def _is_prompt(content: Body) -> bool:
    return content.get("role", "user") == "user" and not _number(content, "functionResponse")


def _number(content: Body, name: str) -> int:
    return sum(name in part for part in content.get("parts") or ())


def _tools(body: Body, _model: str) -> Iterator[str]:
    names: list[str] = []
    for tool in body.get("tools") or ():
        for function in tool.get("functionDeclarations") or ():
            names.append(str(function.get("name") or ""))
            if not _NAME.fullmatch(names[-1]):
                yield f"* GenerateContentRequest.tools: function_declarations.name: Invalid function name: {names[-1]}"
            if "parameters" in function and "parametersJsonSchema" in function:
                yield "* GenerateContentRequest.tools: only one of parameters and parameters_json_schema may be set"
            yield from _schema(function.get("parameters"), "parameters")
    if len(set(names)) < len(names):
        yield "Duplicate function declaration found."
    config = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    if str(config.get("mode", "AUTO")).upper() not in _MODES:
        yield "Invalid value at 'tool_config.function_calling_config.mode'"
    if config.get("allowedFunctionNames"):
        if config.get("mode") not in {"ANY", "VALIDATED"}:
            yield "allowed_function_names should only be set when the function calling mode is ANY or VALIDATED."
        if not set(config["allowedFunctionNames"]) <= set(names):
            yield "allowed_function_names should be a subset of the declared functions."


def _schema(schema: Any, at: str) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    if schema.get("type") is not None and str(schema["type"]).upper() not in _KINDS:
        yield f"Invalid value at '{at}.type'"
    if str(schema.get("type")).upper() == "ARRAY" and "items" not in schema:
        yield f"* GenerateContentRequest.tools: {at}.items: missing field."
    for name, inner in (schema.get("properties") or {}).items():
        yield from _schema(inner, f"{at}.properties[{name}]")
    yield from _schema(schema.get("items"), f"{at}.items")


def _settings(body: Body, _model: str) -> Iterator[str]:
    config = body.get("generationConfig") or {}
    thinking = config.get("thinkingConfig") or {}
    if "thinkingBudget" in thinking and "thinkingLevel" in thinking:
        yield "You can only set only one of thinking budget and thinking level."
    if str(thinking.get("thinkingLevel", "LOW")).upper() not in _LEVELS:
        yield "Invalid value at 'generation_config.thinking_config.thinking_level'"
    for name, least, most in (("temperature", 0, 2), ("topP", 0, 1), ("candidateCount", 1, 8), ("topK", 1, 10**6)):
        if config.get(name) is not None and not least <= config[name] <= most:
            yield f"* GenerateContentRequest.generation_config.{name}: must be in the range [{least}, {most}]."
    if config.get("maxOutputTokens") is not None and config["maxOutputTokens"] < 1:
        yield "* GenerateContentRequest.generation_config.max_output_tokens: max_output_tokens must be positive."
    if len(config.get("stopSequences") or ()) > _MAX_STOPS:
        yield f"The number of stop sequences must be at most {_MAX_STOPS}."
    schema = "responseSchema" in config or "responseJsonSchema" in config
    if schema and config.get("responseMimeType") not in {"application/json", "text/x.enum"}:
        yield "Unable to submit request because it has a response schema and a response_mime_type that is no JSON."


_MAX_STOPS: Final = 5
_RULES: Final = (_turns, _calls, _tools, _settings)
