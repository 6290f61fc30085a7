"""The compatibility flags (API formats) and paths that the gateway lists for launchers. Launchers are programs that
configure and start clients.

A provider's setting `advertise` decides which flags are listed.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.config.model import Provider
from gateway.contract.conversions import GENERATE, reachable
from gateway.contract.flag import Caps
from gateway.contract.registry import Plugin, Registry
from gateway.upstream.catalog import Offer


def advertised(registry: Registry, provider: Provider, models: Iterable[Caps]) -> list[str]:
    """Return the compatibility flags (API formats) that the gateway lists for a provider. The formats of the provider
    itself come first.

    Another format is listed only if its requests can be translated for at least one of the models.
    """
    if provider.advertise == ("native",):
        return list(provider.flags)
    flags = dict.fromkeys(provider.flags)
    for caps in dict.fromkeys(models):
        flags |= dict.fromkeys(reachable(registry, provider.flags, caps))
    return [flag for flag in flags if provider.advertise == ("reachable",) or flag in provider.advertise]


def endpoints(registry: Registry, offer: Offer) -> list[str]:
    """Return the paths at which clients can call a model. `{model}` stands for the model's name in a path."""
    flags = advertised(registry, offer.provider, [offer.caps])
    return [path for flag in flags if flag in registry.flags for path in _paths(registry.flags[flag])]


def _paths(plugin: Plugin) -> list[str]:
    """Return the paths at which an API generates text. Leave out paths outside the API's usual base URL."""
    base = plugin.client_api.bases[0] if plugin.client_api else ""
    paths = [route.path for route in plugin.routes if route.operation == GENERATE]
    usual = [path for path in paths if path.startswith(f"{base}/")]
    return [path.replace("{model:.+}", "{model}") for path in usual]
