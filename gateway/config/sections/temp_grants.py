"""The deprecated section `temp_grants`: grants as older versions of Aperture had them.

They are read into the same type as current grants (`model.Grant`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from gateway.config import advice
from gateway.config.advice_grants import idle_sources
from gateway.config.document.hujson import Path
from gateway.config.fields import Name
from gateway.config.model import Capability, Grant
from gateway.config.reading import Reading
from gateway.config.section import Holds, Items, Planned, Section
from gateway.config.sections.grant_capabilities import CAPABILITIES, CapabilitySection
from gateway.config.sections.grants import Declared, app_capabilities, read_capability
from gateway.config.sections.hooks import NO_HOOKS


class OldModelSection(Section):
    """The models that a grant allows. Without `model`, all models are allowed. Without `provider`, the models of all
    providers are allowed.
    """

    provider: Name | None = Field(None, description='The provider\'s key: "bedrock"; by default, any provider.')
    model: Name | None = Field(None, description='The model: "us.amazon.nova-lite-v1:0"; by default, all models.')


class OldItemSection(CapabilitySection):
    """An entry of the list `grants` in a grant of an older form. It has the keys of a current capability, except that
    the key `providers` lists the allowed models. A current capability has the key `models` for this.
    """

    providers: Annotated[Items, Holds(OldModelSection, "list")] = Field(
        (), description='Models that may be used: [{"provider": "bedrock", "model": "us.amazon.nova-lite-v1:0"}].'
    )
    hook: Annotated[Planned, NO_HOOKS] = Field(
        None, description='A hook that is called for the calls of a grant: {"hook": "audit", "match": {}}.'
    )


class TempGrantSection(Section):
    """A grant in the form of older versions of Aperture. It has its capabilities in `app` (as current grants do) or in
    the list `grants`.
    """

    src: tuple[str, ...] = Field(
        strict=False, description='The callers, as in grants: ["group:eng"].', examples=['"src": ["*"]']
    )
    app: Annotated[dict[str, list[Any]] | None, Holds(CapabilitySection, "lists", CAPABILITIES)] = Field(
        None,
        description="The capabilities that these callers get, as in grants: "
        '{"tailscale.com/cap/aperture": [{"role": "user"}]}.',
    )
    grants: Annotated[Items, Holds(OldItemSection, "list")] = Field(
        (),
        description='The capabilities that these callers get: [{"role": "user"}, '
        '{"providers": [{"provider": "bedrock"}]}].',
    )


def read_temp_grants(raw: Sequence[Any], declared: Declared, reading: Reading) -> tuple[Grant, ...]:
    """Return the grants that have no fault, and warn that the section is deprecated."""
    if raw:
        reading.report.warn(("temp_grants",), 'deprecated; write it as "grants"')
    grants = [_read_grant(grant, ("temp_grants", index), declared, reading) for index, grant in enumerate(raw)]
    return tuple(grant for grant in grants if grant)


def _read_grant(raw: Any, path: Path, declared: Declared, reading: Reading) -> Grant | None:
    """Return a grant. Its capabilities are in `app` (as in current grants), in the list `grants`, or in both."""
    section = reading.section(TempGrantSection, raw, path)
    if section is None:
        return None
    idle_sources(section.src, (*path, "src"), reading.report)
    if section.app is None and not section.grants:
        reading.report.warn(path, 'has neither "grants" nor "app"; it gives nothing')
    old = (_read_item(item, (*path, "grants", index), declared, reading) for index, item in enumerate(section.grants))
    capabilities = (*app_capabilities(raw, path, declared, reading), *filter(None, old))
    return Grant(section.src, capabilities)


def _read_item(raw: Any, path: Path, declared: Declared, reading: Reading) -> Capability | None:
    """Return the capability that `raw` describes. `raw` is an element of the list `grants` in an entry of
    `temp_grants`.

    The capability has a list `providers`. Each element of this list becomes a pattern of models. An element without
    `model` means all models, and an element without `provider` means all providers.
    """
    section = reading.section(OldItemSection, raw, path)
    if section is None:
        return None
    patterns: list[str] = []
    for index, item in enumerate(section.providers):
        place = (*path, "providers", index)
        named = reading.section(OldModelSection, item, place)
        if named is not None:
            pattern = f"{named.provider or '*'}/{named.model or '**'}"
            advice.idle_patterns([pattern], declared.providers, place, reading.report)
            patterns.append(pattern)
    given = read_capability(section, path, declared, reading)
    return replace(given, models=(*given.models, *patterns))
