"""Reads `grants` and the older `temp_grants`: who gets which capabilities.

What one capability object gives is in `grant_capabilities.py`, for the tailnet policy has such objects too; who matches
a grant and what it then allows is in `gateway.access.grants`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from gateway.config import advice
from gateway.config.document.hujson import Path, dotted
from gateway.config.model import Capability, Grant
from gateway.config.reading import Reading
from gateway.config.schema import (
    CAPABILITIES,
    CapabilitySection,
    GrantSection,
    OldItemSection,
    OldModelSection,
    TempGrantSection,
    TopSection,
)
from gateway.config.sections.grant_capabilities import capability
from gateway.config.sections.quotas import charges, check_quotas
from gateway.config.sections.unimplemented import check_references


def read_grants(top: TopSection, reading: Reading) -> tuple[Grant, ...]:
    """The grants without faults, those of `temp_grants` last."""
    if top.temp_grants:
        reading.report.warn(("temp_grants",), 'deprecated; write it as "grants"')
    found = [
        *(_grant(raw, ("grants", index), top, reading) for index, raw in enumerate(top.grants)),
        *(_temp_grant(raw, ("temp_grants", index), top, reading) for index, raw in enumerate(top.temp_grants)),
    ]
    return tuple(grant for grant in found if grant)


def _grant(raw: Any, path: Path, top: TopSection, reading: Reading) -> Grant | None:
    section = reading.section(GrantSection, raw, path)
    advice.idle_sources(section.src if section else (), (*path, "src"), reading.report)
    capabilities = tuple(_capabilities(raw, path, top, reading))
    return Grant(section.src, capabilities) if section else None


def _temp_grant(raw: Any, path: Path, top: TopSection, reading: Reading) -> Grant | None:
    """Both generations: capabilities stand in `app`, as today, or in a list."""
    section = reading.section(TempGrantSection, raw, path)
    if section is None:
        return None
    advice.idle_sources(section.src, (*path, "src"), reading.report)
    if section.app is None and not section.grants:
        reading.report.warn(path, 'has neither "grants" nor "app"; it gives nothing')
    old = (_old_item(item, (*path, "grants", index), top, reading) for index, item in enumerate(section.grants))
    capabilities = (*_capabilities(raw, path, top, reading), *filter(None, old))
    return Grant(section.src, capabilities)


def _capabilities(raw: Any, path: Path, top: TopSection, reading: Reading) -> Iterator[Capability]:
    """Of a grant's `app`, read also where the grant has other faults, so that all are told."""
    app = raw.get("app") if isinstance(raw, dict) else None
    for name, items in app.items() if isinstance(app, dict) else ():
        inner = (*path, "app", name)
        if name not in CAPABILITIES:
            known = " and ".join(f'"{capability}"' for capability in CAPABILITIES)
            reading.report.warn(inner, f"not supported yet; only {known} are read")
        elif isinstance(items, list):
            for index, item in enumerate(items):
                section = reading.section(CapabilitySection, item, (*inner, index))
                if section is not None:
                    yield _checked(section, (*inner, index), top, reading)


def _checked(section: CapabilitySection, path: Path, top: TopSection, reading: Reading) -> Capability:
    advice.idle_patterns(section.models, top.providers, (*path, "models"), reading.report)
    check_references(section, path, top, reading)
    check_quotas(section, path, top.quotas, reading.report)
    origin = f"{dotted(path)} ({reading.report.file}:{reading.report.at(path)})"
    return capability(section, origin, charges(section, path, reading.report))


def _old_item(raw: Any, path: Path, top: TopSection, reading: Reading) -> Capability | None:
    """`providers` become patterns: no model means all of a provider's, no provider means any."""
    section = reading.section(OldItemSection, raw, path)
    if section is None:
        return None
    patterns: list[str] = []
    for index, item in enumerate(section.providers):
        place = (*path, "providers", index)
        named = reading.section(OldModelSection, item, place)
        if named is not None:
            pattern = f"{named.provider or '*'}/{named.model or '**'}"
            advice.idle_patterns([pattern], top.providers, place, reading.report)
            patterns.append(pattern)
    given = _checked(section, path, top, reading)
    return replace(given, models=(*given.models, *patterns))
