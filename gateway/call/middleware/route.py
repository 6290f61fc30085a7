"""The conversions from what the client speaks to what the provider of an offer speaks.

A conversion is native (the same flag), an envelope (another flag, the same dialect) or one translator, never two. Of
several conversions to a provider the one that loses least is taken, by the data of `contract/losses.py`; providers keep
the order of the catalog. Where none counts tokens, a conversion leads to the gateway's own estimate.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.call.chain import Answer, Call, Candidate, Next
from gateway.contract.conversions import GENERATE, serves
from gateway.contract.errors import Refused, invalid
from gateway.contract.flag import COUNT_TOKENS, OPAQUE, ClientRequest, Target
from gateway.contract.losses import Way, loss
from gateway.contract.registry import Plugin, Registry
from gateway.upstream.catalog import Offer


@dataclass(frozen=True, slots=True)
class Route:
    registry: Registry

    async def __call__(self, call: Call, following: Next) -> Answer:
        ask = call.require_request()
        call.candidates = [conversion for offer in call.offers if (conversion := self._best(ask, offer)) is not None]
        if not call.candidates:
            raise self._no_conversion(ask, call.offers[0])
        return await following(call)

    def _best(self, ask: ClientRequest, offer: Offer) -> Candidate | None:
        flags = [flag for name in offer.provider.flags if (flag := self.registry.flags.get(name)) is not None]
        conversions = [conversion for flag in flags if (conversion := self._conversion(ask, offer, flag))]
        if not conversions and flags and ask.operation == COUNT_TOKENS:
            return Candidate(offer, flags[0], _target(offer, flags[0]), None, native=False, estimated=True)
        return min(conversions, key=lambda conversion: _losses(ask, conversion), default=None)

    def _conversion(self, ask: ClientRequest, offer: Offer, flag: Plugin) -> Candidate | None:
        native = flag.name == ask.flag or (ask.flag, ask.operation) in flag.accepts
        target = _target(offer, flag)
        if native or (target.dialect == ask.dialect != OPAQUE and serves(flag, ask.operation)):
            return Candidate(offer, flag, target, None, native)
        translator = self.registry.translators.get((ask.dialect, target.dialect))
        if translator is not None and ask.operation in translator.operations:
            return Candidate(offer, flag, target, translator, native=False)
        return None

    def _no_conversion(self, ask: ClientRequest, offer: Offer) -> Refused:
        """Name the flag that would open a conversion, the nearest relative of what the provider has."""
        enabled = offer.provider.flags
        opening = [
            name
            for name, flag in self.registry.flags.items()
            if name not in enabled and self._conversion(ask, offer, flag) is not None
        ]
        said = f'provider "{offer.provider_id}" cannot serve model "{offer.model}" to clients of {ask.flag}'
        if ask.operation != GENERATE:
            said += f" ({ask.operation})"
        if not opening:
            return invalid(said, "model")
        best = max(opening, key=lambda name: max((_alike(name, other) for other in enabled), default=0))
        return invalid(f'{said}; set "{best}": true in its "compatibility"', "model")


def _alike(name: str, other: str) -> int:
    """How many characters two names begin with in common."""
    return next((at for at, (a, b) in enumerate(zip(name, other, strict=False)) if a != b), min(len(name), len(other)))


def _target(offer: Offer, flag: Plugin) -> Target:
    provider = offer.provider
    dialect = flag.dialect_for(offer.caps)
    base = "" if offer.base == offer.model else offer.base
    return Target(provider.id, flag.name, offer.model, dialect, offer.caps, provider.options, base)


def _losses(ask: ClientRequest, conversion: Candidate) -> int:
    way: Way = "native" if conversion.native else "envelope" if conversion.translator is None else "translated"
    return loss(way, ask.dialect, conversion.target.dialect, conversion.translator).order
