"""Warnings about grants without effect, and about quotas and recorded headers that no grant names.

For example, a grant has no effect if its `src` matches no caller.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import ip_network
from typing import Any, Final

from gateway.config.document.hujson import Path
from gateway.config.fields import ALL_HEADERS
from gateway.config.findings import Report
from gateway.config.model import Config
from gateway.config.server import Mode
from gateway.money.quotas.definitions import template_of

POLICY_ONLY: Final = ("autogroup:", "ipset:", "svc:")
"""Prefixes of sources (entries of a grant's `src`) that only tailscaled can interpret."""
MAX_TARGETS: Final = 3
"""Maximum number of model names that a warning about an alias lists."""
MAX_NAMED: Final = 3
"""Maximum number of quotas that a warning names."""
_ONE_CALLER: Final[frozenset[Mode]] = frozenset({"loopback", "static"})
"""Identity modes in which all callers of a listener have the same login."""
_TAGGED: Final = "tagged-devices"
"""The login that Tailscale shows for every tagged node."""


def idle_sources(sources: Iterable[str], path: Path, report: Report) -> None:
    """Warn of entries of a grant's `src` that match no caller."""
    for index, source in enumerate(sources):
        if fault := _fault(source):
            report.warn((*path, index), f'"{source}" {fault}')


def idle_headers(granted: Iterable[str], recorded: Collection[str], path: Path, report: Report) -> None:
    """Warn of names in a grant's `filterable_headers` whose headers are not recorded. Such a name has no effect."""
    if report.failed:
        return
    for index, name in enumerate(granted):
        if name != ALL_HEADERS and name not in recorded:
            place = (*path, index) if (*path, index) in report.document.offsets else path
            report.warn(place, f'"{name}" is not in "filterable" of the section "database"; it has no effect')


def ungranted_headers(config: Config, report: Report, *, policy: bool) -> None:
    """Warn of recorded headers by which no caller can filter calls, because no grant names them in
    `filterable_headers`.

    If `policy` is true, grants in the tailnet policy may name these headers. This check cannot see such grants, and the
    warning says so.
    """
    if report.failed:
        return
    granted = {name for grant in config.grants for each in grant.capabilities for name in each.filterable_headers}
    unless = "unless the tailnet policy does, nobody" if policy else "nobody"
    for name in config.filterable_headers:
        if name not in granted and ALL_HEADERS not in granted:
            report.warn(
                ("database", "filterable"),
                f'no grant names "{name}" in "filterable_headers"; {unless} can filter by it',
            )


def idle_quotas(config: Config, report: Report, *, policy: bool) -> None:
    """Warn of quotas that no grant names.

    If `policy` is true, grants in the tailnet policy may name these quotas. This check cannot see such grants, and the
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


def shared_buckets(config: Config, report: Report) -> None:
    """Warn if all callers share quotas and rate limits that should count each caller separately, because all callers
    have the same login.

    This is so if every listener has the mode `loopback`, or if every listener has the mode `static` with the same
    login.
    """
    path: Path = ("server", "listeners")
    listeners = config.server.listeners
    if report.failed or path not in report.document.offsets or {each.identity for each in listeners} - _ONE_CALLER:
        return
    if len({each.login for each in listeners}) != 1:
        return
    capabilities = [capability for grant in config.grants for capability in grant.capabilities]
    chains = dict.fromkeys(name for each in capabilities for chain in each.quotas for name in chain)
    names = [f'the quota "{name}"' for name in chains if template_of(name)]
    named = [*names[:MAX_NAMED], *(["others"] if len(names) > MAX_NAMED else [])]
    if any(where[-1:] == ("per",) and "rate_limits" in where for where in report.document.offsets):
        named.append("the rate limits")
    if named:
        shared = " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
        remedy = 'set "identity": "whois", or write them without "<user>", "<node>" and "per"'
        report.warn(path, f"all callers have the same login here, so they share {shared}; {remedy}")


def aliased(pattern: str, document: Any) -> str:
    """Return advice for a grant whose `pattern` names a model alias: the patterns to write instead, joined by "or".
    Return "" for any other pattern.

    A grant must name the targets of the alias, because aliases are resolved before grants are checked (documentation of
    Aperture, Tailscale's AI gateway). `document` is the decoded configuration, which may have faults.
    """
    provider, _, name = pattern.rpartition("/")
    targets = _member(_member(_member(_member(document, "model_aliases"), "models"), name), "dst")
    models = _member(_member(_member(document, "providers"), provider), "models")
    if not isinstance(targets, list) or (isinstance(models, list) and name in models):
        return ""
    return " or ".join(f'"{target}"' for target in targets[:MAX_TARGETS] if isinstance(target, str))


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _fault(source: str) -> str:
    """Return the reason why `source`, an entry of a grant's `src`, matches no caller, or "" if it may match one."""
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
