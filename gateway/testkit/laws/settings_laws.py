"""The laws (rules) for a plugin's configured values: the options of an API format's plugin, or the settings of a
filter.
"""

from __future__ import annotations

import pickle

from pydantic import SecretStr, ValidationError

from gateway.contract.settings import Settings
from gateway.contract.settings_fields import fields_by_key
from gateway.testkit.laws.law import Broken, require, shown


def can_be_written(settings: Settings, name: str) -> None:
    """Check that a configuration can have these settings. The settings are written as JSON and read again, and must
    stay equal.

    For example, a strict field of type `tuple` refuses a JSON list, so no configuration could set the field.
    """
    secrets = {key: value for key, value in settings if isinstance(value, SecretStr)}
    values = settings.model_dump(mode="json", by_alias=True, warnings=False)
    keys = {name: key for key, name in fields_by_key(type(settings)).items()}
    written = {
        keys[name]: secrets.get(name, values.get(info.serialization_alias or name))
        for name, info in type(settings).model_fields.items()
        if name in keys
    }
    try:
        again = type(settings).model_validate(written)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"]))
        raise Broken(f"{place} is refused: {fault['msg']}", name, shown(fault["input"])) from None
    require(again == settings, f"it is read as {shown(again)}", name, shown(written))


def reach_worker_processes(settings: Settings, name: str) -> None:
    """Check that the settings stay equal when they are pickled: hooks in worker processes get them by pickle."""
    try:
        again = pickle.loads(pickle.dumps(settings))  # noqa: S301 (written by this function)
    except (pickle.PickleError, AttributeError, TypeError, ValueError) as error:
        raise Broken(f"they cannot be sent to a worker process: {error}", name) from None
    require(again == settings, f"in a worker process they are {shown(again)}", name)
