"""The JSON Schema (2020-12) of the configuration. Editors use it to complete keys and to underline misspelt keys.

The schema is made from the loader's pydantic models. It has the loader's rules, except rules that compare
several values. The loader only warns of unknown keys. The schema refuses them, because editors underline errors and
warnings alike.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Final, get_args

from pydantic.fields import FieldInfo

from gateway.config.model import OnError
from gateway.config.root import RootSection
from gateway.config.section import PLANNED, Holds, Section, holds_of, keys, lacking_words
from gateway.config.sections.plugins import ON_ERROR
from gateway.config.sections.providers import ProviderSection
from gateway.contract.settings import Settings

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
NOT_SUPPORTED: Final = "Not supported yet"
Settable = Mapping[str, type[Settings]]
"""Maps the name of a plugin to the pydantic model of its settings or options."""
_NONE: Final[Settable] = MappingProxyType({})


def json_schema(flags: Collection[str] = (), filters: Settable = _NONE, options: Settable = _NONE) -> dict[str, Any]:
    """Return the JSON Schema of a document.

    `flags` are the compatibility flags that a provider may have. `filters` has the settings of each filter, and
    `options` the options of each compatibility flag that has options.
    """
    shape = _object(RootSection, flags)
    inner: dict[str, Any] = {}
    settings = {name: _with_on_error(_settings(name, model, inner)) for name, model in sorted(filters.items())}
    shape["properties"]["plugins"] |= {"properties": settings, "additionalProperties": False}
    provider = shape["properties"]["providers"]["additionalProperties"]["properties"]
    of_flags = {name: _settings(name, model, inner) for name, model in sorted(options.items())}
    provider["options"] |= {"properties": of_flags, "additionalProperties": False}
    return {"$schema": DIALECT, "title": "Configuration of Irisgate", **shape, **({"$defs": inner} if inner else {})}


def _settings(plugin: str, model: type[Settings], inner: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a plugin's settings. Schemas of inner models are added to `inner` under unique names."""
    shape = model.model_json_schema(ref_template=f"#/$defs/{plugin}.{{model}}")
    inner |= {f"{plugin}.{name}": definition for name, definition in shape.pop("$defs", {}).items()}
    return {**shape, "additionalProperties": False}


def _with_on_error(shape: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a filter's settings with the key `on_error` added."""
    on_error = "What happens to a call if the filter fails: it is refused, or passes without the filter."
    shape["properties"] = {
        **shape.get("properties", {}),
        ON_ERROR: {"enum": list(get_args(OnError)), "description": on_error},
    }
    return shape


def _object(section: type[Section], flags: Collection[str]) -> dict[str, Any]:
    made = section.model_json_schema()
    shape: dict[str, Any] = {"type": "object"}
    shape["properties"] = properties = {
        key: _property(info, made["properties"][key], flags) for key, info in keys(section).items()
    }
    if section is ProviderSection:
        _typed(properties["compatibility"], "object")["properties"] = _flags(flags)
    if "required" in made:
        shape["required"] = made["required"]
    shape["additionalProperties"] = section.is_open
    return shape


def _property(info: FieldInfo, made: Mapping[str, Any], flags: Collection[str]) -> dict[str, Any]:
    """Return the JSON Schema of a field. If the field's value contains sections (JSON objects with known keys), the
    result includes the schema of these sections.
    """
    shape = {key: value for key, value in made.items() if key not in {"title", "examples"}}
    if shape.get("default", "") is None:
        del shape["default"]
    missing = f" {NOT_SUPPORTED}: {lacking_words(info) or 'it has no effect'}." if PLANNED in info.metadata else ""
    shape["description"] = f"{info.description or ''}{missing}"
    if (mark := holds_of(info)) is not None:
        _fill(shape, mark, _object(mark.section, flags))
    return shape


def _flags(flags: Collection[str]) -> dict[str, Any]:
    """Return the JSON Schema's properties of `compatibility`: one for each known compatibility flag (API format)."""
    return {
        flag: {"type": "boolean", "description": f'Whether the provider speaks "{flag}": true or false.'}
        for flag in sorted(flags)
    }


def _fill(shape: dict[str, Any], mark: Holds, inner: dict[str, Any]) -> None:
    if mark.how == "list":
        _typed(shape, "array")["items"] = inner
    elif mark.how == "map":
        _typed(shape, "object")["additionalProperties"] = inner
    elif mark.how == "lists":
        target = _typed(shape, "object")
        capabilities = 'Capabilities of whom the grant is for: [{"role": "user"}].'
        target["properties"] = {
            name: {"type": "array", "items": inner, "description": capabilities} for name in mark.names
        }
    else:
        target = _typed(shape, "object")
        target.pop("additionalProperties", None)
        target.update({key: value for key, value in inner.items() if key != "type"})


def _typed(shape: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the part of a schema that describes values of the JSON type `name`.

    A schema that also allows null has a part for each type, in `anyOf`. Any other schema is itself the only part.
    """
    return next(part for part in (shape, *shape.get("anyOf", ())) if part.get("type") == name)
