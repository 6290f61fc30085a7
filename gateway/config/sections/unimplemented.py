"""Checks keys that have no effect yet: `hooks`, `exporters`, `mcp`, `connectors`.

Their sections are in `unimplemented_model.py`; here is what is said of a whole, and which names grants refer to. No
value is made of them. Wording and severity follow the hosted product (aperture.md section 1.12): what it warns of,
warns.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.config.document.hujson import Path
from gateway.config.findings import Report
from gateway.config.reading import Reading
from gateway.config.schema import CapabilitySection, TopSection
from gateway.config.sections.unimplemented_model import (
    ConnectorSection,
    ConnectorsSection,
    ExportersSection,
    HookSection,
    McpSection,
    McpServerSection,
    S3Section,
    SendHookSection,
)

RESERVED: Final = ("aperture", "tailscale", "internal")
"""Names that no connector may have."""

_CONNECTOR: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9]*")


def check_planned(top: TopSection, reading: Reading) -> None:
    """Every section of the top that has no effect yet."""
    for name, raw in top.hooks.items():
        _check_hook(raw, ("hooks", name), reading)
    _check_exporters(top.exporters, reading)
    reading.section(McpSection, top.mcp, ("mcp",))
    for name, raw in _members(top.mcp, "servers").items():
        reading.section(McpServerSection, raw, ("mcp", "servers", name))
    reading.section(ConnectorsSection, top.connectors, ("connectors",))
    for name, raw in _members(top.connectors, "servers").items():
        _check_connector(name, raw, ("connectors", "servers", name), reading)


def check_references(section: CapabilitySection, path: Path, top: TopSection, reading: Reading) -> None:
    """What a capability refers to: hooks, servers of tools."""
    for index, raw in enumerate(section.send_hooks):
        place = (*path, "send_hooks", index)
        hook = reading.section(SendHookSection, raw, place)
        if hook and hook.name not in top.hooks:
            hint = reading.report.hint(hook.name, top.hooks)
            reading.report.warn((*place, "name"), f'send_hooks references undefined hook "{hook.name}"{hint}')
    if top.mcp.get("accept_registrations") is not True:
        servers = (_members(top.mcp, "servers"), _members(top.connectors, "servers"))
        for key in ("mcp_tools", "mcp_resources", "mcp_templates"):
            _check_patterns(key, getattr(section, key), servers, (*path, key), reading.report)


def _check_patterns(
    key: str, patterns: Iterable[str], servers: Sequence[Collection[str]], path: Path, report: Report
) -> None:
    """Servers that register themselves have names that nobody knows before; where they may, this is not asked."""
    for pattern in patterns:
        head, slash, _ = pattern.partition("/")
        if slash and "*" not in head and not any(head in names for names in servers):
            message = f'{key} pattern "{pattern}" references server "{head}" which does not match any declared server'
            report.warn(path, message + report.hint(head, *servers))


def _check_hook(raw: Any, path: Path, reading: Reading) -> None:
    section = reading.section(HookSection, raw, path)
    if section is None:
        return
    if not section.url:
        reading.report.warn(path, "no url configured")
    elif not _is_web_address(section.url):
        reading.report.warn((*path, "url"), "invalid scheme; write an http or https URL")


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.netloc)


def _check_exporters(raw: Mapping[str, Any], reading: Reading) -> None:
    path: Path = ("exporters", "s3")
    reading.section(ExportersSection, raw, path[:1])
    section = reading.within(S3Section, raw, path)
    if section.prefix.endswith("/"):
        reading.report.warn((*path, "prefix"), "must not end with a slash")
    if bool(section.access_key_id) != bool(section.access_secret):
        reading.report.warn(path, '"access_key_id" and "access_secret" belong together; write both or neither')


def _check_connector(name: str, raw: Any, path: Path, reading: Reading) -> None:
    reading.section(ConnectorSection, raw, path)
    if not _CONNECTOR.fullmatch(name):
        reading.report.warn(path, "a connector's id is a letter followed by letters and digits")
    elif name in RESERVED:
        reading.report.warn(path, "this id is reserved; choose another")


def _members(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object inside of a section that may have faults."""
    inner = raw.get(key)
    return inner if isinstance(inner, dict) else {}
