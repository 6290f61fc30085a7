"""Finds the peers of a model: the other models that can serve its calls if it fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from gateway.config.model import Config

Key = tuple[str, str]
"""A provider's id and a model."""


class Peers:
    """The peers of each model at an enabled provider.

    The peers of a model are the other models that can serve its calls: the same model at other providers, and the other
    targets of its aliases.

    Models that can replace one another share one list. Separate lists would be too large: a thousand providers of one
    model would need a million entries.
    """

    def __init__(self, groups: Mapping[Key, Sequence[Sequence[Key]]]) -> None:
        self._groups = groups

    def __iter__(self) -> Iterator[Key]:
        return iter(self._groups)

    def __contains__(self, key: object) -> bool:
        return key in self._groups

    def has_other(self, key: Key) -> bool:
        """Return whether another model can serve the calls of a model. The result is False for an unknown model."""
        # a group has each model once, so two entries are enough
        return any(other != key for group in self._groups.get(key, ()) for other in group[:2])

    def of(self, key: Key) -> Iterable[Key]:
        """Return the other models that can serve the calls of a model, each once. An unknown model has none."""
        return [one for one in dict.fromkeys(chain(*self._groups.get(key, ()))) if one != key]


def peers_of(config: Config) -> Peers:
    """Return, for each model of an enabled provider, the other models that can serve its calls."""
    keys = dict.fromkeys(
        (id_, model) for id_, provider in config.providers.items() if not provider.disabled for model in provider.models
    )
    by_model: dict[str, list[Key]] = {}
    for key in keys:
        by_model.setdefault(key[1], []).append(key)
    groups: dict[Key, list[Sequence[Key]]] = {key: [by_model[key[1]]] for key in keys}
    for alias in config.aliases.values():
        targets = list(dict.fromkeys(target for target in alias.targets if target in groups))
        for target in targets:
            groups[target].append(targets)
    return Peers(groups)
