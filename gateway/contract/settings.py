"""The base class for the settings that a plugin has in the configuration."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """The base class of a filter's `Settings`, and of the `Options` of a compatibility flag (plugin of an API format).

    Each field is a key of the plugin's object in the configuration, and its `description` is shown to users. The
    gateway checks the object against the fields when it reads the configuration, and reports a fault with file, line
    and column. The value of a field of pydantic's type `SecretStr` may be written as `env:NAME` or `file:PATH`, like
    the key of a provider.

    >>> class Options(Settings):
    ...     tier: str = "economy"
    >>> Options(tier="express")
    Options(tier='express')
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", hide_input_in_errors=True)


NO_OPTIONS: Final = Settings()
"""The options of a compatibility flag that has none."""
