"""The section `plugins`: the filters that are switched on, in their order, each with its settings.

The keys of a filter's object are the fields of the filter's `Settings`, and `on_error`, which every filter has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

from pydantic import SecretStr

from gateway.config.document.hujson import Path
from gateway.config.model import PluginConfig
from gateway.config.reading import Reading
from gateway.contract.filter import Settings

ON_ERROR: Final = "on_error"
OnError = Literal["refuse", "pass"]


def read_plugins(raw: Mapping[str, Any], reading: Reading) -> tuple[PluginConfig, ...]:
    """Return the filters that the section names. Each fault is reported at its place in the document."""
    return tuple(plugin for name in raw if (plugin := _read(name, raw[name], reading)) is not None)


def _read(name: str, raw: Any, reading: Reading) -> PluginConfig | None:
    path: Path = ("plugins", name)
    settings = reading.known_filters.get(name)
    if settings is None:
        known = ", ".join(sorted(reading.known_filters)) or "none"
        hint = reading.report.hint(name, reading.known_filters)
        reading.report.error(path, f'there is no filter "{name}"; there are {known}{hint}')
        return None
    if not isinstance(raw, dict):
        reading.report.error(path, f"must be an object with the settings of the filter, such as {{}}, not {raw!r}")
        return None
    on_error = raw.get(ON_ERROR, "")
    if ON_ERROR in raw and on_error not in get_args(OnError):
        reading.report.error((*path, ON_ERROR), 'must be "refuse" or "pass"')
        on_error = ""
    own = {key: _value(settings, key, value, (*path, key), reading) for key, value in raw.items() if key != ON_ERROR}
    checked = reading.section(settings, own, path)
    return None if checked is None else PluginConfig(name, checked, on_error)


def _value(settings: type[Settings], key: str, value: Any, path: Path, reading: Reading) -> Any:
    """Return the value of a setting. A secret is resolved, wherever its text says that it is."""
    info = settings.model_fields.get(key)
    if info is None or info.annotation is not SecretStr or not isinstance(value, str):
        return value
    return SecretStr(reading.secret(value, path).value)
