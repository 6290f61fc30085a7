"""Reads `model_aliases`: own names for models of providers.

An alias is an exact name, and stands before a model of the same name (aperture.md section 1.11). A target that is not
there is kept and told of: whoever wrote it wants calls to go there, and to hear if they cannot.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

from gateway.config.document.hujson import Path
from gateway.config.findings import quoted
from gateway.config.model import Alias, Provider, Strategy
from gateway.config.reading import Reading
from gateway.config.schema import STRATEGIES, AliasesSection, AliasSection, TopSection

DEFAULT: Final[Strategy] = "first"

_STRATEGIES: Final[Mapping[str, Strategy]] = {strategy: strategy for strategy in STRATEGIES}
_PATH: Final[Path] = ("model_aliases",)


def read_aliases(top: TopSection, providers: Mapping[str, Provider], reading: Reading) -> Mapping[str, Alias]:
    """Those without faults, by their names."""
    section = reading.section(AliasesSection, top.model_aliases, _PATH)
    if section is None:
        return MappingProxyType({})
    default = _strategy(section.strategy, DEFAULT, (*_PATH, "strategy"), reading)
    owners: dict[str, str] = {}
    for provider in providers.values():
        for model in provider.models:
            owners.setdefault(model, provider.id)
    models = {id_: frozenset(provider.models) for id_, provider in providers.items()}
    found: dict[str, Alias] = {}
    for name, raw in section.models.items():
        path = (*_PATH, "models", name)
        alias = reading.section(AliasSection, raw, path)
        if not name.strip():
            reading.report.error(path, "an alias needs a name, which clients send as the model")
        if alias is None:
            continue
        if name in owners:
            message = f'provider "{owners[name]}" has a model of this name; the alias comes first'
            reading.report.warn(path, message)
        targets = tuple(_target(text) for text in alias.dst)
        for index, target in enumerate(targets):
            _check_target(target, (*path, "dst", index), top, models, reading)
        found[name] = Alias(targets, _strategy(alias.strategy, default, (*path, "strategy"), reading))
    return MappingProxyType(found)


def _target(text: str) -> tuple[str, str]:
    """Models may hold slashes, provider keys none."""
    provider, _, model = text.partition("/")
    return provider, model


def _strategy(written: str | None, default: Strategy, path: Path, reading: Reading) -> Strategy:
    if written is None:
        return default
    if written not in _STRATEGIES:
        message = f'{quoted(written, STRATEGIES)} is not one of {", ".join(STRATEGIES)}; "{DEFAULT}" is used'
        reading.report.warn(path, message)
    return _STRATEGIES.get(written, DEFAULT)


def _check_target(
    target: tuple[str, str], path: Path, top: TopSection, models: Mapping[str, Collection[str]], reading: Reading
) -> None:
    """`models` are those of each provider without faults."""
    id_, model = target
    if id_ not in top.providers:
        hint = reading.report.hint(id_, top.providers)
        reading.report.warn(path, f'dst references provider "{id_}" which is not declared{hint}')
    elif id_ in models and model not in models[id_]:
        hint = reading.report.hint(model, models[id_])
        reading.report.warn(path, f'dst references model "{model}" which provider "{id_}" does not have{hint}')
