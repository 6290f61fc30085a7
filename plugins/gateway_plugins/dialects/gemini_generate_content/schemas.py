"""JSON schemas in the form that Gemini accepts, for `parametersJsonSchema` and `responseJsonSchema`.

- References are replaced by their definitions. Gemini refuses other keywords beside `$ref`, and definitions in some
  places (anomalyco/opencode#12295, google-gemini/gemini-cli#13326).
- Gemini reads no `const`. It becomes an `enum` with one value.
- Gemini reads only objects as schemas. The schema `true` becomes `{}`, and a property or an alternative that is `false`
  is left out.

Source: Gemini API, Structured outputs (JSON Schema support).
"""

from __future__ import annotations

from typing import Any, Final

from gateway.contract.flag import Drop
from gateway_plugins.shared.references import inline_references

_NAMED: Final = frozenset({"properties", "patternProperties", "dependentSchemas"})
_ALTERNATIVES: Final = frozenset({"anyOf", "oneOf"})
_VALUES: Final = frozenset({"enum", "default", "examples", "example", "required"})


def json_schema(schema: Any, at: str, drop: Drop) -> Any:
    """Return the schema in Gemini's form. What is lost is reported. `at` is the JSON pointer of the schema."""
    return _to_gemini(inline_references(schema, at, drop))


def _to_gemini(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_to_gemini(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made: dict[str, Any] = {}
    for name, value in schema.items():
        if name == "const":
            made.setdefault("enum", [value])
        elif name in _NAMED and isinstance(value, dict):
            made[name] = {key: _inner(each) for key, each in value.items() if each is not False}
        elif name in _ALTERNATIVES and isinstance(value, list):
            made[name] = [_inner(each) for each in value if each is not False]
        else:
            made[name] = value if name in _VALUES else _to_gemini(value)
    return made


def _inner(schema: Any) -> Any:
    return {} if schema is True else _to_gemini(schema)
