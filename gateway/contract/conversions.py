"""The possible conversions between API formats, as `irisgate plugins list` prints them.

A conversion connects two compatibility flags (plugins of API formats) and their dialects (formats of bodies).
`losses.py` says what each conversion loses. `call/conversion_choice.py` chooses the conversion of a call.

The code refers to no particular flag or dialect, so a new one needs no change here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.contract.capabilities import Caps
from gateway.contract.flag import COUNT_TOKENS, OPAQUE
from gateway.contract.losses import Loss, Way, loss
from gateway.contract.registry import Plugin, Registry

GENERATE: Final = "generate"


@dataclass(frozen=True, slots=True)
class Conversion:
    """One way to serve the clients of an API format from the providers of the same format or another one.

    `client` and `provider` are the names of the two compatibility flags (plugins of API formats). `dialect` is the
    format of the client's bodies.
    """

    client: str
    dialect: str
    provider: str
    upstream: str
    """The dialect of requests to the provider."""
    way: Way
    operations: tuple[str, ...]
    loss: Loss


def serves(flag: Plugin, operation: str) -> bool:
    """Return whether a provider with this compatibility flag serves an operation, such as `count_tokens`.

    A flag that has no routes for clients serves only the operation `generate`.
    """
    return operation in {route.operation for route in flag.routes} or (not flag.routes and operation == GENERATE)


def conversions(registry: Registry) -> Iterator[Conversion]:
    """Yield all possible conversions. They are sorted by the client's API format, the client's dialect, the loss and
    the provider's API format.
    """
    unsorted = [
        conversion
        for client in registry.flags.values()
        if client.routes
        for provider in registry.flags.values()
        for conversion in _between(registry, client, provider)
    ]
    yield from sorted(
        unsorted,
        key=lambda conversion: (conversion.client, conversion.dialect, conversion.loss.order, conversion.provider),
    )


def missing(registry: Registry) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield each pair of API formats between which the operation `generate` cannot be converted.

    An item has the client's format, the provider's format, and names of translators, such as
    `openai_chat__bedrock_converse`. If any one of these translators existed, the conversion would be possible.
    """
    for client in registry.flags.values():
        if not any(route.operation == GENERATE for route in client.routes):
            continue
        for provider in registry.flags.values():
            pairs = [(dialect, upstream) for dialect in client.dialects for upstream in provider.dialects]
            ways = (_way(registry, client, provider, *pair) for pair in pairs)
            names = tuple("__".join(pair) for pair in pairs if OPAQUE not in pair)
            if names and not any(GENERATE in operations for _, operations in ways):
                yield client.name, provider.name, names


def reachable(registry: Registry, enabled: Sequence[str], caps: Caps) -> tuple[str, ...]:
    """Return the API formats in which clients can request text from a model, such as `openai_chat`.

    `enabled` are the compatibility flags (API formats) of the model's provider. `caps` are the model's capabilities.
    """
    providers = [registry.flags[name] for name in enabled if name in registry.flags]
    return tuple(
        client.name
        for client in registry.flags.values()
        if client.routes
        and any(
            GENERATE in _way(registry, client, provider, dialect, provider.dialect_for(caps))[1]
            for provider in providers
            for dialect in client.dialects
        )
    )


def _between(registry: Registry, client: Plugin, provider: Plugin) -> Iterator[Conversion]:
    requested = tuple(dict.fromkeys(route.operation for route in client.routes))
    for dialect in client.dialects:
        for upstream in provider.dialects:
            way, operations = _way(registry, client, provider, dialect, upstream)
            operations = tuple(operation for operation in requested if operation in operations)
            if way and operations:
                translator = registry.translators.get((dialect, upstream)) if way is Way.TRANSLATED else None
                lost = loss(way, dialect, upstream, translator)
                yield Conversion(client.name, dialect, provider.name, upstream, way, operations, lost)


def _way(
    registry: Registry, client: Plugin, provider: Plugin, dialect: str, upstream: str
) -> tuple[Way | None, tuple[str, ...]]:
    """Return the kind of the conversion, and the operations that it converts. Return (None, ()) if there is no
    conversion.

    `dialect` is the format of the client's bodies, and `upstream` is the format of the provider's bodies.
    """
    if dialect == upstream:
        if client.name == provider.name:
            return Way.NATIVE, tuple(route.operation for route in client.routes)
        accepted = tuple(operation for flag, operation in provider.accepts if flag == client.name)
        if accepted:
            return Way.NATIVE, accepted
        if dialect != OPAQUE:
            return Way.ENVELOPE, tuple(
                operation for operation in (GENERATE, COUNT_TOKENS) if serves(provider, operation)
            )
        return None, ()
    translator = registry.translators.get((dialect, upstream))
    return (Way.TRANSLATED, tuple(translator.operations)) if translator is not None else (None, ())
