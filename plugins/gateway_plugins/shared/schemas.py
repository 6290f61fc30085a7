"""Adapts JSON schemas that the provider enforces: the schema of an answer, and the input schema of a strict tool.

Anthropic and Bedrock enforce only some keywords of JSON Schema, and answer 400 to a schema with any other keyword.
`restrict_schema` changes a schema so that they accept it:

- Additional properties are forbidden in every object.
- The parts of `allOf` are merged (`all_of.py`), and `oneOf` is replaced by `anyOf`.
- Each refused keyword is removed, reported as dropped, and added to the description, so that the model still reads it.

OpenAI enforces other keywords (`is_strict_schema` in `dialects/openai_chat/options.py`). Sources: Anthropic's API
reference (Structured outputs, JSON schema limitations) and the schema transform of its SDK; litellm's list for
Converse.
"""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

from gateway.contract.flag import Drop
from gateway_plugins.shared.all_of import merge_all_of
from gateway_plugins.shared.fields import escape_step
from gateway_plugins.shared.references import Steps, pointer_steps

Schema = dict[str, Any]

_REFUSED: Final = frozenset({
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
    "maxItems", "uniqueItems", "contains", "minContains", "maxContains", "prefixItems", "additionalItems",
    "unevaluatedItems", "minProperties", "maxProperties", "patternProperties", "propertyNames", "dependentRequired",
    "dependentSchemas", "dependencies", "unevaluatedProperties", "not", "if", "then", "else",
})  # fmt: skip
_FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)
"""String formats that Anthropic and Bedrock enforce. Other formats are refused."""
_NAMED: Final = frozenset({"properties", "$defs", "definitions"})
_DEFINITIONS: Final = frozenset({"$defs", "definitions"})
_LISTS: Final = frozenset({"anyOf", "oneOf", "allOf"})
_LOOKAROUND: Final = ("(?=", "(?!", "(?<=", "(?<!")


def restrict_schema(schema: Any, drop: Drop, at: str) -> Any:
    """Return the schema in a form that Anthropic and Bedrock accept. Removed keywords are reported as dropped.

    `at` is the JSON pointer of the schema in the client's request.
    """
    return merge_all_of(_restricted(schema, drop, at), at, drop)


def _restricted(schema: Any, drop: Drop, at: str, *, is_part: bool = False) -> Any:
    """Return a schema without refused keywords, whose objects have no additional properties.

    An object schema without properties then allows only {}, so it is reported as dropped. It is not reported if it is a
    part of an `allOf` (`is_part`), because another part may name properties.
    """
    if not isinstance(schema, dict):
        return schema
    made: Schema = {}
    removed = []
    for name, value in schema.items():
        path = f"{at}/{escape_step(name)}"
        if _is_refused(name, value):
            removed.append(f"{name}: {value}")
            drop(path)
        elif name != "$schema" and not (name == "items" and value is True):
            made[name] = _keyword(name, value, drop, path)
    _choices(made)
    if "object" in _types(made) or "properties" in made:
        if not is_part and _allows_any_object(schema):
            drop(at)  # only an empty object is allowed now
        made["additionalProperties"] = False  # Anthropic and Bedrock require it of every object (future-agi#412)
    if removed:
        own = made.get("description")
        made["description"] = " ".join([*([own] if isinstance(own, str) else []), f"({', '.join(removed)})"])
    return made


def _keyword(name: str, value: Any, drop: Drop, at: str) -> Any:
    """Return the value of a keyword. If the value contains schemas, they are restricted (`restrict_schema`)."""
    if name in _NAMED and isinstance(value, dict):
        return {key: _restricted(inner, drop, f"{at}/{escape_step(key)}") for key, inner in value.items()}
    if name in _LISTS and isinstance(value, list):
        is_part = name == "allOf"
        return [_restricted(each, drop, f"{at}/{index}", is_part=is_part) for index, each in enumerate(value)]
    return _restricted(value, drop, at) if name == "items" else value


def _allows_any_object(schema: Schema) -> bool:
    """Return whether a schema says nothing about the properties of an object."""
    return not schema.keys() & {"properties", "additionalProperties", "$ref", *_LISTS}


def _choices(made: Schema) -> None:
    """Replace `oneOf` by `anyOf`, because Anthropic and Bedrock refuse `oneOf`.

    Both mean the same if no value matches two of the alternatives.
    """
    choices = made.pop("oneOf", None)
    if choices is None:
        return
    if "anyOf" not in made:
        made["anyOf"] = choices
    else:
        parts = made.get("allOf")
        made["allOf"] = [*(parts if isinstance(parts, list) else []), {"anyOf": choices}]


def is_recursive(schema: Any) -> bool:
    """Return whether the schema, or a part of it, refers to itself.

    Anthropic and Bedrock do not enforce recursive schemas.
    """
    references: dict[Steps, set[Steps]] = {(): set()}
    for target in _targets(schema):
        references[target] = set()
    _add_references(schema, (), [], references)
    try:
        TopologicalSorter(references).prepare()
    except CycleError:
        return True
    return False


def _targets(value: Any) -> Iterator[Steps]:
    """Yield the target of each reference (`$ref`) in a schema, as the steps of a JSON pointer."""
    match value:
        case list():
            for each in value:
                yield from _targets(each)
        case dict():
            if (target := pointer_steps(value.get("$ref"))) is not None:
                yield target
            for each in value.values():
                yield from _targets(each)


def _add_references(value: Any, at: Steps, inside: list[Steps], references: dict[Steps, set[Steps]]) -> None:
    """Record the references inside `value`, which is the part of a schema at the path `at`.

    - `references` maps the path of a schema to the targets of all references inside this schema. For example, `{():
      {("$defs", "a")}}` means that the whole schema contains a reference to `#/$defs/a`. The caller sets the keys.
    - `inside` has those keys of `references` whose schemas contain `value`.
    - A reference inside `$defs` or `definitions` is not recorded for the schemas around these keywords.
    """
    if at in references:
        inside = [*inside, at]
    match value:
        case list():
            for number, each in enumerate(value):
                _add_references(each, (*at, str(number)), inside, references)
        case dict():
            if (target := pointer_steps(value.get("$ref"))) is not None:
                for holder in inside:
                    references[holder].add(target)
            for name, each in value.items():
                _add_references(each, (*at, name), [] if name in _DEFINITIONS else inside, references)


def _is_refused(name: str, value: Any) -> bool:
    match name:
        case "minItems":
            return value not in (0, 1)
        case "additionalProperties":  # `restrict_schema` forbids additional properties, so no schema is needed
            return value is not False
        case "items":
            return not isinstance(value, dict) and value is not True
        case "format":
            return not isinstance(value, str) or value not in _FORMATS
        case "pattern":
            return any(mark in str(value) for mark in _LOOKAROUND)
        case "enum":
            return isinstance(value, list) and any(isinstance(each, dict | list) for each in value)
        case "$ref":
            return not (isinstance(value, str) and value.startswith("#"))
    return name in _REFUSED


def _types(schema: Schema) -> list[Any]:
    kind = schema.get("type")
    return kind if isinstance(kind, list) else [kind]
