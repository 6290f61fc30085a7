"""The choice of the conversion from the client's API format to the provider's, for an offer (model of a provider).

A compatibility flag is the plugin of an API format. A dialect is the format of that API's bodies. There are three kinds
of conversions:

- Native: the provider understands the client's requests as they are. Client and provider use the same flag, or the
  provider's flag accepts the client's requests.
- Envelope: the two flags differ, but their bodies have the same dialect.
- Translation: a translator connects the two dialects.

If several conversions are possible, the one with the least loss is used (`contract/losses.py`). If a provider cannot
count tokens, the gateway itself answers a token-counting request with an estimate.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.call.candidate import Candidate
from gateway.contract.conversions import GENERATE, serves
from gateway.contract.errors import Refused, invalid
from gateway.contract.flag import COUNT_TOKENS, OPAQUE, Target
from gateway.contract.losses import Way, loss
from gateway.contract.registry import Plugin, Registry
from gateway.contract.settings import NO_OPTIONS
from gateway.upstream.catalog import Offer


class Asked(msgspec.Struct, frozen=True):
    """The fields of a `ClientRequest` that decide its conversion, under the same names."""

    flag: str
    dialect: str
    operation: str


class Conversions(msgspec.Struct, frozen=True):
    """The conversions that the installed plugins can make."""

    registry: Registry

    def best(self, asked: Asked, offer: Offer) -> Candidate | None:
        """Return `offer` (a model of a provider) with the conversion that loses least. Return None if no conversion is
        possible.
        """
        flags = [flag for name in offer.provider.flags if (flag := self.registry.flags.get(name)) is not None]
        conversions = [conversion for flag in flags if (conversion := self._conversion(asked, offer, flag))]
        if not conversions and flags and asked.operation == COUNT_TOKENS:
            return Candidate(offer, flags[0], target_of(offer, flags[0]), Way.ESTIMATE)
        return min(conversions, key=lambda conversion: _losses(asked, conversion), default=None)

    def missing(self, asked: Asked, offer: Offer) -> Refused:
        """Return the refusal of a request that cannot be converted to an API format of the provider.

        The message suggests a compatibility flag (plugin of an API format) with which a conversion would be possible.
        An administrator can enable the flag if the provider really has this API. If several flags would do, the one
        whose name is most similar to an enabled flag is suggested.
        """
        enabled = offer.provider.flags
        opening = [
            name
            for name, flag in self.registry.flags.items()
            if name not in enabled and self._conversion(asked, offer, flag) is not None
        ]
        message = f'provider "{offer.provider_id}" cannot serve model "{offer.model}" to clients of {asked.flag}'
        if asked.operation != GENERATE:
            message += f" ({asked.operation})"
        if not opening:
            return invalid(message, "model")
        best = max(opening, key=lambda name: max((_common_prefix(name, other) for other in enabled), default=0))
        hint = f'if the provider has the API of {best}, set "{best}": true in its "compatibility"'
        return invalid(f"{message}; {hint}", "model")

    def _conversion(self, asked: Asked, offer: Offer, flag: Plugin) -> Candidate | None:
        target = target_of(offer, flag)
        if flag.name == asked.flag or (asked.flag, asked.operation) in flag.accepts:
            return Candidate(offer, flag, target, Way.NATIVE)
        if target.dialect == asked.dialect != OPAQUE and serves(flag, asked.operation):
            return Candidate(offer, flag, target, Way.ENVELOPE)
        translator = self.registry.translators.get((asked.dialect, target.dialect))
        if translator is not None and asked.operation in translator.operations:
            return Candidate(offer, flag, target, Way.TRANSLATED, translator)
        return None


NO_CONVERSIONS: Final = Conversions(Registry({}, {}, {}))
"""The conversions if no plugin is installed: none."""


def _common_prefix(name: str, other: str) -> int:
    """Return the length of the longest common prefix of two names."""
    return next((at for at, (a, b) in enumerate(zip(name, other, strict=False)) if a != b), min(len(name), len(other)))


def target_of(offer: Offer, flag: Plugin) -> Target:
    """Return the `Target` (provider and model) of `offer`, for requests in the API format of `flag`."""
    provider = offer.provider
    dialect = flag.dialect_for(offer.caps)
    base = "" if offer.base == offer.model else offer.base
    options = provider.options.get(flag.name, NO_OPTIONS)
    return Target(provider.id, flag.name, offer.model, dialect, offer.caps, options, base, provider.host)


def _losses(asked: Asked, conversion: Candidate) -> int:
    return loss(conversion.way, asked.dialect, conversion.target.dialect, conversion.translator).order
