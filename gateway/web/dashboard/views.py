"""The values that the pages show, made from the configuration and the prices. Templates define the layout."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

import msgspec
import orjson

from gateway.config.model import Provider
from gateway.money.prices.table import Prices
from gateway.store.reports.values import ModelRow, Models
from gateway.upstream.discovered_models import DiscoveredModels, KnownList
from gateway.upstream.refused_keys import RefusedKeys
from gateway.web.dashboard import charts, words
from gateway.web.provider_health import KnownHealth

_REGION: Final = re.compile(r"(?:^|\.)([a-z]{2,4}(?:-[a-z]+)+-\d)(?:\.|$)")
"""Pattern for a cloud region in a host name, such as us-east-1 in bedrock-runtime.us-east-1.amazonaws.com."""

NO_MODELS: Final = Models(buckets=(), rows=())


class ModelLine(msgspec.Struct, frozen=True):
    name: str
    input: str
    """The price of input, in dollars per million tokens, or "unknown"."""
    output: str
    granted: bool
    calls: ModelRow | None = None
    """The model's sums (calls, tokens, cost, ...) and health. The value is None if the model was not called in the
    range of time.
    """
    health: KnownHealth | None = None
    """The last success and the last error of the model, even outside of the page's range of time. The value is None for
    a model of a disabled provider.
    """
    course: str = ""
    """Points of a line chart of the errors over time. The value is "" if there was no error."""
    state: str = ""
    """The state of the circuit breaker in words. It is "" if calls are sent to the model as usual."""

    @property
    def failed_last(self) -> bool:
        """Whether the last call of the model failed."""
        known = self.health
        return known is not None and (known.last_error_at or 0.0) > (known.last_success_at or 0.0)


@dataclass(frozen=True, slots=True)
class ProviderCard:
    """The values on the card of a provider. Only the host of the provider's URL is shown."""

    id: str
    name: str
    description: str
    host: str
    region: str
    flags: tuple[str, ...]
    cost_basis: str
    disabled: bool
    key_refused: bool
    """True if the provider refused the gateway's key and has not served a call since then."""
    refused_keys: tuple[str, ...]
    """The names of the refused keys, if the provider has several."""
    models: tuple[ModelLine, ...]
    discovers: bool = False
    """Whether the gateway asks the provider for its models."""
    listed: KnownList | None = None
    """The provider's own list of models. The value is None if the list is not known."""
    search_failure: str = ""
    """The reason why the last request for the provider's models failed. It is "" if it did not fail."""

    @property
    def failed_last(self) -> int:
        """The number of models whose last call failed."""
        return sum(line.failed_last for line in self.models)

    @property
    def is_used(self) -> bool:
        """Whether any of the models was ever called."""
        return any(line.health is not None and line.health.is_used for line in self.models)


def provider_cards(
    providers: Iterable[Provider],
    granted: Collection[tuple[str, str]],
    prices: Prices,
    keys: RefusedKeys,
    *,
    everything: bool,
    models: Models = NO_MODELS,
    health: Iterable[KnownHealth] = (),
) -> list[ProviderCard]:
    """Return the cards of providers, in the order of the configuration.

    If `everything` is true, all providers and models are shown. If not, only the models in `granted` and their
    providers are shown. `granted` has pairs (provider id, model), without disabled providers. `keys` has the API keys
    that a provider has refused. `models` has the sums over the calls in the page's range of time.
    """
    rows = {(row.provider, row.model): row for row in models.rows}
    states = {(state.standing.provider, state.standing.model): state for state in health}
    cards = []
    for provider in providers:
        lines = tuple(
            _line(
                provider,
                model,
                prices,
                granted=(provider.id, model) in granted,
                row=rows.get((provider.id, model)),
                health=states.get((provider.id, model)),
            )
            for model in provider.models
            if everything or (provider.id, model) in granted
        )
        if lines or everything:
            cards.append(_card(provider, lines, keys.names(provider)))
    return cards


def with_lists(
    cards: Iterable[ProviderCard], providers: Mapping[str, Provider], discovered: DiscoveredModels
) -> list[ProviderCard]:
    """Return the cards, each with the list of models that the provider returned, or with the reason why there is no
    list.

    Only admins may see these cards.
    """
    return [
        replace(
            card,
            listed=discovered.list_of(providers[card.id]),
            search_failure=discovered.failures.get(card.id, ""),
        )
        if card.discovers
        else card
        for card in cards
    ]


def _card(provider: Provider, lines: tuple[ModelLine, ...], refused: Sequence[str]) -> ProviderCard:
    host = urlsplit(provider.baseurl).hostname or ""
    return ProviderCard(
        id=provider.id,
        name=provider.name or provider.id,
        description=provider.description,
        host=host,
        region=region(host),
        flags=tuple(provider.flags),
        cost_basis=provider.cost_basis or "",
        disabled=provider.disabled,
        key_refused=bool(refused),
        refused_keys=tuple(name for name in refused if name),
        models=lines,
        discovers=provider.discovers,
    )


def _line(
    provider: Provider,
    model: str,
    prices: Prices,
    *,
    granted: bool,
    row: ModelRow | None = None,
    health: KnownHealth | None = None,
) -> ModelLine:
    priced = prices.of(provider, model)
    return ModelLine(
        name=model,
        input=words.price(priced.unit("input") if priced else None),
        output=words.price(priced.unit("output") if priced else None),
        granted=granted,
        calls=row,
        health=health,
        state=health.summary if health is not None and health.standing.state != "closed" else "",
        course=charts.spark(row.errors) if row is not None and any(row.errors) else "",
    )


def region(host: str) -> str:
    """Return the region in a host's name, or "" if there is none."""
    match = _REGION.search(host)
    return match[1] if match else ""


def curl(base: str, model: str) -> str:
    """Return a shell command that sends a chat request to a model."""
    body = orjson.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}]}).decode()
    return (
        f"curl {shlex.quote(base + '/v1/chat/completions')} \\\n"
        '  -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(body)}"
    )
