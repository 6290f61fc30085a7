"""Warnings about a configuration that is valid but will not do what its author expects.

Each check compares parts of the document with each other, such as grants with providers. Errors within one section are
found when the section is read. A warning never stops the gateway from starting.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from gateway.config.advice_bedrock import advise_bedrock
from gateway.config.advice_grants import aliased, idle_quotas, shared_buckets, ungranted_headers
from gateway.config.advice_keys import advise_key
from gateway.config.advice_limits import advise_limits
from gateway.config.document.hujson import Path
from gateway.config.findings import Report
from gateway.config.model import Config, Provider
from gateway.config.server import Mode
from gateway.contract.capabilities import geo
from gateway.contract.flag import BY_REGION
from gateway.contract.globs import covers_provider
from gateway.money.prices.table import BASES, Prices, compile_glob, inferred, price_keys

REGIONS: Final[Mapping[str, frozenset[str]]] = {
    "bedrock-us": frozenset({"", "us", "global"}),
    "bedrock-eu": frozenset({"", "eu", "global"}),
    "bedrock-ap": frozenset({"", "apac", "jp", "au", "in", "global"}),
    "bedrock-us-gov": frozenset({"", "us-gov"}),
}
"""Maps a price list to the region prefixes of the model ids in this list. "" stands for an id without a prefix.

For example, the price of `eu.amazon.nova-lite-v1:0` is in `bedrock-eu`. If a model's prefix does not fit the configured
list, the price is taken from the list that fits the prefix.
"""
POLICY_MODES: Final[frozenset[Mode]] = frozenset({"whois", "proxy-protocol", "serve-headers"})
"""Identity modes in which callers may have grants in the tailnet policy too. The checks cannot see these grants."""


def advise(config: Config, report: Report) -> None:
    _no_access(config, report)
    _anybody(config, report)
    advise_limits(config.server.limits, report)
    prices = Prices.load(config.prices, infer=config.auto_cost_basis)
    for provider in config.providers.values():
        _unused_provider(provider, report)
        _unknown_cost(provider, config, report)
        _other_region(provider, report)
        advise_key(provider, report)
        advise_bedrock(provider, prices, report)
        _idle_rules(provider, config, prices, report)
    _shared_models(config, report)
    idle_quotas(config, report, policy=_has_policy(config))
    ungranted_headers(config, report, policy=_has_policy(config))
    shared_buckets(config, report)


def _no_access(config: Config, report: Report) -> None:
    if report.failed:
        # sections with faults are left out, so a provider or grant that is missing here may be in the document
        return
    unless = "unless the tailnet policy says otherwise, " if _has_policy(config) else ""
    if not config.providers:
        report.warn((), "no providers defined; users will not be able to access any models")
    elif not config.grants:
        report.warn((), f'providers are configured but no "grants"; {unless}everyone will be denied')
    elif not any(
        capability.role == "admin" for grant in config.grants if grant.src for capability in grant.capabilities
    ):
        lacking = "no grant in grants or temp_grants assigns role:admin"
        report.warn((), f"{lacking}; {unless}nobody will be able to manage this instance")


def _has_policy(config: Config) -> bool:
    return any(listener.identity in POLICY_MODES for listener in config.server.listeners)


def _anybody(config: Config, report: Report) -> None:
    """Warn of a listener that accepts the PROXY protocol from every process of this machine.

    Such a listener has the mode `proxy-protocol` and a TCP address, but no `proxies`.
    """
    if report.failed:
        # listeners with faults are left out, so the indexes of the others differ from those in the document
        return
    for index, listener in enumerate(config.server.listeners):
        if listener.identity == "proxy-protocol" and not listener.proxies and not listener.unix:
            local = "::1" if ":" in listener.host else "127.0.0.1"
            report.warn(
                ("server", "listeners", index),
                'no "proxies", so every process of this machine can speak for anybody here; '
                f'write "proxies": ["{local}"] if that is meant',
            )


def _unused_provider(provider: Provider, report: Report) -> None:
    path: Path = ("providers", provider.id)
    if not provider.baseurl:
        report.warn(path, "no baseurl configured; the provider is left out of routing")
    if not provider.models and not provider.discovers:
        report.warn(path, 'no "models" configured; nothing can be asked of the provider')
    if not provider.flags:
        report.warn((*path, "compatibility"), "no known flag is enabled; nothing can be asked of the provider")
    if provider.auth_mode == "none" and provider.has_credential:
        key = next((key for key in ("apikey", "apikeys") if (*path, key) in report.document.offsets), "authorization")
        report.warn((*path, key), 'has no effect with "auth_mode": "none"; leave one of them out')
    if (
        provider.auth_mode == "override"
        and not provider.has_credential
        and not ((*path, "apikey") in report.document.offsets or (*path, "apikeys") in report.document.offsets)
    ):
        report.warn(path, 'no apikey configured; requests go without one (write "apikey": "" if that is meant)')


def _unknown_cost(provider: Provider, config: Config, report: Report) -> None:
    """Warn if the costs of a provider's calls are unknown because of its price list. They are unknown in three cases:

    - A Bedrock provider names no price list. Bedrock's prices vary by region, so no list can be implied (Aperture's
      documentation).
    - A provider names no price list, and `auto_cost_basis` is off. So the list that its compatibility flags (API
      formats) imply is not used.
    - The gateway does not have the price list that a provider names.
    """
    path: Path = ("providers", provider.id)
    known = ", ".join(BASES)
    if provider.cost_basis is None:
        named = () if config.auto_cost_basis else inferred(provider.price_lists)
        if named or BY_REGION in provider.price_lists:
            report.warn(
                path,
                f"no cost_basis configured, so costs are unknown; there are prices for {known}",
            )
    elif provider.cost_basis not in BASES:
        hint = report.hint(provider.cost_basis, BASES)
        message = f"no prices are known for this price list, so costs are unknown; there are prices for {known}{hint}"
        report.warn((*path, "cost_basis"), message)


def _other_region(provider: Provider, report: Report) -> None:
    """Warn if a model of the provider has a region prefix that does not fit the configured price list.

    Such a model is priced by its prefix, and not by the list.
    """
    fitting = REGIONS.get(provider.cost_basis or "")
    other = next((model for model in provider.models if fitting and geo(model) not in fitting), None)
    if other is not None:
        report.warn(
            ("providers", provider.id, "cost_basis"),
            f'does not fit "{other}", which is priced by its own prefix; write "bedrock" for models of several regions',
        )


def _idle_rules(provider: Provider, config: Config, prices: Prices, report: Report) -> None:
    """Warn of the rules in `model_cost_map` that have no effect.

    A rule has no effect if earlier rules match all its models, or if no price is known for the model that its key `as`
    names.
    """
    if provider.discovers:
        return  # its models are not known yet
    left = dict.fromkeys(provider.models)
    for index, rule in enumerate(provider.model_cost_map):
        if not report.patient(len(left) + index):
            return
        path: Path = ("providers", provider.id, "model_cost_map", index)
        mine = [model for model in left if compile_glob(rule.match).fullmatch(model)]
        if not mine:
            report.warn((*path, "match"), "matches no model of the provider that a rule before it does not match")
        elif rule.priced_as and not any(
            prices.find(*where) for where in price_keys(provider, mine[0], infer=config.auto_cost_basis)
        ):
            report.warn((*path, "as"), 'no price is known for it; write a model of the price list, or "basis/model"')
        for model in mine:
            del left[model]


def _shared_models(config: Config, report: Report) -> None:
    first: dict[tuple[str, int], str] = {}
    for provider in config.providers.values():
        if provider.disabled:
            continue
        # a model may be written twice; the warning points at the first place
        written = report.document.value["providers"][provider.id].get("models") or ()
        places = {model: index for index, model in reversed(list(enumerate(written)))}
        for model in provider.models:
            other = first.setdefault((model, provider.preference), provider.id)
            if other != provider.id:
                report.warn(
                    ("providers", provider.id, "models", places[model]),
                    f'provider "{other}" has this model too, with the same preference; it stands first and gets '
                    'the calls (set "preference" to decide)',
                )


def idle_patterns(patterns: Iterable[str], providers: Collection[str], path: Path, report: Report) -> None:
    """Warn of the model patterns of a grant (its key `models`) that match no provider.

    `path` is the path of the key. Its value is one pattern or a list of patterns.
    """
    for index, pattern in enumerate(patterns):
        place = (*path, index) if (*path, index) in report.document.offsets else path
        head, slash, _ = pattern.partition("/")
        if targets := aliased(pattern, report.document.value):
            report.warn(
                place,
                f'models pattern "{pattern}" names a model alias, which matches nothing: aliases are resolved before '
                f"grants are read; write {targets}",
            )
        elif not slash and head != "**":
            report.warn(place, f'models pattern "{pattern}" can match nothing; write it as "provider/model"')
        elif _is_idle(pattern, head, providers, report):
            message = (
                f'models pattern "{pattern}" references provider "{head}" which does not match any declared provider'
            )
            report.warn(place, message + report.hint(head, providers))


def _is_idle(pattern: str, head: str, providers: Collection[str], report: Report) -> bool:
    """Return whether a pattern such as `PROVIDER/MODEL` certainly matches no provider.

    `head` is the part of the pattern before the first slash. Return False if the comparisons would take too long.
    """
    if "*" not in head:
        return head not in providers
    if head.strip("*") == "":
        return not providers
    return report.patient(len(providers)) and not any(covers_provider(pattern, provider) for provider in providers)
