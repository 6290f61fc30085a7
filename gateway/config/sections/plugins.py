"""The section `plugins`: the filters that are switched on, in their order, each with its settings.

The value of each filter is an object. The object's keys are the fields of the filter's `Settings`, and `on_error`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

from gateway.config.document.hujson import Path
from gateway.config.model import OnError, PluginConfig
from gateway.config.plugin_settings import read_settings
from gateway.config.reading import LEFT_OUT, Reading

ON_ERROR: Final = "on_error"


def read_plugins(raw: Mapping[str, Any], reading: Reading) -> tuple[PluginConfig, ...]:
    """Return the filters that the section names. Each fault is reported at its place in the document."""
    return tuple(plugin for name in raw if (plugin := _read(name, raw[name], reading)) is not None)


def _read(name: str, raw: Any, reading: Reading) -> PluginConfig | None:
    path: Path = ("plugins", name)
    if name in reading.plugins.left_out:
        reading.report.warn(path, LEFT_OUT)
        return None
    settings = reading.plugins.filters.get(name)
    if settings is None:
        reading.report.error(path, _unknown(name, reading))
        return None
    on_error: OnError | None = None
    if isinstance(raw, dict) and ON_ERROR in raw:
        on_error = raw[ON_ERROR]
        if on_error not in get_args(OnError):
            reading.report.error((*path, ON_ERROR), 'must be "refuse" or "pass"')
        raw = {key: value for key, value in raw.items() if key != ON_ERROR}
    checked = read_settings(settings, raw, path, reading)
    return None if checked is None else PluginConfig(name, checked, on_error)


def _unknown(name: str, reading: Reading) -> str:
    if name in reading.plugins.unusable:
        return reading.unusable(name)
    if name in reading.plugins.flags:
        return f'"{name}" is a flag, which is switched on in a provider\'s "compatibility"; filters stand here'
    known = ", ".join(sorted(reading.plugins.filters)) or "none"
    return f'there is no filter "{name}"; there are {known}{reading.report.hint(name, reading.plugins.filters)}'
