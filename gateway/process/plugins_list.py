"""The text of `irisgate plugins list`: the compatibility flags, their routes, and the conversions between them.

A compatibility flag is the plugin of one API format.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from gateway.call.filters import active_filters
from gateway.config.findings import escape_control
from gateway.config.model import Config
from gateway.contract.conversions import Conversion, conversions, missing
from gateway.contract.losses import Way, loss
from gateway.contract.registry import Plugin, Registry


def plugins_list(registry: Registry, config: Config | None = None) -> str:
    """Return the compatibility flags, the conversions, the observers and the filters of a registry, as text.

    `config` tells which filters are in use. Without it, the filters are listed by name only.
    """
    flags = _table(("FLAG", "DIALECTS", "OPERATION", "ROUTE"), _flags(registry.flags.values()))
    entries = [_conversion(conversion) for conversion in conversions(registry)]
    ways = _table(("CLIENT", "ITS DIALECT", "PROVIDER", "SPOKEN TO IN", "WAY", "ORDER", "OPERATIONS", "LOSES"), entries)
    local = loss(Way.ESTIMATE, "", "")
    parts = [
        flags,
        "Of several conversions to a provider the one of the lowest order is taken.",
        ways,
        f"Where none counts tokens, the gateway does (order {local.order}); it loses {local.loses}.",
    ]
    if lacking := [(client, provider, ", ".join(names)) for client, provider, names in missing(registry)]:
        parts.append("Clients without a conversion to a provider, and the file NAME.py that would make one:")
        parts.append(_table(("CLIENT", "PROVIDER", "NAME"), lacking))
    parts += _filters(registry, config)
    if registry.observers:
        parts.append(f"Observers: {', '.join(registry.observers)}")
    if registry.packages:
        packages = [escape_control(f"{package}: {', '.join(package.plugins)}") for package in registry.packages]
        parts.append("\n".join(["Plugins of installed packages:", *packages]))
    if registry.left_out:
        parts.append(f"Switched off by --without: {', '.join(registry.left_out)}")
    if registry.skipped:
        mistakes = [
            escape_control(f"{plugin.package}: {mistake}") for plugin in registry.skipped for mistake in plugin.mistakes
        ]
        parts.append("\n".join(["Plugins that are left out, because they are broken:", *mistakes]))
    return "\n\n".join(parts)


def _flags(flags: Iterable[Plugin]) -> Iterator[tuple[str, ...]]:
    """Yield a table row for each route of each compatibility flag, and one row for a flag without routes.

    A row has the flag's name, its dialects (the formats of bodies), the operation and the route. Only the first row of
    a flag has the name and the dialects.
    """
    for flag in flags:
        first = (flag.name, ", ".join(flag.dialects))
        routes = [(route.operation, f"{route.method} {route.path}") for route in flag.routes]
        for operation, path in routes or [("generate", "(none: only providers speak it)")]:
            yield (*first, operation, path)
            first = ("", "")


def _filters(registry: Registry, config: Config | None) -> Iterator[str]:
    """Yield the names of all filters, and then a table: each route with its active filters."""
    if registry.filters:
        yield f"Filters: {', '.join(registry.filters)}"
    if config is None:
        return
    active = active_filters(config.plugins, registry.filters)
    names = " > ".join(f"{one.name} (on_error: {'pass' if one.passes else 'refuse'})" for one in active) or "none"
    rows = [
        (f"{route.method} {route.path}", names if flag.places is not None else f"{names}; they see no texts here")
        for flag, route in registry.routes()
    ]
    yield "The filters that calls pass, in this order:"
    yield _table(("ROUTE", "FILTERS"), rows)


def _conversion(conversion: Conversion) -> tuple[str, ...]:
    names = (conversion.client, conversion.dialect, conversion.provider, conversion.upstream, conversion.way)
    return (*names, str(conversion.loss.order), ", ".join(conversion.operations), conversion.loss.loses)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [tuple(head), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
