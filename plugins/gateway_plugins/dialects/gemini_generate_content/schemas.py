"""Converts JSON schemas to the form that Gemini accepts in `parametersJsonSchema` and `responseJsonSchema`.

- References are replaced by their definitions. Gemini refuses other keywords beside `$ref`, and refuses definitions in
  some positions (anomalyco/opencode#12295, google-gemini/gemini-cli#13326).
- Gemini does not read `const`. So `const` becomes an `enum` with one value.
- Gemini refuses null and "" in `enum` (router-for-me/CLIProxyAPI#4545, anomalyco/opencode#33316).
- Gemini ignores `allOf`, so its parts are merged.
- Gemini reads only objects as schemas. The schema `true` becomes `{}`. A property or an alternative that is `false` is
  left out.

Source: Gemini API, Structured outputs (JSON Schema support).
"""

from __future__ import annotations

from typing import Any, Final

from gateway.contract.flag import Drop
from gateway_plugins.shared.all_of import merge_all_of
from gateway_plugins.shared.fields import escape_step
from gateway_plugins.shared.references import inline_references

_NAMED: Final = frozenset({"properties", "patternProperties", "dependentSchemas"})
_ALTERNATIVES: Final = frozenset({"anyOf", "oneOf"})
_ABOUT: Final = frozenset({"title", "description", "default", "examples"})
"""Keywords that describe a schema and do not restrict it."""
_NULL: Final = "null"
_VALUES: Final = frozenset({"enum", "default", "examples", "example", "required"})


def json_schema(schema: Any, at: str, drop: Drop) -> Any:
    """Return the schema in Gemini's form. `at` is the JSON pointer of the schema.

    Keywords and values that Gemini does not accept are reported as dropped.
    """
    made = merge_all_of(_to_gemini(inline_references(schema, at, drop), at, drop), at, drop)
    _report_all_of(made, at, drop)
    return made


def _to_gemini(schema: Any, at: str, drop: Drop) -> Any:
    if isinstance(schema, list):
        return [_to_gemini(each, f"{at}/{index}", drop) for index, each in enumerate(schema)]
    if not isinstance(schema, dict):
        return schema
    made: dict[str, Any] = {}
    for name, value in schema.items():
        path = f"{at}/{escape_step(name)}"
        if name in _NAMED and isinstance(value, dict):
            inner = {key: _inner(each, f"{path}/{escape_step(key)}", drop) for key, each in value.items()}
            made[name] = {key: each for key, each in inner.items() if each is not False}
        elif name in _ALTERNATIVES and isinstance(value, list):
            alternatives = [_inner(each, f"{path}/{index}", drop) for index, each in enumerate(value)]
            made[name] = [each for each in alternatives if each is not False]
        elif name != "const":
            made[name] = value if name in _VALUES else _to_gemini(value, path, drop)
    if "const" in schema:
        made["enum"] = [schema["const"]]
    return _with_values(made, f"{at}/{'const' if 'const' in schema else 'enum'}", drop)


def _inner(schema: Any, at: str, drop: Drop) -> Any:
    return {} if schema is True else _to_gemini(schema, at, drop)


def _with_values(schema: dict[str, Any], at: str, drop: Drop) -> dict[str, Any]:
    """Return the schema with an `enum` that Gemini accepts, without null and "".

    The value "" is reported as dropped. If null was allowed by `enum` and by the type, the schema still accepts null.
    """
    values = schema.get("enum")
    if not isinstance(values, list):
        return schema
    kept = [value for value in values if value is not None and value != ""]
    if len(kept) == len(values):
        return schema
    if "" in values:
        drop(at)
    made = {name: value for name, value in schema.items() if name != "enum"} | ({"enum": kept} if kept else {})
    kinds = schema.get("type", _NULL)
    if None not in values or _NULL not in (kinds if isinstance(kinds, list) else [kinds]):
        return made
    if not kept or kinds == [_NULL]:
        return {name: value for name, value in made.items() if name != "enum"} | {"type": _NULL}
    return _or_null(made)


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return `{"anyOf": [schema, {"type": "null"}]}`. Keywords that only describe, such as the title, stay outside
    `anyOf`.
    """
    about = {name: value for name, value in schema.items() if name in _ABOUT}
    rest = {name: value for name, value in schema.items() if name not in _ABOUT}
    if isinstance(rest.get("type"), list):
        others = [kind for kind in rest["type"] if kind != _NULL]
        rest["type"] = others[0] if len(others) == 1 else others
    return {**about, "anyOf": [rest, {"type": _NULL}]}


def _report_all_of(schema: Any, at: str, drop: Drop) -> None:
    """Report as dropped each `allOf` that could not be merged. Gemini ignores it."""
    if isinstance(schema, list):
        for index, each in enumerate(schema):
            _report_all_of(each, f"{at}/{index}", drop)
    elif isinstance(schema, dict):
        for name, value in schema.items():
            path = f"{at}/{escape_step(name)}"
            if name in _NAMED and isinstance(value, dict):
                for key, each in value.items():
                    _report_all_of(each, f"{path}/{escape_step(key)}", drop)
            elif name == "allOf":
                drop(path)
            elif name not in _VALUES:
                _report_all_of(value, path, drop)
