"""Remembers which providers refused the gateway's own key, until one of their replies shows that the key works.

A changed configuration, such as one with another key, is a new start: what was remembered holds for the provider as it
was configured then.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.config.model import Provider


@dataclass(slots=True)
class RefusedKeys:
    """Providers whose last word on the gateway's key was no."""

    _refused: dict[str, Provider] = field(default_factory=dict)

    def refused(self, provider: Provider) -> None:
        """Remember that the provider refused the key."""
        self._refused[provider.id] = provider

    def accepted(self, provider: Provider) -> None:
        """Forget it, because the provider served a call with the key."""
        self._refused.pop(provider.id, None)

    def __contains__(self, provider: object) -> bool:
        return isinstance(provider, Provider) and self._refused.get(provider.id) == provider
