"""The roads from what the client speaks to what the provider of an offer speaks.

A road is native (the same flag), an envelope (another flag, the same dialect) or one translator, never two. Of several
roads to a provider the one that loses least is taken; providers keep the order of the catalog.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.catalog import Offer
from gateway.chain import Answer, Call, Candidate, Next
from gateway.errors import Refused, invalid
from gateway.flag import OPAQUE, Ask, Target
from gateway.registry import Plugin, Registry

GENERATE: Final = "generate"


@dataclass(frozen=True, slots=True)
class Route:
    registry: Registry

    async def __call__(self, call: Call, following: Next) -> Answer:
        ask = call.require_ask()
        call.candidates = [road for offer in call.offers if (road := self._best(ask, offer)) is not None]
        if not call.candidates:
            raise self._no_road(ask, call.offers[0])
        return await following(call)

    def _best(self, ask: Ask, offer: Offer) -> Candidate | None:
        roads = [
            road
            for name in offer.provider.flags
            if (flag := self.registry.flags.get(name)) is not None and (road := self._road(ask, offer, flag))
        ]
        return min(roads, key=_losses, default=None)

    def _road(self, ask: Ask, offer: Offer, flag: Plugin) -> Candidate | None:
        native = flag.name == ask.flag or (ask.flag, ask.operation) in flag.takes
        dialect = flag.dialect_for(offer.caps)
        target = Target(offer.provider_id, flag.name, offer.model, dialect, offer.caps, offer.provider.options)
        if native or (dialect == ask.dialect != OPAQUE and self._serves(flag, ask.operation)):
            return Candidate(offer, flag, target, None, native)
        translator = self.registry.translators.get((ask.dialect, dialect))
        if translator is not None and ask.operation in translator.operations:
            return Candidate(offer, flag, target, translator, native=False)
        return None

    @staticmethod
    def _serves(flag: Plugin, operation: str) -> bool:
        """A flag without routes is one that only providers speak; generating is what they do."""
        return operation in {route.operation for route in flag.routes} or (not flag.routes and operation == GENERATE)

    def _no_road(self, ask: Ask, offer: Offer) -> Refused:
        """Name the flag that would open a road, the nearest relative of what the provider has."""
        enabled = offer.provider.flags
        opening = [
            name
            for name, flag in self.registry.flags.items()
            if name not in enabled and self._road(ask, offer, flag) is not None
        ]
        said = f'provider "{offer.provider_id}" cannot serve model "{offer.model}" to clients of {ask.flag}'
        if ask.operation != GENERATE:
            said += f" ({ask.operation})"
        if not opening:
            return invalid(said, "model")
        best = max(opening, key=lambda name: max((_alike(name, other) for other in enabled), default=0))
        return invalid(f'{said}; set "{best}": true in its "compatibility"', "model")


def _alike(name: str, other: str) -> int:
    """How many letters two names begin with in common."""
    return next((at for at, (a, b) in enumerate(zip(name, other, strict=False)) if a != b), min(len(name), len(other)))


def _losses(road: Candidate) -> int:
    if road.translator is not None:
        return road.translator.loses
    return -1 if road.native else 0
