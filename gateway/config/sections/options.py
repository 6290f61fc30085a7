"""Reads a provider's key `options` in the configuration.

The key has an object for each compatibility flag (plugin of an API format) of the provider: the options of this flag.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from gateway.config.document.hujson import Path
from gateway.config.plugin_settings import read_settings
from gateway.config.reading import LEFT_OUT, Reading
from gateway.contract.settings import Settings


def read_options(
    raw: Mapping[str, Any], enabled: Collection[str], path: Path, reading: Reading
) -> Mapping[str, Settings]:
    """Return the options of each enabled compatibility flag that has options.

    The options of a flag that is not enabled are checked too, with a warning that they have no effect.
    """
    read: dict[str, Settings] = {}
    for flag in raw:
        _check_flag(flag, enabled, (*path, flag), reading)
    for flag, model in reading.plugins.options.items():
        if flag in enabled or flag in raw:
            options = read_settings(model, raw.get(flag, {}), (*path, flag), reading)
            read |= {} if options is None else {flag: options}
    return MappingProxyType(read)


def _check_flag(flag: str, enabled: Collection[str], path: Path, reading: Reading) -> None:
    plugins, report = reading.plugins, reading.report
    if flag in plugins.left_out:
        report.warn(path, LEFT_OUT)
    elif flag in plugins.unusable:
        report.error(path, reading.unusable(flag))
    elif flag not in plugins.flags:
        report.error(path, _unknown(flag, enabled, reading))
    elif flag not in plugins.options:
        report.error(path, f'the flag "{flag}" has no options')
    elif flag not in enabled:
        report.warn(path, 'is not among the enabled flags of "compatibility"; it has no effect')


def _unknown(flag: str, enabled: Collection[str], reading: Reading) -> str:
    """Return the message about a key of `options` that is not the name of a compatibility flag (API format).

    If the user has written an option without its flag, the message says under which flag the option belongs.
    """
    options = reading.plugins.options
    owners = [owner for owner in options if owner in enabled and flag in options[owner].model_fields]
    if owners:
        return f'is an option of the flag "{owners[0]}"; write "options": {{"{owners[0]}": {{"{flag}": …}}}}'
    known = ", ".join(sorted(options)) or "none"
    return f'there is no flag "{flag}"; flags with options are {known}{reading.report.hint(flag, options)}'
