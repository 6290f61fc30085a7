"""A memory of the features that providers have refused for a model, such as Anthropic's betas.

Later calls leave these features out at once, instead of being refused first. An entry is forgotten after a while,
because the provider may support the feature by then. The memory is bounded, and is lost when the gateway ends.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Final

import msgspec

KEPT: Final = 3600.0
"""Seconds after which a refusal is forgotten. A provider that still does not support the feature then refuses one
attempt per hour."""
MAX_MODELS: Final = 1000
"""Maximum number of models whose refused features are remembered. The least recently used models are forgotten
first."""


class RefusedFeatures(msgspec.Struct):
    """Remembers the names of the features that each provider has refused for each model."""

    clock: Callable[[], float] = monotonic
    _refused: OrderedDict[tuple[str, str], tuple[float, tuple[str, ...]]] = msgspec.field(default_factory=OrderedDict)
    """Maps (provider, model) to (time, names): the names of the features that the provider has refused for the model,
    and the time of the refusal. `clock` measures this time.
    """

    def of(self, provider: str, model: str) -> tuple[str, ...]:
        """Return the names of the features that the provider has refused for the model."""
        key = (provider, model)
        at, names = self._refused.get(key, (0.0, ()))
        if names and self.clock() - at >= KEPT:
            del self._refused[key]
            return ()
        if names:
            self._refused.move_to_end(key)
        return names

    def refused(self, provider: str, model: str, names: tuple[str, ...]) -> None:
        """Remember the features that the provider has refused for the model. This replaces the features remembered
        before.
        """
        self._refused[provider, model] = (self.clock(), names)
        self._refused.move_to_end((provider, model))
        while len(self._refused) > MAX_MODELS:
            self._refused.popitem(last=False)
