"""Capabilities: what one object of a grant gives, wherever the grant was written.

The tailnet policy may hold grants too; tailscaled tells them with the caller, as a map of capability names to lists of
objects (`CapMap`). They are checked as those of the file are, but a policy is not ours to refuse: what is wrong in it
gives nothing, and is told. Who is calling and what it may do is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.config.check import check
from gateway.config.document.hujson import Document, Path
from gateway.config.findings import Report
from gateway.config.model import Capability, Permission
from gateway.config.schema import CAPABILITIES, CapabilitySection
from gateway.config.sections.quotas import Charges, charges

PERMISSIONS: Final[tuple[Permission, ...]] = ("read_metrics", "read_pricing")
POLICY: Final = "tailnet policy"


def capability(section: CapabilitySection, origin: str, charged: Charges | None) -> Capability:
    """What a sound object gives. `charged` are its quotas and limits; None if one has a fault: it gives nothing then.

    Without a limit that somebody meant to set it would give more than it says.
    """
    if charged is None:
        return Capability(origin=origin)
    permissions = frozenset(name for name in PERMISSIONS if getattr(section, name))
    given = (section.role, section.models, permissions, section.add_headers)
    return Capability(*given, quotas=charged.quotas, rate_limits=charged.rate_limits, origin=origin)


def policy_capabilities(app: Mapping[str, Any]) -> tuple[tuple[Capability, ...], tuple[str, ...]]:
    """The capabilities in a `CapMap`, and a message for each thing in it that is wrong or has no effect.

    Items with a fault give nothing; the others count. Raises nothing, whatever the shape.
    """
    found: list[Capability] = []
    messages: list[str] = []
    for name in CAPABILITIES if isinstance(app, Mapping) else ():
        items = app.get(name)
        if not isinstance(items, list | tuple):
            messages += [f"{POLICY}, {name}: must be a list"] if items is not None else []
            continue
        for index, item in enumerate(items):
            origin = f"{POLICY}, {name}[{index}]"
            given, wrong = _item(item, origin)
            found += [given] if given else []
            messages += wrong
    return tuple(found), tuple(messages)


def _item(raw: Any, origin: str) -> tuple[Capability | None, list[str]]:
    """Positions mean nothing here, so every part of the item stands at 0; their paths are what is told."""
    report = Report("", Document("", raw, dict.fromkeys(_paths(raw), 0)))
    section = check(CapabilitySection, raw, (), report)
    given = capability(section, origin, charges(section, (), report)) if section else None
    messages = [": ".join(filter(None, (origin, finding.path, finding.message))) for finding in report.found]
    return (None if report.failed else given), messages


def _paths(raw: Any) -> Iterator[Path]:
    """Of members, of the elements of lists in them, and of their members: no fault lies deeper."""
    for key, value in raw.items() if isinstance(raw, dict) else ():
        yield (key,)
        for index, item in enumerate(value) if isinstance(value, list) else ():
            yield (key, index)
            yield from ((key, index, name) for name in (item if isinstance(item, dict) else ()))
