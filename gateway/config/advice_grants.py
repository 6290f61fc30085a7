"""Warnings about grants and quotas without effect: sources that match no caller, and quotas that no grant names."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network
from typing import Final

from gateway.config.document.hujson import Path
from gateway.config.findings import Report
from gateway.config.model import Config

POLICY_ONLY: Final = ("autogroup:", "ipset:", "svc:")
"""Prefixes of sources that only tailscaled can resolve."""
_TAGGED: Final = "tagged-devices"
"""The login that Tailscale shows for every tagged node."""


def idle_sources(sources: Iterable[str], path: Path, report: Report) -> None:
    """Warn of sources that match no caller."""
    for index, source in enumerate(sources):
        if fault := _fault(source):
            report.warn((*path, index), f'"{source}" {fault}')


def idle_quotas(config: Config, report: Report, *, policy: bool) -> None:
    """Warn of quotas that no grant names.

    With `policy`, grants of the tailnet policy may name these quotas. This check cannot see those grants, and the
    warning says so.
    """
    if report.failed:
        return
    capabilities = [capability for grant in config.grants for capability in grant.capabilities]
    named = {name for capability in capabilities for chain in capability.quotas for name in chain}
    unless = "; it has no effect unless the tailnet policy does" if policy else "; it has no effect"
    for name in config.quotas:
        if name not in named:
            report.warn(("quotas", name), f"no grant names the quota{unless}")


def _fault(source: str) -> str:
    """Return why a source matches no caller, or "" if it may match one."""
    if source.startswith(POLICY_ONLY):
        return "exists in the tailnet policy only and matches nobody here"
    tags = source.split(",")
    if len(tags) > 1 and source.startswith("tag:"):
        in_order = ",".join(sorted(set(tags)))
        return "" if source == in_order else f'matches nobody; tags stand in order, as in "{in_order}"'
    if source == _TAGGED:
        return 'matches nobody; name a tag of the nodes, such as "tag:ci"'
    if "*" in source and source != "*":
        return 'matches nobody, for a source is no pattern; write logins, a group, or "*"'
    if source.endswith("@"):
        return 'matches nobody; a login goes on behind "@", as in "alice@example.com"'
    if _is_address(source):
        return "matches nobody, for callers are known by login, group or tag and not by address"
    return ""


def _is_address(source: str) -> bool:
    try:
        ip_network(source, strict=False)
    except ValueError:
        return False
    return True
