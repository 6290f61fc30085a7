"""JSON schemas that the provider enforces: the schema of an answer, and the input schema of a strict tool.

Anthropic and Bedrock enforce only some keywords of JSON Schema, and answer 400 to a schema with any other keyword.
`restrict_schema` changes a schema so that they accept it. It forbids additional properties in every object. Each
refused keyword is removed, reported as dropped, and added to the description, so that the model still reads it. OpenAI
enforces other keywords (`is_strict_schema` in `dialects/openai_chat/options.py`). Sources: Anthropic's API reference
(Structured outputs, JSON schema limitations) and the schema transform of its SDK; litellm's list for Converse.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

from gateway.contract.flag import Drop
from gateway_plugins.shared.fields import escape_step

Schema = dict[str, Any]

_REFUSED: Final = frozenset({
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
    "maxItems", "uniqueItems", "minProperties", "maxProperties",
})  # fmt: skip
_NAMED: Final = frozenset({"properties", "$defs", "definitions"})
_LISTS: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_LOOKAROUND: Final = ("(?=", "(?!", "(?<=", "(?<!")


def restrict_schema(schema: Any, drop: Drop, at: str) -> Any:
    """Return the schema in a form that Anthropic and Bedrock accept. Removed keywords are reported as dropped.

    `at` is the JSON pointer of the schema in the client's request.
    """
    if not isinstance(schema, dict):
        return schema
    made: Schema = {}
    removed = []
    for name, value in schema.items():
        path = f"{at}/{escape_step(name)}"
        if name in _NAMED and isinstance(value, dict):
            made[name] = {
                key: restrict_schema(inner, drop, f"{path}/{escape_step(key)}") for key, inner in value.items()
            }
        elif name in _LISTS and isinstance(value, list):
            # oneOf is refused; if its choices exclude each other, anyOf means the same
            inner = [restrict_schema(each, drop, f"{path}/{index}") for index, each in enumerate(value)]
            made["anyOf" if name == "oneOf" else name] = inner
        elif name == "items":
            made[name] = restrict_schema(value, drop, path)
        elif _is_refused(name, value):
            removed.append(f"{name}: {value}")
            drop(path)
        elif name != "$schema":
            made[name] = value
    if "object" in _types(made) or "properties" in made:
        made["additionalProperties"] = False  # Anthropic and Bedrock require it of every object (future-agi#412)
    if removed:
        own = made.get("description")
        made["description"] = " ".join([*([own] if isinstance(own, str) else []), f"({', '.join(removed)})"])
    return made


def is_recursive(schema: Any) -> bool:
    """Return whether the schema, or a definition in it, refers to itself.

    Anthropic and Bedrock do not enforce recursive schemas.
    """
    defined: dict[str, set[str]] = {"#": _references(schema)}
    for section in ("$defs", "definitions"):
        named = schema.get(section) if isinstance(schema, dict) else None
        for name, inner in named.items() if isinstance(named, dict) else ():
            defined[f"#/{section}/{escape_step(name)}"] = _references(inner)
    try:
        TopologicalSorter(defined).prepare()
    except CycleError:
        return True
    return False


def _references(value: Any) -> set[str]:
    """Return the values of all `$ref` in a schema, except those in its `$defs` and `definitions`."""
    if isinstance(value, list):
        return {reference for each in value for reference in _references(each)}
    if not isinstance(value, dict):
        return set()
    own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
    inner = [each for name, each in value.items() if name not in ("$defs", "definitions")]
    return own | _references(inner)


def _is_refused(name: str, value: Any) -> bool:
    if name == "minItems":
        return value not in (0, 1)
    if name == "additionalProperties":  # `restrict_schema` forbids additional properties, so no schema is needed
        return isinstance(value, dict)
    return name in _REFUSED or (name == "pattern" and any(mark in str(value) for mark in _LOOKAROUND))


def _types(schema: Schema) -> list[Any]:
    kind = schema.get("type")
    return kind if isinstance(kind, list) else [kind]
