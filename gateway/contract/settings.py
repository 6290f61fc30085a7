"""The base class for the settings of plugins."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """The base class for the settings that a plugin defines: a filter's class `Settings`, or the class `Options` of a
    compatibility flag (plugin of an API format).

    - Each field is a key in the configuration. The field's `description` is shown to users.
    - The gateway checks the values when it reads the configuration, and reports each fault with file, line and column.
    - In the configuration, the value of a `SecretStr` field may be `env:NAME` or `file:PATH`.

    >>> class Options(Settings):
    ...     tier: str = "economy"
    >>> Options(tier="express")
    Options(tier='express')
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", hide_input_in_errors=True)


NO_OPTIONS: Final = Settings()
"""The options that a compatibility flag (plugin of an API format) has if it defines no class `Options`."""
