"""Warnings about a configuration that is valid, and will still not do what its author expects.

Each check looks at the whole: providers beside each other, grants beside providers. What is wrong within one section is
found before, and nothing here stops a start.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from gateway.config.findings import Report, closest
from gateway.config.hujson import Path
from gateway.config.model import Config, Mode, Provider
from gateway.grants import covers_provider
from gateway.prices.table import BASES

REGIONAL: Final = "bedrock_"
"""How the flags begin of providers whose prices depend on the region."""
POLICY_MODES: Final[frozenset[Mode]] = frozenset({"whois", "proxy-protocol", "serve-headers"})
"""Identity modes whose callers may have grants from the tailnet policy, which nobody sees from here."""
POLICY_ONLY: Final = ("autogroup:", "ipset:", "svc:")
"""Sources that mean something to tailscaled alone."""


def advise(config: Config, report: Report) -> None:
    _no_access(config, report)
    for provider in config.providers.values():
        _unused_provider(provider, report)
        _unknown_cost(provider, report)
    _shared_models(config, report)


def _no_access(config: Config, report: Report) -> None:
    if report.failed:
        # sections with faults are missing from the configuration, which says nothing about what they will hold
        return
    if not config.providers:
        report.warn((), "no providers defined; users will not be able to access any models")
    elif any(listener.identity in POLICY_MODES for listener in config.server.listeners):
        return
    elif not config.grants:
        report.warn((), 'providers are configured but no "grants"; everyone will be denied')
    elif not any(
        capability.role == "admin" for grant in config.grants if grant.src for capability in grant.capabilities
    ):
        message = "no grant in grants or temp_grants assigns role:admin; nobody will be able to manage this instance"
        report.warn((), message)


def _unused_provider(provider: Provider, report: Report) -> None:
    path: Path = ("providers", provider.id)
    if not provider.baseurl:
        report.warn(path, "no baseurl configured; the provider is left out of routing")
    if not provider.models:
        report.warn(path, 'no "models" configured; nothing can be asked of the provider')
    if not provider.flags:
        report.warn((*path, "compatibility"), "no known flag is enabled; nothing can be asked of the provider")
    if provider.auth_mode == "none" and provider.apikey:
        report.warn((*path, "apikey"), 'has no effect with "auth_mode": "none"; leave one of them out')
    if provider.auth_mode == "override" and (*path, "apikey") not in report.document.offsets:
        report.warn(path, 'no apikey configured; requests go without one (write "apikey": "" if that is meant)')


def _unknown_cost(provider: Provider, report: Report) -> None:
    """Bedrock's prices vary by region, so its price list must be named (the product page says so); a local server has
    none to name. A list that the hosted product has may still have no prices here.
    """
    path: Path = ("providers", provider.id)
    known = ", ".join(BASES)
    if provider.cost_basis is None:
        if any(flag.startswith(REGIONAL) for flag in provider.flags):
            report.warn(
                path,
                f"no cost_basis configured, so costs are unknown; there are prices for {known}",
            )
    elif provider.cost_basis not in BASES:
        hint = closest(provider.cost_basis, BASES)
        message = f"no prices are known for this price list, so costs are unknown; there are prices for {known}{hint}"
        report.warn((*path, "cost_basis"), message)


def _shared_models(config: Config, report: Report) -> None:
    first: dict[tuple[str, int], str] = {}
    for provider in config.providers.values():
        for model in () if provider.disabled else provider.models:
            other = first.setdefault((model, provider.preference), provider.id)
            if other != provider.id:
                index = report.document.value["providers"][provider.id]["models"].index(model)
                report.warn(
                    ("providers", provider.id, "models", index),
                    f'provider "{other}" has this model too, with the same preference; it stands first and gets '
                    'the calls (set "preference" to decide)',
                )


def idle_patterns(patterns: Iterable[str], providers: Collection[str], path: Path, report: Report) -> None:
    """`path` is that of `models`, a string or a list."""
    for index, pattern in enumerate(patterns):
        place = (*path, index) if (*path, index) in report.document.offsets else path
        head, slash, _ = pattern.partition("/")
        if not slash and head != "**":
            report.warn(place, f'models pattern "{pattern}" can match nothing; write it as "provider/model"')
        elif not any(covers_provider(pattern, provider) for provider in providers):
            message = (
                f'models pattern "{pattern}" references provider "{head}" which does not match any declared provider'
            )
            report.warn(place, message + closest(head, providers))


def idle_sources(sources: Iterable[str], path: Path, report: Report) -> None:
    for index, source in enumerate(sources):
        if source.startswith(POLICY_ONLY):
            report.warn((*path, index), f'"{source}" exists in the tailnet policy only and matches nobody here')
