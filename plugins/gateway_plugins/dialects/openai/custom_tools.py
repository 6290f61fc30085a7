"""Converts OpenAI's custom tools, whose input is free text, to functions. Other APIs have only functions.

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

    `form` is the client's field `format`, and `at` is its JSON pointer. In Chat, the grammar is in the field `grammar`
    of `form`. In Responses, `form` itself is the grammar. A grammar is reported as dropped, because the provider does
    not enforce it.
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
    """Return the input for a custom tool. `arguments` is what the model wrote for the function that replaces the tool.

    Normally `arguments` is a JSON object with the text in the field `input`. If there is no such text, all of
    `arguments` is the input.
    """
    try:
        given = lenient_json.loads(arguments)
    except orjson.JSONDecodeError:
        return arguments
    value = given.get("input") if isinstance(given, dict) else None
    return value if isinstance(value, str) else arguments
