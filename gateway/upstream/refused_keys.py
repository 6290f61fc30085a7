"""A memory of the providers that refused the gateway's key, until a later reply shows that the key works.

A refusal is remembered together with the provider's configuration. If the configuration changes, for example to a new
key, the refusal no longer applies.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.config.model import Provider


@dataclass(slots=True)
class RefusedKeys:
    """The providers that refused the gateway's key and have not accepted it since then."""

    _refused: dict[str, Provider] = field(default_factory=dict)

    def refused(self, provider: Provider) -> None:
        """Remember that the provider refused the key."""
        self._refused[provider.id] = provider

    def accepted(self, provider: Provider) -> None:
        """Forget an earlier refusal, because the provider has served a call with the key."""
        self._refused.pop(provider.id, None)

    def __contains__(self, provider: object) -> bool:
        return isinstance(provider, Provider) and self._refused.get(provider.id) == provider
