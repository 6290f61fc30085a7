"""The base class of a plugin's values in the configuration: the `Settings` of a filter, the `Options` of a flag."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """The base class of a filter's `Settings` and of the `Options` of a compatibility flag.

    Each field is a key of the plugin's object in the configuration, and its `description` is shown to users. The
    gateway checks the object against the fields when it reads the configuration, and reports a fault with file, line
    and column. A field of pydantic's type `SecretStr` may be written as `env:NAME` or `file:PATH`, as keys of providers
    are.

    >>> class Options(Settings):
    ...     tier: str = "economy"
    >>> Options(tier="express")
    Options(tier='express')
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", hide_input_in_errors=True)


NO_OPTIONS: Final = Settings()
"""The options of a compatibility flag that has none."""
