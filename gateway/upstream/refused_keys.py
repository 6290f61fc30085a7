"""The keys that providers refused. A refusal is forgotten when the provider serves a call with the key.

A refusal is stored together with the provider's configuration. If the configuration changes, for example to a new key,
the refusal no longer applies.
"""

from __future__ import annotations

import msgspec

from gateway.config.model import Provider


class RefusedKeys(msgspec.Struct):
    """The gateway's keys that providers refused and have not accepted since.

    A key is identified by the provider's id and the key's name. The name is "" for the only key of a provider, and the
    name in `Provider.apikeys` for one of several keys.
    """

    _refused: dict[str, dict[str, Provider]] = msgspec.field(default_factory=dict)

    def refused(self, provider: Provider, name: str = "") -> None:
        """Remember that the provider refused the key."""
        self._refused[provider.id] = {**self._refused.get(provider.id, {}), name: provider}

    def accepted(self, provider: Provider, name: str = "") -> None:
        """Remove the key from the refused keys, because the provider has served a call with it."""
        if provider.id in self._refused:
            left = {other: of for other, of in self._refused[provider.id].items() if other != name}
            self._refused[provider.id] = left
            if not left:
                del self._refused[provider.id]

    def clear(self) -> None:
        """Forget all refusals."""
        self._refused.clear()

    def names(self, provider: Provider) -> list[str]:
        """Return the names of the refused keys of a provider."""
        return [name for name, of in self._refused.get(provider.id, {}).items() if of.as_written == provider.as_written]

    def remembered(self) -> dict[str, list[str]]:
        """Return the names of the refused keys of each provider, for the process that replaces this one.

        The keys of the dict are the ids of the providers.
        """
        return {id_: [*refused] for id_, refused in self._refused.items()}

    def __contains__(self, provider: object) -> bool:
        return isinstance(provider, Provider) and bool(self.names(provider))
