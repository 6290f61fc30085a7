"""The section `grants`: who gets which capabilities.

`grant_capabilities.py` reads the capability objects of a grant and of the tailnet policy. `temp_grants.py` reads the
older section `temp_grants`. `gateway/access/` decides which grants match a caller.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from gateway.config import advice
from gateway.config.advice_grants import idle_headers, idle_sources
from gateway.config.document.hujson import Path, dotted_path
from gateway.config.model import Capability, Grant
from gateway.config.reading import Reading
from gateway.config.section import Holds, Section
from gateway.config.sections.charges import check_quotas
from gateway.config.sections.grant_capabilities import CAPABILITIES, CapabilitySection, capability, charges_of
from gateway.config.sections.hooks import check_send_hooks
from gateway.config.sections.tool_servers import ToolServers, check_tool_patterns


class GrantSection(Section):
    """Callers and the capabilities that they get. Everything that no grant allows is denied."""

    src: tuple[str, ...] = Field(
        strict=False,
        description='The callers: "*", a login, "group:NAME", "tag:NAME" or "(loopback)", such as ["group:eng"].',
        examples=['"src": ["*"]'],
    )
    app: Annotated[dict[str, list[Any]], Holds(CapabilitySection, "lists", CAPABILITIES)] = Field(
        description="The capabilities that these callers get: "
        '{"tailscale.com/cap/aperture": [{"role": "user"}, {"models": "**"}]}.',
        examples=['"app": {"tailscale.com/cap/aperture": [{"role": "user"}]}'],
    )


@dataclass(frozen=True, slots=True)
class Declared:
    """Names that other sections of the document declare. Grants may refer to these names."""

    providers: Collection[str]
    quotas: Collection[str]
    hooks: Collection[str]
    tools: ToolServers
    headers: Collection[str]
    """Headers whose values are recorded (`database.filterable`)."""


def read_grants(raw: Sequence[Any], declared: Declared, reading: Reading) -> tuple[Grant, ...]:
    """Return the grants that have no fault."""
    grants = [_read_grant(grant, ("grants", index), declared, reading) for index, grant in enumerate(raw)]
    return tuple(grant for grant in grants if grant)


def _read_grant(raw: Any, path: Path, declared: Declared, reading: Reading) -> Grant | None:
    section = reading.section(GrantSection, raw, path)
    idle_sources(section.src if section else (), (*path, "src"), reading.report)
    capabilities = tuple(app_capabilities(raw, path, declared, reading))
    return Grant(section.src, capabilities) if section else None


def app_capabilities(raw: Any, path: Path, declared: Declared, reading: Reading) -> Iterator[Capability]:
    """Yield the capabilities in a grant's `app`, even if other keys of the grant have faults. So all faults are
    reported at once.
    """
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
                    yield read_capability(section, (*inner, index), declared, reading)


def read_capability(section: CapabilitySection, path: Path, declared: Declared, reading: Reading) -> Capability:
    advice.idle_patterns(section.models, declared.providers, (*path, "models"), reading.report)
    check_send_hooks(section.send_hooks, (*path, "send_hooks"), declared.hooks, reading)
    for key in ("mcp_tools", "mcp_resources", "mcp_templates"):
        check_tool_patterns(key, getattr(section, key), declared.tools, (*path, key), reading.report)
    idle_headers(section.filterable_headers, declared.headers, (*path, "filterable_headers"), reading.report)
    check_quotas(section.quotas, path, declared.quotas, reading.report)
    origin = f"{dotted_path(path)} ({reading.report.file}:{reading.report.at(path)})"
    return capability(section, origin, charges_of(section, path, reading.report))
