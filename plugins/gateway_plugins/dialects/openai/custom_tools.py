"""Converts OpenAI's custom tools, whose input is free text, to functions, because other APIs have only functions.

The function has one property, for the whole input. Both Chat and Responses have custom tools. Sources: OpenAI's API
reference (Function calling, custom tools) and the openai SDK's types.
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
"""Input schema of each function that replaces a custom tool."""
_GRAMMAR: Final = "The input must follow this {} grammar:\n{}"


def described(description: str, form: Mapping[str, Any], at: str, drop: Drop) -> str:
    """Return the description of a custom tool, with the grammar of its input appended.

    `form` is the tool's field `format` with the grammar, and `at` is its JSON pointer. The grammar is also reported as
    dropped, because the provider does not enforce it.
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
    """Return the input of a custom tool. `arguments` is the JSON that the model wrote for the tool's function.

    The input is the field `input`. If `arguments` has no such field, all of `arguments` is the input.
    """
    try:
        given = lenient_json.loads(arguments)
    except orjson.JSONDecodeError:
        return arguments
    value = given.get("input") if isinstance(given, dict) else None
    return value if isinstance(value, str) else arguments
