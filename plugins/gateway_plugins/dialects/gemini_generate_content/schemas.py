"""JSON schemas in the form that Gemini accepts, for `parametersJsonSchema` and `responseJsonSchema`.

- References are replaced by their definitions. Gemini refuses other keywords beside `$ref`, and definitions in some
  places (anomalyco/opencode#12295, google-gemini/gemini-cli#13326).
- Gemini reads no `const`. It becomes an `enum` with one value.

Source: Gemini API, Structured outputs (JSON Schema support).
"""

from __future__ import annotations

from typing import Any, Final

from gateway.contract.flag import Drop
from gateway_plugins.shared.references import inline_references

_NAMED: Final = frozenset({"properties", "patternProperties", "dependentSchemas"})
_VALUES: Final = frozenset({"enum", "default", "examples", "example", "required"})


def json_schema(schema: Any, at: str, drop: Drop) -> Any:
    """Return the schema in Gemini's form. What is lost is reported. `at` is the JSON pointer of the schema."""
    return _with_enums(inline_references(schema, at, drop))


def _with_enums(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_with_enums(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made: dict[str, Any] = {}
    for name, value in schema.items():
        if name == "const":
            made.setdefault("enum", [value])
        elif name in _NAMED and isinstance(value, dict):
            made[name] = {key: _with_enums(each) for key, each in value.items()}
        else:
            made[name] = value if name in _VALUES else _with_enums(value)
    return made
