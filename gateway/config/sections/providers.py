"""Reads `providers`: upstreams with their addresses, keys and models."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.config.document.hujson import Path
from gateway.config.document.secrets import KEYFILE
from gateway.config.model import AuthMode, Provider
from gateway.config.reading import Reading
from gateway.config.schema import ProviderSection
from gateway.config.sections.capabilities import BetasSection, CapabilitiesSection
from gateway.config.sections.prices import read_cost_rules
from gateway.contract.capabilities import Caps, fits

DOCUMENTED_FLAGS: Final = (
    "openai_chat",
    "openai_responses",
    "anthropic_messages",
    "gemini_generate_content",
    "google_generate_content",
    "google_raw_predict",
    "bedrock_model_invoke",
    "bedrock_converse",
    "experimental_gemini_cli_vertex_compat",
)
"""Flags of the hosted product; what this gateway really has, the registry knows."""

_CAPABILITIES: Final = tuple(field.name for field in fields(Caps))
_AWS: Final = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
"""How the hosts of Bedrock's endpoints end: bedrock-runtime's, and bedrock-mantle's."""

DEFAULT_FLAG: Final = "openai_chat"
DEFAULT_MODE: Final[AuthMode] = "override"


def enabled_flags(compatibility: Mapping[str, bool] | None, known: Collection[str]) -> tuple[str, ...]:
    """The flags that are on.

    The documents of the hosted product differ on the default; the rule that fits all of them: `openai_chat` is on
    without a block, and off when the block sets another flag and does not mention it.
    """
    block = compatibility or {}
    on = [flag for flag, value in block.items() if value]
    if not on and DEFAULT_FLAG not in block:
        on = [DEFAULT_FLAG]
    return tuple(flag for flag in on if flag in known)


def read_providers(raw: Mapping[str, Any], reading: Reading) -> Mapping[str, Provider]:
    """Those without faults."""
    providers = {id_: _provider(id_, value, reading) for id_, value in raw.items()}
    return MappingProxyType({id_: provider for id_, provider in providers.items() if provider})


def _provider(id_: str, raw: Any, reading: Reading) -> Provider | None:
    path: Path = ("providers", id_)
    if not id_.strip() or not id_.isprintable() or set("/* ") & set(id_):
        reading.report.error(path, 'a provider\'s key is one word without "/" and "*", such as "bedrock-us"')
    apikey = reading.secret(raw.get("apikey") if isinstance(raw, dict) else None, (*path, "apikey"))
    section = reading.section(ProviderSection, raw, path)
    if section is None:
        return None
    _check_flags(section.compatibility or {}, (*path, "compatibility"), reading)
    _check_base_models(section, (*path, "base_models"), reading)
    capabilities = _capabilities(section, (*path, "capabilities"), reading)
    betas = _betas(section, (*path, "anthropic_betas"), reading)
    rules = read_cost_rules(section.model_cost_map, (*path, "model_cost_map"), reading)
    usable = bool(section.baseurl) and not section.apikey.startswith(KEYFILE)
    return Provider(
        id=id_,
        baseurl=section.baseurl,
        models=tuple(dict.fromkeys(section.models)),
        apikey=apikey,
        authorization=section.authorization,
        auth_mode=section.auth_mode or DEFAULT_MODE,
        cost_basis=section.cost_basis or None,
        model_cost_map=rules,
        base_models=MappingProxyType(section.base_models),
        flags=enabled_flags(section.compatibility, reading.known_flags),
        capabilities=capabilities,
        options=MappingProxyType({**section.options, **({"anthropic_betas": betas} if betas else {})}),
        name=section.name,
        description=section.description,
        disabled=section.disabled or not usable,
        preference=section.preference,
        add_headers=section.add_headers,
        on_loss=section.on_loss,
    )


def _check_flags(compatibility: Mapping[str, bool], path: Path, reading: Reading) -> None:
    """A flag of the hosted product that is switched off here loses nothing and needs no warning."""
    known = ", ".join(sorted(reading.known_flags))
    for flag, value in compatibility.items():
        documented = flag in DOCUMENTED_FLAGS
        if flag not in reading.known_flags and (value or not documented):
            fault = "not supported yet" if documented else "unknown flag"
            message = f"{fault}; it has no effect; there are {known}{reading.report.hint(flag, reading.known_flags)}"
            reading.report.warn((*path, flag), message)


def _check_base_models(section: ProviderSection, path: Path, reading: Reading) -> None:
    models = frozenset(section.models)
    for name in section.base_models:
        if name not in models:
            hint = reading.report.hint(name, section.models)
            reading.report.warn((*path, name), f'is not among the provider\'s "models"; it has no effect{hint}')


def _capabilities(section: ProviderSection, path: Path, reading: Reading) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """What each pattern changes, in the document's order, without those that have faults."""
    found = []
    for pattern, raw in section.capabilities.items():
        place = (*path, pattern)
        for name in raw if isinstance(raw, dict) else ():
            if name not in _CAPABILITIES:
                hint = reading.report.hint(name, _CAPABILITIES)
                known = ", ".join(_CAPABILITIES)
                reading.report.error((*place, name), f"is no capability{hint}; there are {known}")
        if reading.report.patient(len(section.models)) and not any(
            fits(pattern, model, section.base_models.get(model, model)) for model in section.models
        ):
            reading.report.warn(place, 'fits none of the provider\'s "models"; it has no effect')
        if (checked := reading.section(CapabilitiesSection, raw, place)) is not None:
            found.append((pattern, MappingProxyType(checked.model_dump(exclude_none=True))))
    return tuple(found)


def _betas(section: ProviderSection, path: Path, reading: Reading) -> dict[str, Any]:
    """What plugins are told of betas; {} where the provider is as any other."""
    checked = reading.section(BetasSection, section.anthropic_betas, path) or BetasSection.model_validate({})
    found = checked.model_dump(exclude_none=True, exclude_defaults=True)
    if checked.envelope is None and (urlsplit(section.baseurl).hostname or "").endswith(_AWS):
        found["envelope"] = "mantle"
    return found
