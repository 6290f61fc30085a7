"""The order in which the offers of a call are tried. An offer is a model at one provider.

- A strategy chooses the first offer for a session. An alias has its own strategy. For a model's name,
  `resilience.strategy` chooses among the providers with the highest preference.
- A later call of the session starts with the offer that served the session's last call, because that provider has the
  session's prompts in its cache. Cached input costs a tenth of new input.
- If the model's first provider fails and another provider serves the call, the session stays at the other provider.
- An alias may name several models. If another model serves a call because the session's model failed, the next call
  starts with the session's model again.
- After `resilience.sticky_seconds` without a call of the session, the strategy chooses again. The strategies `random`
  and `round_robin` choose for every call.
- The other offers are tried after the first one, in their given order.

The order includes models that are known to fail (`upstream/health/`). `middleware/attempt.py` skips them. Sessions are
remembered in memory, up to a maximum. A process that replaces this one takes them over. No I/O is done here.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import count
from time import monotonic
from typing import Final
from zlib import crc32

import msgspec

from gateway.config.model import Strategy
from gateway.contract.capabilities import base_id
from gateway.contract.flag import Usage
from gateway.money.prices.table import Prices
from gateway.upstream.catalog import Offer

MAX_SESSIONS: Final = 20_000
"""Maximum number of sessions that are remembered. Each takes a few hundred bytes. The session whose last call is the
oldest is forgotten first."""
FOR_EACH_CALL: Final[frozenset[Strategy]] = frozenset({"random", "round_robin"})
"""Strategies that choose an offer (model of a provider) anew for every call, even within a session."""
_USUAL: Final = Usage(input=3_000_000, output=1_000_000)
"""Usage of a typical call. The strategy `cheapest` compares the cost of this usage at each offer (model of a provider).
Input exceeds output, because agents read more than they write.
"""

Session = tuple[str, str, str]
"""The caller's login, the session's id, and the name of the model in the request."""


class StickySession(msgspec.Struct, frozen=True):
    """A session, and the offer (model of a provider) that served it last. The process that replaces this one gets these
    values.
    """

    login: str
    session: str
    model: str
    """The name of the model in the session's requests."""
    offer: str
    age: float
    """Seconds since the session's last call."""


class CandidateOrder:
    """Puts offers (models of providers) in order, and remembers which offer served each session last.

    `in_flight` returns the number of calls in flight at a provider.
    """

    def __init__(self, in_flight: Callable[[str], int], clock: Callable[[], float] = monotonic) -> None:
        self._in_flight = in_flight
        self._clock = clock
        self._turns: dict[str, count[int]] = {}
        self._served: OrderedDict[Session, tuple[float, str]] = OrderedDict()
        """The time of the last call of a session, and the name of the offer that served it."""

    def order(
        self, offers: Sequence[Offer], strategy: Strategy, session: Session, prices: Prices, sticky_seconds: float
    ) -> Sequence[Offer]:
        """Return the offers (models of providers) in the order in which they are tried. `offers` must not be empty."""
        if len(offers) == 1:
            return offers
        first = None if strategy in FOR_EACH_CALL else self._last(offers, session, sticky_seconds)
        if first is None:
            first = self._chosen(offers, strategy, session, prices)
        return [first, *(offer for offer in offers if offer is not first)]

    def served(self, session: Session, offer: Offer, first: Offer) -> None:
        """Remember that `offer` (a model of a provider) has served a call of a session, so that the next call starts
        with it.

        `first` is the offer that was tried first. If `offer` is a different model, nothing is remembered: the next call
        of the session starts with the model of `first` again.
        """
        if base_id(offer.base) != base_id(first.base):
            return
        self._served[session] = self._clock(), offer.name
        self._served.move_to_end(session)
        if len(self._served) > MAX_SESSIONS:
            self._served.popitem(last=False)

    def remembered(self) -> tuple[StickySession, ...]:
        """Return the sessions with the offers (models of providers) that served them last, for the process that
        replaces this one.

        The session whose last call is the oldest comes first.
        """
        now = self._clock()
        return tuple(StickySession(*session, name, now - at) for session, (at, name) in self._served.items())

    def adopt(self, sessions: Sequence[StickySession]) -> None:
        """Take over the sessions of the replaced process, each with the offer (model of a provider) that served it
        last.

        If that offer no longer exists, the strategy chooses another offer for the session's next call.
        """
        now = self._clock()
        for one in sessions[-MAX_SESSIONS:]:
            self._served[one.login, one.session, one.model] = now - max(0.0, one.age), one.offer

    def _last(self, offers: Sequence[Offer], session: Session, seconds: float) -> Offer | None:
        """Return the offer (model of a provider) that served the session's last call.

        Return None if this offer is not in `offers`, or if the last call was at least `seconds` ago.
        """
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
    """Return a number for a session. It is the same for all calls of the session, in every process."""
    return crc32(session[1].encode())


def _weighted(offers: Sequence[Offer], number: int) -> Offer:
    """Return the offer (model of a provider) for a session. `number` is the hash of the session.

    Each offer gets a share of all sessions in proportion to its provider's weight.
    """
    point = number % sum(offer.provider.weight for offer in offers)
    for offer in offers:
        point -= offer.provider.weight
        if point < 0:
            return offer
    return offers[-1]


def _cost(offer: Offer, prices: Prices) -> float:
    """Return the cost of a typical call, or infinity if it is unknown."""
    price = prices.of(offer.provider, offer.model)
    cost = None if price is None else price.cost(_USUAL)
    return float("inf") if cost is None else cost


def best_ranked(offers: Sequence[Offer]) -> int:
    """Return the number of offers (models of providers) with the highest preference. `offers` must be sorted by
    preference.
    """
    highest = offers[0].provider.preference
    return next((at for at, offer in enumerate(offers) if offer.provider.preference != highest), len(offers))
