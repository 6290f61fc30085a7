"""The section `model_aliases`: the operator's own names for models of providers.

An alias is an exact name and takes precedence over a model of the same name (Aperture's documentation). A target that
does not exist causes only a warning. A call to such a target fails with a message that names the target.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, get_args

from pydantic import Field, WithJsonSchema

from gateway.config.document.hujson import Path
from gateway.config.fields import Targets
from gateway.config.findings import quote
from gateway.config.model import Alias, Provider, Strategy
from gateway.config.reading import Reading
from gateway.config.section import Holds, Section

STRATEGIES: Final[tuple[Strategy, ...]] = get_args(Strategy)
"""Names of strategies. An unknown name causes only a warning, because Aperture's names are not known."""
DEFAULT: Final[Strategy] = "first"

_StrategyName = Annotated[str, WithJsonSchema({"type": "string", "enum": list(STRATEGIES)})]
_STRATEGIES: Final[Mapping[str, Strategy]] = {strategy: strategy for strategy in STRATEGIES}
_PATH: Final[Path] = ("model_aliases",)


class AliasSection(Section):
    """A name for one or more models of providers.

    Each call goes to one of the models, and to the next model if the first one fails (`resilience.failover`).
    """

    dst: Targets = Field(
        description='The models, each with its provider: ["bedrock/us.amazon.nova-lite-v1:0"].',
        examples=['"dst": ["bedrock/us.amazon.nova-lite-v1:0"]'],
    )
    strategy: _StrategyName | None = Field(
        None,
        description='How the model is picked to which a session goes first: "first"; "weighted" (by the weight of '
        'providers); "least_in_flight" (calls at the provider); "cheapest" (by price); or "session" (evenly). "random" '
        'and "round_robin" pick one for each call.',
    )


class AliasesSection(Section):
    strategy: _StrategyName | None = Field(
        None, description='How one is picked where an alias has no strategy: "first".'
    )
    models: Annotated[dict[str, Any], Holds(AliasSection, "map")] = Field(
        default_factory=dict, description='By the name that clients use: {"fast": {"dst": ["bedrock/m"]}}.'
    )


def read_aliases(
    raw: Any, declared: Collection[str], providers: Mapping[str, Provider], reading: Reading
) -> Mapping[str, Alias]:
    """Return the aliases that have no fault. The keys are their names.

    `declared` are the names of all providers in the document, and `providers` are those without faults.
    """
    section = reading.section(AliasesSection, raw, _PATH)
    if section is None:
        return MappingProxyType({})
    default = _strategy(section.strategy, DEFAULT, (*_PATH, "strategy"), reading)
    owners: dict[str, str] = {}
    for provider in providers.values():
        for model in provider.models:
            owners.setdefault(model, provider.id)
    models = {id_: frozenset(provider.models) for id_, provider in providers.items() if not provider.discovers}
    aliases: dict[str, Alias] = {}
    for name, item in section.models.items():
        path = (*_PATH, "models", name)
        alias = reading.section(AliasSection, item, path)
        if not name.strip():
            reading.report.error(path, "an alias needs a name, which clients send as the model")
        if alias is None:
            continue
        if name in owners:
            message = f'provider "{owners[name]}" has a model of this name; the alias comes first'
            reading.report.warn(path, message)
        targets = tuple(_target(text) for text in alias.dst)
        for index, target in enumerate(targets):
            _check_target(target, (*path, "dst", index), declared, models, reading)
        aliases[name] = Alias(targets, _strategy(alias.strategy, default, (*path, "strategy"), reading))
    return MappingProxyType(aliases)


def _target(text: str) -> tuple[str, str]:
    """Return the provider and the model of a target. A model may have slashes in its name, a provider may not."""
    provider, _, model = text.partition("/")
    return provider, model


def _strategy(written: str | None, default: Strategy, path: Path, reading: Reading) -> Strategy:
    if written is None:
        return default
    if written not in _STRATEGIES:
        message = f'{quote(written, STRATEGIES)} is not one of {", ".join(STRATEGIES)}; "{DEFAULT}" is used'
        reading.report.warn(path, message)
    return _STRATEGIES.get(written, DEFAULT)


def _check_target(
    target: tuple[str, str],
    path: Path,
    declared: Collection[str],
    models: Mapping[str, Collection[str]],
    reading: Reading,
) -> None:
    """Warn if the provider of a target is not declared, or if the provider lacks the target's model.

    `models` maps a provider to its models, if the document lists them.
    """
    id_, model = target
    if id_ not in declared:
        hint = reading.report.hint(id_, declared)
        reading.report.warn(path, f'dst references provider "{id_}" which is not declared{hint}')
    elif id_ in models and model not in models[id_]:
        hint = reading.report.hint(model, models[id_])
        reading.report.warn(path, f'dst references model "{model}" which provider "{id_}" does not have{hint}')
