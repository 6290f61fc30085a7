"""Tests of the order in which providers are tried: strategies, and sessions that stay with the provider that has cached
their prompt.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from gateway.call.candidate_order import MAX_SESSIONS, CandidateOrder, StickySession, best_ranked
from gateway.config.model import Config, Provider, Strategy
from gateway.money.prices.table import Prices
from gateway.upstream.catalog import Catalog, Offer

STICKY = 300.0
HAIKU = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
PRICES = Prices.load()
SESSIONS = tuple[StickySession, ...]


def offers(**changed: Mapping[str, Any]) -> list[Offer]:
    """Return the offers of one model at the providers a, b and c. An offer is a model of a provider.

    `changed` has additional settings of a provider, by the provider's id.
    """
    providers = {id_: Provider(id_, f"https://{id_}", (HAIKU,), **changed.get(id_, {})) for id_ in "abc"}
    return list(Catalog(Config(providers=providers)).offers)


class Ordering:
    """A `CandidateOrder`, and the three offers that it sorts: one model at three providers.

    Tests set the clock and the providers' numbers of calls in flight.
    """

    def __init__(self, **changed: Mapping[str, Any]) -> None:
        self.now = 1000.0
        self.in_flight: Counter[str] = Counter()
        self.candidates = CandidateOrder(lambda id_: self.in_flight[id_], lambda: self.now)
        self.offers = offers(**changed)

    def names(self, strategy: Strategy, session: str = "s", sticky: float = STICKY) -> str:
        """Return the ids of the providers, joined, in the order in which they are tried for a call of the session."""
        ordered = self.candidates.order(self.offers, strategy, ("ada", session, HAIKU), PRICES, sticky)
        return "".join(offer.provider_id for offer in ordered)

    def served(self, provider: str, session: str = "s") -> None:
        offer = next(offer for offer in self.offers if offer.provider_id == provider)
        self.candidates.served(("ada", session, HAIKU), offer, self.offers[0])

    def firsts(self, strategy: Strategy, sessions: int) -> Counter[str]:
        return Counter(self.names(strategy, f"session-{number}")[0] for number in range(sessions))


def test_first_keeps_the_order() -> None:
    assert Ordering().names("first") == "abc"


def test_a_session_stays_in_another_region_and_not_at_another_model() -> None:
    models = {"a": HAIKU, "b": HAIKU.replace("us.", "eu."), "c": "us.amazon.nova-lite-v1:0"}
    providers = {id_: Provider(id_, f"https://{id_}", (model,)) for id_, model in models.items()}
    ordering = Ordering()
    ordering.offers = list(Catalog(Config(providers=providers)).offers)
    ordering.served("c")
    assert ordering.names("first") == "abc"
    ordering.served("b")
    assert ordering.names("first") == "bac"


def test_round_robin_takes_turns_and_the_others_keep_their_order() -> None:
    ordering = Ordering()
    assert [ordering.names("round_robin") for _ in range(4)] == ["abc", "bac", "cab", "abc"]


def test_random_chooses_each() -> None:
    ordering = Ordering()
    assert {ordering.names("random")[0] for _ in range(200)} == set("abc")


def test_session_keeps_a_session_and_spreads_sessions() -> None:
    ordering = Ordering()
    assert len({ordering.names("session") for _ in range(20)}) == 1
    assert min(ordering.firsts("session", 600).values()) > 100


def test_weighted_spreads_sessions_by_weight() -> None:
    ordering = Ordering(a={"weight": 6}, b={"weight": 3}, c={"weight": 1})
    share = ordering.firsts("weighted", 5000)
    assert [round(share[id_] / 5000, 1) for id_ in "abc"] == [0.6, 0.3, 0.1]


def test_least_in_flight_takes_the_idlest_provider() -> None:
    ordering = Ordering()
    ordering.in_flight.update(a=2, b=1, c=1)
    assert ordering.names("least_in_flight") == "bac"


def test_cheapest_takes_the_lowest_price_and_an_unknown_price_last() -> None:
    known = {"cost_basis": "bedrock-us"}
    ordering = Ordering(b=known, c=known)
    assert ordering.names("cheapest") == "bac"
    assert PRICES.of(ordering.offers[0].provider, HAIKU) is None
    assert PRICES.of(ordering.offers[1].provider, HAIKU) is not None


@pytest.mark.parametrize("strategy", ["first", "session", "weighted", "least_in_flight", "cheapest"])
def test_a_session_stays_where_it_was_served(strategy: Strategy) -> None:
    ordering = Ordering()
    ordering.served("c")
    assert ordering.names(strategy) == "cab"
    ordering.now += STICKY - 1
    assert ordering.names(strategy) == "cab"
    assert ordering.names("first", "another session") == "abc"


def test_a_session_that_pauses_longer_than_the_cache_lives_goes_back() -> None:
    ordering = Ordering()
    ordering.served("c")
    ordering.now += STICKY
    assert ordering.names("first") == "abc"


def test_a_session_does_not_stay_if_that_is_switched_off() -> None:
    ordering = Ordering()
    ordering.served("c")
    assert ordering.names("first", sticky=0) == "abc"
    assert ordering.names("round_robin") == "abc"


def test_an_offer_that_is_gone_or_not_granted_is_not_chosen() -> None:
    ordering = Ordering()
    ordering.served("c")
    del ordering.offers[2]
    assert ordering.names("first") == "ab"


def test_only_so_many_sessions_are_remembered() -> None:
    ordering = Ordering()
    for number in range(MAX_SESSIONS + 1):
        ordering.served("b", f"s{number}")
    assert ordering.names("first", "s0") == "abc"
    assert ordering.names("first", "s1") == "bac"


def test_a_process_that_replaces_another_keeps_sessions_where_they_were() -> None:
    ordering = Ordering()
    ordering.served("b", "s")
    ordering.now += 100.0
    ordering.served("c", "t")
    other = Ordering()
    other.now = 3.0
    other.candidates.adopt(msgspec.json.decode(msgspec.json.encode(ordering.candidates.remembered()), type=SESSIONS))
    assert [other.names("first", session)[0] for session in ("s", "t", "u")] == ["b", "c", "a"]
    other.now += STICKY - 100.0
    assert [other.names("first", session)[0] for session in ("s", "t")] == ["a", "c"]


def test_the_offers_of_the_highest_preference_come_first() -> None:
    assert best_ranked(offers(b={"preference": 1}, c={"preference": 1})) == 2
    assert best_ranked(offers()) == 3


def cache_read_share(strategy: Strategy, sticky: float) -> Decimal:
    """Return the share of prompt tokens that the providers read from their prompt caches, in a simulation.

    `sticky` is the number of seconds for which a session stays with its provider. Forty agents make twenty calls each.
    Each prompt repeats the agent's previous prompt and adds 1000 tokens. A provider caches a prompt for five minutes.
    One call in fifty is served by the second provider in the order.
    """
    drawn = random.Random(16)
    ordering = Ordering()
    cached: dict[tuple[str, str], tuple[float, int]] = {}
    turns, read, sent = Counter[str](), 0, 0
    sessions = [f"session-{number}" for number in range(40)] * 20
    drawn.shuffle(sessions)
    for session in sessions:
        ordering.now += drawn.expovariate(2.0)
        ordering.in_flight = Counter({id_: drawn.randrange(5) for id_ in "abc"})
        provider = ordering.names(strategy, session, sticky)[drawn.random() < 0.02]
        turns[session] += 1
        prompt = turns[session] * 1000
        at, tokens = cached.get((session, provider), (0.0, 0))
        read += tokens if ordering.now - at < 300 else 0
        sent += prompt
        cached[session, provider] = ordering.now, prompt
        ordering.served(provider, session)
    return Decimal(read) / sent


def test_sessions_that_stay_read_most_of_their_prompts_from_caches() -> None:
    assert cache_read_share("least_in_flight", 0) < Decimal("0.75")
    assert cache_read_share("least_in_flight", STICKY) > Decimal("0.89")
    assert cache_read_share("round_robin", STICKY) < Decimal("0.75")
