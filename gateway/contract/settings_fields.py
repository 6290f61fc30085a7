"""Functions for the fields of a plugin's `Settings`: their keys in the configuration, and the check for secrets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import AliasChoices, BaseModel, ConfigDict, SecretStr
from pydantic.fields import FieldInfo


def fields_by_key(model: type[BaseModel]) -> Mapping[str, str]:
    """Return a mapping from each key in the configuration to the name of its field.

    A field with aliases has several keys.
    """
    return {key: name for name, info in model.model_fields.items() for key in _keys(name, info, model.model_config)}


def _keys(name: str, info: FieldInfo, config: ConfigDict) -> Iterator[str]:
    """Yield the keys by which the configuration can set one field."""
    alias = info.validation_alias or info.alias
    if alias is not None and config.get("validate_by_alias", True):
        choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
        yield from (choice for choice in choices if isinstance(choice, str))
    if alias is None or config.get("validate_by_name") or config.get("populate_by_name"):
        yield name


def is_secret(annotation: Any) -> bool:
    """Return whether a field's type is `SecretStr` or contains `SecretStr`, such as `SecretStr | None`."""
    return annotation is SecretStr or any(map(is_secret, get_args(annotation)))
