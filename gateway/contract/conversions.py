"""All conversions from what clients speak to what providers speak, as `irisgate plugins list` prints them.

Which one a call takes is decided in `call/middleware/route.py`, for one model; here stand the ways that there are for
any. How much each loses is in `losses.py`. Nothing here knows a flag's or a dialect's name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.contract.capabilities import Caps, invoke_dialects
from gateway.contract.flag import COUNT_TOKENS, OPAQUE
from gateway.contract.losses import Loss, Way, loss
from gateway.contract.registry import Plugin, Registry

GENERATE: Final = "generate"


@dataclass(frozen=True, slots=True)
class Conversion:
    """One way from a client's flag and dialect to a provider's."""

    client: str
    dialect: str
    provider: str
    upstream: str
    """The dialect in which the provider is spoken to."""
    way: Way
    operations: tuple[str, ...]
    loss: Loss


def serves(flag: Plugin, operation: str) -> bool:
    """A flag without routes is one that only providers speak; generating is what they do."""
    return operation in {route.operation for route in flag.routes} or (not flag.routes and operation == GENERATE)


def upstreams(provider: Plugin) -> tuple[str, ...]:
    """The dialects in which a provider of this flag is spoken to, whatever its model."""
    return tuple(dict.fromkeys(provider.dialect_for(Caps(invoke_dialect=name)) for name in invoke_dialects()))


def conversions(registry: Registry) -> Iterator[Conversion]:
    """All ways that there are, each client's least lossy first, whatever model is asked for."""
    found = [
        conversion
        for client in registry.flags.values()
        if client.routes
        for provider in registry.flags.values()
        for conversion in _between(registry, client, provider)
    ]
    yield from sorted(
        found,
        key=lambda conversion: (conversion.client, conversion.dialect, conversion.loss.order, conversion.provider),
    )


def _between(registry: Registry, client: Plugin, provider: Plugin) -> Iterator[Conversion]:
    asked = tuple(dict.fromkeys(route.operation for route in client.routes))
    for dialect in client.dialects:
        for upstream in upstreams(provider):
            way, operations = _way(registry, client, provider, dialect, upstream)
            operations = tuple(operation for operation in asked if operation in operations)
            if way and operations:
                translator = registry.translators.get((dialect, upstream)) if way == "translated" else None
                lost = loss(way, dialect, upstream, translator)
                yield Conversion(client.name, dialect, provider.name, upstream, way, operations, lost)


def _way(
    registry: Registry, client: Plugin, provider: Plugin, dialect: str, upstream: str
) -> tuple[Way | None, tuple[str, ...]]:
    """The way between two flags in these dialects, and the operations that it serves."""
    if dialect == upstream:
        if client.name == provider.name:
            return "native", tuple(route.operation for route in client.routes)
        taken = tuple(operation for flag, operation in provider.accepts if flag == client.name)
        if taken:
            return "native", taken
        if dialect != OPAQUE:
            return "envelope", tuple(operation for operation in (GENERATE, COUNT_TOKENS) if serves(provider, operation))
        return None, ()
    translator = registry.translators.get((dialect, upstream))
    return ("translated", tuple(translator.operations)) if translator is not None else (None, ())
