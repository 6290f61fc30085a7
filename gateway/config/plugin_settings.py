"""Reads the settings of filters and the options of compatibility flags (plugins of API formats).

Each plugin has a pydantic model of its settings or options.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, SecretStr

from gateway.config.check import warn_of_keys
from gateway.config.document.hujson import Path
from gateway.config.document.secret_patterns import is_reference
from gateway.config.document.secrets import HELPER, KEYFILE
from gateway.config.reading import Reading
from gateway.config.section import keys
from gateway.contract.settings import Settings
from gateway.contract.settings_fields import fields_by_key, is_secret


def read_settings(model: type[Settings], raw: Any, path: Path, reading: Reading) -> Settings | None:
    """Return the plugin's settings. If they have faults, report each fault at its place and return None."""
    settings = reading.section(model, _with_secrets(model, raw, path, reading), path)
    for inner, value, place in _inner_models(settings, raw, path):
        warn_of_keys(type(inner), value, place, reading.report)
    return settings


def _inner_models(value: Any, raw: Any, path: Path) -> Iterator[tuple[BaseModel, dict[str, Any], Path]]:
    """Yield a triple for each pydantic model inside `value`: the model, the object from which it was read, and the path
    of this object.
    """
    steps: list[tuple[Any, Any, str | int]] = []
    if isinstance(value, BaseModel) and isinstance(raw, dict):
        fields = fields_by_key(type(value)).items()
        steps = [(getattr(value, name), raw[key], key) for key, name in fields if key in raw]
    elif isinstance(value, dict) and isinstance(raw, dict):
        steps = [(value[key], raw[key], key) for key in raw if key in value]
    elif isinstance(value, list | tuple) and isinstance(raw, list):
        steps = [(inner, part, at) for at, (inner, part) in enumerate(zip(value, raw, strict=False))]
    for inner, part, step in steps:
        if isinstance(inner, BaseModel) and isinstance(part, dict):
            yield inner, part, (*path, step)
        yield from _inner_models(inner, part, (*path, step))


def _with_secrets(model: type[Settings], raw: Any, path: Path, reading: Reading) -> Any:
    """Return the object with references to secrets replaced by the secrets."""
    if not isinstance(raw, dict):
        return raw
    values = dict(raw)
    for key, info in keys(model).items():
        if not (isinstance(raw.get(key), str) and is_secret(info.annotation)):
            continue
        if not is_reference(raw[key]) or raw[key].startswith((HELPER, KEYFILE)):
            reading.report.error((*path, key), "is a secret; write env:NAME or file:PATH in place of it")
        values[key] = SecretStr(reading.secret(raw[key], (*path, key)).value)
    return values
