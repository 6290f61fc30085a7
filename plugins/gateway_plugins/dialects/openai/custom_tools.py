"""Custom tools, whose input is free text. Other APIs have only functions, so a custom tool becomes a function.

The function has one property with the whole input. Chat and Responses share this. Sources: OpenAI's API reference
(Function calling, custom tools) and the openai SDK's types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.contract import lenient_json
from gateway.contract.flag import Drop
from gateway_plugins.shared.checks import object_of, text_of

CUSTOM: Final = "custom"
SCHEMA: Final = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The whole input of the tool, as plain text."}},
    "required": ["input"],
    "additionalProperties": False,
}
"""The schema of the function in place of a custom tool."""
_GRAMMAR: Final = "The input must follow this {} grammar:\n{}"


def described(description: str, form: Mapping[str, Any], at: str, drop: Drop) -> str:
    """Return the description of a custom tool, with the grammar of its input appended.

    The provider does not enforce the grammar, so `form`, the client's field `format` at the JSON pointer `at`, is
    reported as dropped. Chat has the grammar in a field of its own.
    """
    if form.get("type") in (None, "text"):
        return description
    drop(at)
    inner = f"{at}/grammar" if "grammar" in form else at
    grammar = object_of(form["grammar"], inner) if "grammar" in form else form
    definition = text_of(grammar.get("definition"), f"{inner}/definition")
    syntax = text_of(grammar.get("syntax"), f"{inner}/syntax")
    return f"{description}\n\n{_GRAMMAR.format(syntax, definition)}".strip()


def input_of(arguments: str) -> str:
    """Return the input of a call of a custom tool from the function's arguments, which are JSON text.

    Arguments that do not have the input as text are the input themselves.
    """
    try:
        given = lenient_json.loads(arguments)
    except orjson.JSONDecodeError:
        return arguments
    value = given.get("input") if isinstance(given, dict) else None
    return value if isinstance(value, str) else arguments
