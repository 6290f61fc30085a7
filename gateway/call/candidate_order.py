"""The order in which the offers of a call are tried: by the strategy, and first the one that served the session last.

- A provider keeps the prompts of a session in its cache, and reading them costs a tenth of sending them anew. So a
  session goes on at the offer that served it, also if another offer took over only because of a failure, until no call
  of the session has come for `resilience.sticky_seconds`. A model that rests (`upstream/health/`) is left out later.
- A session goes back from another model, to which an alias led it after a failure, as soon as its own model serves.
- The strategy chooses the offer of a session's first call. It is that of the alias, or `resilience.strategy` among the
  providers with the highest preference. The other offers follow in their order.
- `random` and `round_robin` choose for each call, whatever the session.

The memory is that of this process, and is bounded. No I/O is done here.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import count
from time import monotonic
from typing import Final
from zlib import crc32

from gateway.config.model import Strategy
from gateway.contract.capabilities import base_id
from gateway.contract.flag import Usage
from gateway.money.prices.table import Prices
from gateway.upstream.catalog import Offer

MAX_SESSIONS: Final = 20_000
"""Maximum number of remembered sessions, each with a few hundred bytes. The least recent ones are forgotten first."""
FOR_EACH_CALL: Final[frozenset[Strategy]] = frozenset({"random", "round_robin"})
"""Strategies that ignore where a session was served."""
_USUAL: Final = Usage(input=3_000_000, output=1_000_000)
"""The tokens by whose cost prices are compared. Agents read more than they write."""

Session = tuple[str, str, str]
"""The caller's login, the session's id, and the name of the model in the request."""


class CandidateOrder:
    """The order of offers, and the offers that sessions used last. `in_flight` returns a provider's calls in flight."""

    def __init__(self, in_flight: Callable[[str], int], clock: Callable[[], float] = monotonic) -> None:
        self._in_flight = in_flight
        self._clock = clock
        self._turns: dict[str, count[int]] = {}
        self._served: OrderedDict[Session, tuple[float, str]] = OrderedDict()
        """The time of the last call of a session, and the name of the offer that served it."""

    def order(
        self, offers: Sequence[Offer], strategy: Strategy, session: Session, prices: Prices, sticky_seconds: float
    ) -> Sequence[Offer]:
        """Return the offers in the order in which they are tried. There is at least one."""
        if len(offers) == 1:
            return offers
        first = None if strategy in FOR_EACH_CALL else self._last(offers, session, sticky_seconds)
        if first is None:
            first = self._chosen(offers, strategy, session, prices)
        return [first, *(offer for offer in offers if offer is not first)]

    def served(self, session: Session, offer: Offer, first: Offer) -> None:
        """Remember that an offer has served a call of a session, unless its model is not that of `first`.

        `first` is the first offer in the order of the call.
        """
        if base_id(offer.base) != base_id(first.base):
            return
        self._served[session] = self._clock(), offer.name
        self._served.move_to_end(session)
        if len(self._served) > MAX_SESSIONS:
            self._served.popitem(last=False)

    def _last(self, offers: Sequence[Offer], session: Session, seconds: float) -> Offer | None:
        """Return the offer that served the session's last call; None if it was too long ago, or is not in `offers`."""
        at, name = self._served.get(session, (0.0, ""))
        if not name or self._clock() - at >= seconds:
            return None
        return next((offer for offer in offers if offer.name == name), None)

    def _chosen(self, offers: Sequence[Offer], strategy: Strategy, session: Session, prices: Prices) -> Offer:
        match strategy:
            case "first":
                return offers[0]
            case "random":
                return random.choice(offers)  # noqa: S311 (nothing secret depends on it)
            case "round_robin":
                return offers[next(self._turns.setdefault(session[2], count())) % len(offers)]
            case "session":
                return offers[_hash(session) % len(offers)]
            case "weighted":
                return _weighted(offers, _hash(session))
            case "least_in_flight":
                return min(offers, key=lambda offer: self._in_flight(offer.provider_id))
            case "cheapest":
                return min(offers, key=lambda offer: _cost(offer, prices))


def _hash(session: Session) -> int:
    """Return a number that is the same for each call of a session, in each process."""
    return crc32(session[1].encode())


def _weighted(offers: Sequence[Offer], number: int) -> Offer:
    """Return an offer, which each number has with a probability in proportion to its provider's weight."""
    point = number % sum(offer.provider.weight for offer in offers)
    for offer in offers:
        point -= offer.provider.weight
        if point < 0:
            return offer
    return offers[-1]


def _cost(offer: Offer, prices: Prices) -> float:
    """Return the cost of a usual call. An unknown cost is the highest."""
    price = prices.of(offer.provider, offer.model)
    cost = None if price is None else price.cost(_USUAL)
    return float("inf") if cost is None else cost


def best_ranked(offers: Sequence[Offer]) -> int:
    """Return how many of the offers, which are sorted by preference, have the highest preference."""
    highest = offers[0].provider.preference
    return next((at for at, offer in enumerate(offers) if offer.provider.preference != highest), len(offers))
