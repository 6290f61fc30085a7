"""A candidate of a call: an offer (a model of a provider), with the conversion from the client's API format to the
provider's.
"""

from __future__ import annotations

import msgspec

from gateway.contract.flag import Target
from gateway.contract.losses import Way
from gateway.contract.registry import LoadedTranslator, Plugin
from gateway.upstream.catalog import Offer


class Candidate(msgspec.Struct, frozen=True):
    """An offer (a model of a provider) that can serve a call, with the conversion from the client's API format to the
    provider's.
    """

    offer: Offer
    flag: Plugin
    target: Target
    way: Way
    translator: LoadedTranslator | None = None
    """The translator between the two API formats. None if no translation is needed (`way` is not `Way.TRANSLATED`)."""
