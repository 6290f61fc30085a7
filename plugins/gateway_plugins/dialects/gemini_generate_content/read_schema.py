"""Converts Google's `Schema` to JSON Schema.

- A type is written in capitals, such as `STRING`, and `nullable` adds the type null.
- A field may be in snake_case, and a number may be a string, as everywhere in this API. The names in `properties` are
  the client's own and are not changed.
- Clients also send keywords of JSON Schema here. These keywords are not changed.

A schema in `parametersJsonSchema` or `responseJsonSchema` is JSON Schema already. Source: Google's API reference
(Schema).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from gateway_plugins.dialects.gemini_generate_content.fields import camel_case
from gateway_plugins.shared import numbers
from gateway_plugins.shared.fields import escape_step

Schema = dict[str, Any]

_UNSPECIFIED: Final = "type_unspecified"
_NULL: Final = "null"
_NULL_SCHEMA: Final[Mapping[str, str]] = {"type": _NULL}
_ELSEWHERE: Final = frozenset({"$ref", "allOf", "const", "not"})
"""Keywords that may forbid null. A nullable schema with such a keyword becomes `{"anyOf": [schema, null]}`."""
_ABOUT: Final = frozenset({"title", "description", "default", "examples", "$defs", "definitions"})
"""Keywords that do not restrict values. If a nullable schema becomes an `anyOf`, these keywords stay outside."""
_NOT_KEYWORDS: Final = frozenset({"nullable", "propertyOrdering", "example"})
"""Fields that JSON Schema does not have. `propertyOrdering` determines the order of the properties."""
_COUNTS: Final = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
_NUMBERS: Final[Mapping[str, Callable[[Any, str], Any]]] = {
    **dict.fromkeys(_COUNTS, partial(numbers.whole, highest=numbers.MAX_INT64)),
    **dict.fromkeys(("minimum", "maximum"), lambda value, _at: value),
}
"""Fields that are numbers, each with its check. A check gets the number and its JSON pointer."""
_NAMED: Final = frozenset({"properties", "$defs", "definitions", "patternProperties"})
_INNER: Final = frozenset({"items", "anyOf", "oneOf", "allOf", "additionalProperties", "prefixItems", "not"})
_SPELLED: Final = {"defs": "$defs", "ref": "$ref"}
"""JSON Schema's names for Google's `defs` and `ref`. A proto field cannot begin with "$"."""
_STRING_FORMATS: Final = frozenset({"enum"})
"""Values of Google's `format` that JSON Schema does not have. They are left out.

A schema with the format `enum` also has the keyword `enum`, so nothing is lost.
"""


def json_schema(value: Any, at: str) -> Any:
    """Return a schema, or a list of schemas, as JSON Schema. Any other value is returned unchanged.

    `at` is the JSON pointer of the value. Raises `Refused` if the value of a keyword in `_COUNTS`, such as `minItems`,
    is not a whole number from 0 to `MAX_INT64`.
    """
    if isinstance(value, list):
        return [json_schema(each, f"{at}/{index}") for index, each in enumerate(value)]
    if not isinstance(value, dict):
        return value
    given = {_keyword(name): inner for name, inner in value.items() if inner is not None}
    spelled = {_keyword(name): f"{at}/{escape_step(name)}" for name in value}
    made: Schema = {}
    for name, inner in given.items():
        if name == "type":
            made |= _type(inner)
        elif name in _NAMED and isinstance(inner, dict):
            made[name] = {
                key: json_schema(each, f"{spelled[name]}/{escape_step(key)}")
                for key, each in _ordered(inner, given).items()
            }
        elif name in _INNER:
            made[name] = json_schema(inner, spelled[name])
        elif name in _NUMBERS:
            made[name] = _NUMBERS[name](numbers.parsed(inner), spelled[name])
        elif name not in _NOT_KEYWORDS and not (name == "format" and inner in _STRING_FORMATS):
            made[name] = inner
    if "example" in given:
        made["examples"] = [given["example"]]
    return _nullable(made) if given.get("nullable") is True else made


def _keyword(name: str) -> str:
    name = name if name.startswith("$") else camel_case(name)
    return _SPELLED.get(name, name)


def _type(value: Any) -> Schema:
    if isinstance(value, list):
        return {"type": [each.lower() if isinstance(each, str) else each for each in value]}
    kind = value.lower() if isinstance(value, str) else value
    return {} if kind == _UNSPECIFIED else {"type": kind}


def _ordered(properties: Schema, given: Schema) -> Schema:
    """Return `properties`, sorted as the keyword `propertyOrdering` of the schema `given` demands.

    Models write properties in the order of the schema.
    """
    order = given.get("propertyOrdering")
    first = [name for name in order if isinstance(name, str) and name in properties] if isinstance(order, list) else []
    return {name: properties[name] for name in dict.fromkeys([*first, *properties])}


def _nullable(schema: Schema) -> Schema:
    """Return the schema with null as an additional value."""
    if schema.keys() & _ELSEWHERE:
        about = {name: value for name, value in schema.items() if name in _ABOUT}
        return {**about, "anyOf": [{name: value for name, value in schema.items() if name not in _ABOUT}, _NULL_SCHEMA]}
    made = dict(schema)
    kinds = made.get("type")
    if isinstance(kinds, str | list):
        others = [kind for kind in ([kinds] if isinstance(kinds, str) else kinds) if kind != _NULL]
        made["type"] = [*others, _NULL] if others else _NULL
    if isinstance(made.get("enum"), list) and None not in made["enum"]:
        made["enum"] = [*made["enum"], None]
    for name in ("anyOf", "oneOf"):
        if isinstance(made.get(name), list) and _NULL_SCHEMA not in made[name]:
            made[name] = [*made[name], _NULL_SCHEMA]
    return made
