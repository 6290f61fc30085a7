"""The choice of the conversion from the client's API format to the provider's, for each offer (model of a provider).

A compatibility flag is the plugin of an API format. There are three kinds of conversions:

- Native: client and provider use the same flag, or the provider's flag accepts the client's requests.
- Envelope: the two flags differ, but their bodies have the same dialect.
- Translation: a translator connects the two dialects.

If there are several conversions to a provider, the conversion with the least loss is used (`contract/losses.py`). The
order of the offers is not changed. If the provider cannot count tokens, the gateway answers a token-counting request
with its own estimate.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.call.chain import Call, Candidate, Next
from gateway.call.responses import Response
from gateway.contract.conversions import GENERATE, serves
from gateway.contract.errors import Refused, invalid
from gateway.contract.flag import COUNT_TOKENS, OPAQUE, ClientRequest, Target
from gateway.contract.losses import Way, loss
from gateway.contract.registry import Plugin, Registry
from gateway.contract.settings import NO_OPTIONS
from gateway.upstream.catalog import Offer


@dataclass(frozen=True, slots=True)
class Route:
    registry: Registry

    async def __call__(self, call: Call, following: Next) -> Response:
        request = call.request
        call.candidates = [
            conversion for offer in call.offers if (conversion := self._best(request, offer)) is not None
        ]
        if not call.candidates:
            raise self._no_conversion(request, call.offers[0])
        return await following(call)

    def _best(self, request: ClientRequest, offer: Offer) -> Candidate | None:
        flags = [flag for name in offer.provider.flags if (flag := self.registry.flags.get(name)) is not None]
        conversions = [conversion for flag in flags if (conversion := self._conversion(request, offer, flag))]
        if not conversions and flags and request.operation == COUNT_TOKENS:
            return Candidate(offer, flags[0], _target(offer, flags[0]), Way.ESTIMATE)
        return min(conversions, key=lambda conversion: _losses(request, conversion), default=None)

    def _conversion(self, request: ClientRequest, offer: Offer, flag: Plugin) -> Candidate | None:
        target = _target(offer, flag)
        if flag.name == request.flag or (request.flag, request.operation) in flag.accepts:
            return Candidate(offer, flag, target, Way.NATIVE)
        if target.dialect == request.dialect != OPAQUE and serves(flag, request.operation):
            return Candidate(offer, flag, target, Way.ENVELOPE)
        translator = self.registry.translators.get((request.dialect, target.dialect))
        if translator is not None and request.operation in translator.operations:
            return Candidate(offer, flag, target, Way.TRANSLATED, translator)
        return None

    def _no_conversion(self, request: ClientRequest, offer: Offer) -> Refused:
        """Return the refusal of a request that the provider cannot serve.

        The message names a compatibility flag that an administrator could enable for this provider. If there are
        several, the message names the flag whose name has the longest beginning in common with an enabled flag.
        """
        enabled = offer.provider.flags
        opening = [
            name
            for name, flag in self.registry.flags.items()
            if name not in enabled and self._conversion(request, offer, flag) is not None
        ]
        message = f'provider "{offer.provider_id}" cannot serve model "{offer.model}" to clients of {request.flag}'
        if request.operation != GENERATE:
            message += f" ({request.operation})"
        if not opening:
            return invalid(message, "model")
        best = max(opening, key=lambda name: max((_common_prefix(name, other) for other in enabled), default=0))
        return invalid(f'{message}; set "{best}": true in its "compatibility"', "model")


def _common_prefix(name: str, other: str) -> int:
    """Return the length of the longest common prefix of two names."""
    return next((at for at, (a, b) in enumerate(zip(name, other, strict=False)) if a != b), min(len(name), len(other)))


def _target(offer: Offer, flag: Plugin) -> Target:
    provider = offer.provider
    dialect = flag.dialect_for(offer.caps)
    base = "" if offer.base == offer.model else offer.base
    options = provider.options.get(flag.name, NO_OPTIONS)
    return Target(provider.id, flag.name, offer.model, dialect, offer.caps, options, base, provider.host)


def _losses(request: ClientRequest, conversion: Candidate) -> int:
    return loss(conversion.way, request.dialect, conversion.target.dialect, conversion.translator).order
