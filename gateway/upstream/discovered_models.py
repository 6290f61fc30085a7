"""The last known models of the providers with `"models": "discover"`, and the configuration with these models.

- A list of models is valid only for the base URL from which it came. A provider with a new base URL has no models until
  its list has come.
- The lists are kept in a file of the state folder, so that the models are known at once after a restart. A file that
  cannot be read counts as missing.
- The names of models are kept as the provider writes them.

`model_search.py` requests the lists, and `process/model_refresh.py` decides when.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from gateway.config.model import Config, Provider

FILE: Final = "discovered-models.json"
"""Name of the file in the state folder that keeps the lists of models."""


class KnownList(msgspec.Struct, frozen=True, kw_only=True):
    """The list of models of one provider."""

    baseurl: str
    """The base URL from which the list came."""
    at: float
    """Unix time in seconds at which the provider last sent its list, whether changed or not."""
    models: dict[str, str]
    """Maps a model's name to the id of the underlying model. The id is "" if it is the same as the name."""
    changed_at: float = 0.0
    """Unix time in seconds of the last change of the list."""
    added: tuple[str, ...] = ()
    """The models that were new in the list when it last changed."""
    removed: tuple[str, ...] = ()


class Difference(msgspec.Struct, frozen=True):
    """The changes of a provider's list: the added names and the removed names, both in alphabetical order."""

    added: tuple[str, ...]
    removed: tuple[str, ...]


class DiscoveredModels(msgspec.Struct):
    """The last lists of models of all providers, and the reasons why requests for lists failed."""

    path: Path
    """Path of the file that keeps the lists of models."""
    written: Config
    """The configuration without discovered models."""
    lists: Mapping[str, KnownList] = msgspec.field(default_factory=dict)
    """The lists by the provider's id. The mapping is replaced and never changed, because threads read it too."""
    failures: dict[str, str] = msgspec.field(default_factory=dict)
    """Maps a provider's id to the reason why the last request for its list failed. A success removes the entry."""
    wake: asyncio.Event = msgspec.field(default_factory=asyncio.Event)
    """An event that is set when the lists must be requested at once."""
    saved: Callable[[], None] = lambda: None
    """A function that is called after the lists were saved. It makes the worker processes read the file again."""

    def configured(self, written: Config) -> None:
        """Use another configuration. Set `wake`, so that the gateway requests the model lists of the configured
        providers at once.
        """
        self.written = written
        asking = {provider.id for provider in written.providers.values() if provider.discovers}
        self.failures = {id_: reason for id_, reason in self.failures.items() if id_ in asking}
        self.wake.set()

    def list_of(self, provider: Provider) -> KnownList | None:
        """Return the provider's last list of models, or None if there is none. A list from an earlier base URL does not
        count.
        """
        known = self.lists.get(provider.id)
        return known if known is not None and known.baseurl == provider.baseurl else None

    def sizes(self) -> dict[str, float]:
        """Return the number of models by provider, for all providers whose models are discovered. It is 0 if there is
        no list yet.
        """
        known = ((provider.id, self.list_of(provider)) for provider in self._asked())
        return {id_: float(len(models.models)) if models is not None else 0.0 for id_, models in known}

    def failing(self) -> dict[str, float]:
        """Return whether the last request for models failed (1) or not (0), for each provider whose models are
        discovered.
        """
        return {provider.id: float(provider.id in self.failures) for provider in self._asked()}

    def _asked(self) -> list[Provider]:
        return [provider for provider in self.written.providers.values() if provider.discovers]

    def applied(self, config: Config) -> Config:
        """Return the configuration with the known models of its providers."""
        known = {id_: self._with_models(provider) for id_, provider in config.providers.items() if provider.discovers}
        if not known:
            return config
        return replace(config, providers=MappingProxyType({**config.providers, **known}))

    def note(self, provider: Provider, models: Mapping[str, str], now: float) -> Difference | None:
        """Store a provider's list. Return its difference from the previous list, or None if there is no difference."""
        self.failures.pop(provider.id, None)
        before = self.list_of(provider)
        old = {} if before is None else before.models
        difference = Difference(tuple(sorted(models.keys() - old)), tuple(sorted(old.keys() - models.keys())))
        if before is not None and old == models:
            made = msgspec.structs.replace(before, at=now)
        else:
            made = KnownList(
                baseurl=provider.baseurl,
                at=now,
                models=dict(models),
                changed_at=now,
                added=difference.added,
                removed=difference.removed,
            )
        self.lists = {**self.lists, provider.id: made}
        return None if before is not None and old == models else difference

    def _with_models(self, provider: Provider) -> Provider:
        known = self.list_of(provider)
        if known is None:
            return provider
        bases = {name: base for name, base in known.models.items() if base}
        return replace(
            provider,
            models=tuple(known.models),
            base_models=MappingProxyType({**bases, **provider.base_models}),
        )

    def load(self) -> None:
        """Read the lists from the file. If the file is missing or damaged, the lists stay as they are."""
        with suppress(OSError, msgspec.MsgspecError):
            self.lists = msgspec.json.decode(self.path.read_bytes(), type=dict[str, KnownList])

    def save(self) -> None:
        """Write the lists of the configured providers into the file. Raises `OSError` if it cannot be written."""
        providers = self.written.providers
        data = msgspec.json.encode({id_: known for id_, known in self.lists.items() if id_ in providers})
        made = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            made.replace(self.path)
        finally:
            with suppress(FileNotFoundError):
                made.unlink()
