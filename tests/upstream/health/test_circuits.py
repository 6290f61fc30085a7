"""Tests of the health of providers: when a model of a provider gets no more calls, and when it gets calls again."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.model import Alias, CircuitBreaker, Config, Provider
from gateway.upstream.health.circuits import Health
from gateway.upstream.health.standings import Change, Standing

A, B = "bedrock", "mirror"


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Peers:
    """Two providers of the model `m`, their health, and the changes of their health that were reported."""

    def __init__(self, **breaker: Any) -> None:
        self.clock = Clock()
        self.changes: list[Change] = []
        self.health = Health(config(**breaker), clock=self.clock, changed=self.changes.append)

    def ends(self, *failed: bool, provider: str = A, model: str = "m") -> None:
        for each in failed:
            self.health.ended(provider, model, failed=each, seconds=None if each else 0.0)

    def passes(self, attempts: int = 1, provider: str = A, model: str = "m") -> int:
        """Try to begin a number of attempts. Return how many of them the circuit breaker lets pass."""
        return sum(self.health.may_try(provider, model) for _ in range(attempts))

    def standing(self, provider: str = A, model: str = "m") -> Standing:
        return next(each for each in self.health.standings() if (each.provider, each.model) == (provider, model))

    @property
    def states(self) -> list[tuple[str, str]]:
        return [(change.state, change.cause) for change in self.changes]


def config(models: tuple[str, ...] = ("m", "n"), **breaker: Any) -> Config:
    settings = CircuitBreaker(**breaker)
    return Config(providers={id_: Provider(id_, f"https://{id_}", models, circuit_breaker=settings) for id_ in (A, B)})


def test_a_model_rests_when_half_of_at_least_five_attempts_failed() -> None:
    peers = Peers()
    peers.ends(False, False, True, True)
    assert peers.passes() == 1
    peers.ends(True)
    assert peers.passes(10) == 0
    assert peers.passes(provider=B) == 1
    assert peers.passes(model="n") == 1
    assert peers.changes == [Change(A, "m", "open", "failures", 5, 3, 15.0)]


def test_four_attempts_that_all_failed_are_too_few() -> None:
    peers = Peers()
    peers.ends(True, True, True, True)
    assert peers.passes() == 1


def test_failures_of_the_minute_before_do_not_count() -> None:
    peers = Peers()
    peers.ends(True, True, True, True)
    peers.clock.now += 60
    peers.ends(True)
    assert (peers.passes(), peers.standing().calls, peers.standing().failures) == (1, 1, 1)


def test_a_window_is_read_without_an_attempt() -> None:
    peers = Peers()
    peers.ends(True, False)
    peers.clock.now += 30
    peers.ends(False)
    assert (peers.standing().calls, peers.standing().failures) == (3, 1)
    peers.clock.now += 31
    assert (peers.standing().calls, peers.standing().failures) == (1, 0)


def test_three_probes_that_succeed_begin_the_slow_start() -> None:
    peers = Peers()
    peers.ends(*[True] * 5)
    peers.clock.now += 14.9
    assert peers.passes() == 0
    peers.clock.now += 0.1
    assert peers.passes(10) == 3
    peers.ends(False, False)
    assert peers.standing().state == "half_open"
    peers.ends(False)
    assert peers.states == [("open", "failures"), ("half_open", "failures"), ("slow_start", "")]


def test_the_slow_start_lets_a_tenth_pass_and_all_after_its_end() -> None:
    peers = Peers()
    peers.ends(*[True] * 5)
    peers.clock.now += 15
    peers.passes(3)
    peers.ends(False, False, False)
    assert 10 <= peers.passes(100) <= 11
    peers.clock.now += 15
    assert 49 <= peers.passes(100) <= 51
    peers.clock.now += 15
    assert peers.passes(100) == 100
    assert peers.states[-1] == ("closed", "")


def test_without_a_slow_start_all_attempts_pass_at_once() -> None:
    peers = Peers(slow_start_seconds=0)
    peers.ends(*[True] * 5)
    peers.clock.now += 15
    peers.passes(3)
    peers.ends(False, False, False)
    assert (peers.passes(100), peers.standing().state) == (100, "closed")


def test_each_failed_probe_doubles_the_rest_up_to_eight_times() -> None:
    peers = Peers()
    peers.ends(*[True] * 5)
    rests = []
    for _ in range(6):
        rests.append(peers.standing().retry_in)
        peers.clock.now += rests[-1] or 0
        assert peers.passes() == 1
        peers.ends(True)
    assert rests == [15, 30, 60, 120, 120, 120]


def test_only_failures_in_the_slow_start_lengthen_the_next_rest() -> None:
    peers = Peers()
    peers.ends(*[True] * 5)
    peers.clock.now += 15
    peers.passes(3)
    peers.ends(False, False, False, *[True] * 5)
    assert peers.standing().retry_in == 30
    peers.clock.now += 30
    peers.passes(3)
    peers.ends(False, False, False)
    peers.clock.now += 30
    peers.ends(*[True] * 5)
    assert peers.standing().retry_in == 15


def test_probes_that_never_end_are_replaced_after_another_rest() -> None:
    peers = Peers()
    peers.ends(*[True] * 5)
    peers.clock.now += 15
    assert peers.passes(5) == 3
    peers.clock.now += 15
    assert peers.passes(5) == 3


def test_successes_of_attempts_made_all_the_same_close_the_circuit() -> None:
    peers = Peers()
    peers.ends(*[True] * 5)
    peers.clock.now += 1
    assert peers.passes() == 0
    peers.ends(False, False, False)
    assert peers.standing().state == "slow_start"


def test_failures_of_attempts_made_all_the_same_prolong_no_rest() -> None:
    peers = Peers()
    peers.ends(*[True] * 5)
    for _ in range(15):
        peers.clock.now += 1
        peers.ends(True)
    assert peers.passes() == 1


def test_a_late_reply_from_before_the_outage_does_not_end_the_rest() -> None:
    peers = Peers()
    peers.ends(*[True] * 5)
    peers.clock.now += 5
    for _ in range(3):
        peers.health.ended(A, "m", failed=False, seconds=20.0)
    assert peers.standing().state == "open"


def test_a_late_timeout_of_the_outage_does_not_end_the_recovery() -> None:
    peers = Peers(slow_start_seconds=0)
    peers.ends(*[True] * 5)
    peers.clock.now += 15
    peers.passes(3)
    peers.ends(False, False, False)
    peers.clock.now += 5
    for _ in range(10):
        peers.health.ended(A, "m", failed=True, seconds=60.0)
    assert peers.standing().state == "closed"


def test_a_call_that_says_nothing_of_its_provider_changes_nothing() -> None:
    peers = Peers()
    peers.ends(True, True, True, True)
    for _ in range(100):
        peers.health.ended(A, "m", failed=False, seconds=None)
    peers.ends(True)
    assert peers.standing().state == "open"


def test_a_provider_with_a_fifth_more_failures_than_its_peer_is_an_outlier() -> None:
    peers = Peers()
    peers.ends(*[False, False, True] * 10, provider=A)
    assert peers.standing().state == "closed"
    peers.ends(*[False] * 30, provider=B)
    peers.ends(True)
    assert (peers.standing().state, peers.standing().cause) == ("open", "outlier")


def test_a_provider_that_fails_no_more_than_its_peer_is_no_outlier() -> None:
    peers = Peers()
    peers.ends(*[False, False, True] * 10, provider=A)
    peers.ends(*[False, False, True] * 10, provider=B)
    peers.ends(True)
    assert peers.standing().state == "closed"


def test_a_provider_whose_peer_rests_is_no_outlier() -> None:
    peers = Peers()
    peers.ends(*[False] * 30, *[True] * 40, provider=B)
    assert peers.standing(B).state == "open"
    peers.ends(*[False, False, True] * 10)
    assert peers.standing().state == "closed"


def test_targets_of_an_alias_are_peers_of_each_other() -> None:
    eu, us = ("p", "eu.m"), ("p", "us.m")
    both = Config(
        providers={"p": Provider("p", "https://p", ("eu.m", "us.m", "other"))},
        aliases={"m": Alias((eu, us, ("gone", "m")), "first")},
    )
    health = Health(both, clock=Clock())
    assert {each.model: each.has_other for each in health.standings()} == {"eu.m": True, "us.m": True, "other": False}


def test_a_refused_key_rests_the_whole_provider_but_for_one_probe() -> None:
    peers = Peers()
    peers.health.key_refused(A)
    assert (peers.passes(), peers.passes(model="n"), peers.passes(provider=B)) == (0, 0, 1)
    assert (peers.standing(model="n").state, peers.standing(model="n").cause) == ("open", "key_refused")
    peers.clock.now += 15
    assert peers.passes(5) == 1
    peers.ends(False)
    assert (peers.passes(5), peers.passes(5, model="n")) == (5, 5)
    assert peers.states == [("open", "key_refused"), ("closed", "")]


def test_a_key_that_a_probe_finds_refused_rests_twice_as_long() -> None:
    peers = Peers()
    peers.health.key_refused(A)
    peers.health.key_refused(A)
    assert peers.standing().retry_in == 15
    peers.clock.now += 15
    assert peers.passes() == 1
    peers.health.key_refused(A)
    assert peers.standing().retry_in == 30


def test_failures_of_a_refused_key_rest_no_model_beyond_the_key() -> None:
    peers = Peers()
    for _ in range(10):
        peers.health.key_refused(A)
        peers.ends(True)
    peers.ends(False)
    assert (peers.passes(5), peers.standing().failures) == (5, 0)


def test_a_late_reply_from_before_the_refusal_does_not_end_the_rest() -> None:
    peers = Peers()
    peers.health.key_refused(A)
    peers.clock.now += 1
    peers.health.ended(A, "m", failed=False, seconds=30.0)
    assert peers.passes() == 0


def test_a_reload_that_switches_the_breaker_off_ends_the_rest_of_a_key() -> None:
    peers = Peers()
    peers.health.key_refused(A)
    peers.health.configured(config(enabled=False))
    assert peers.passes(5) == 5


def test_throttled_attempts_are_counted_and_are_no_failures() -> None:
    peers = Peers()
    for _ in range(50):
        peers.health.throttled(A, "m", None)
    assert (peers.passes(), peers.standing().throttles, peers.standing().failures) == (1, 50, 0)


@pytest.mark.parametrize(("asked", "rest"), [(7.0, 7), (3600.0, 60)])
def test_a_throttled_model_rests_for_the_retry_after_up_to_a_minute(asked: float, rest: int) -> None:
    peers = Peers()
    peers.health.throttled(A, "m", asked)
    assert (peers.standing().state, peers.standing().cause, peers.standing().retry_in) == ("open", "throttled", rest)
    assert (peers.passes(), peers.passes(model="n")) == (0, 1)
    peers.clock.now += rest
    assert (peers.passes(), peers.standing().state) == (1, "closed")


def test_a_breaker_that_is_off_lets_everything_pass() -> None:
    peers = Peers(enabled=False)
    peers.ends(*[True] * 50)
    peers.health.key_refused(A)
    peers.health.throttled(A, "m", 30)
    assert (peers.passes(10), peers.standing().state, peers.standing().failures) == (10, "closed", 50)


def test_a_reload_keeps_the_state_and_uses_the_new_settings() -> None:
    peers = Peers()
    peers.ends(*[True] * 5)
    peers.health.configured(config(open_seconds=40, models=("m", "x")))
    assert peers.standing().retry_in == 15
    peers.clock.now += 15
    assert peers.passes() == 1
    peers.ends(True)
    assert peers.standing().retry_in == 80


def test_a_reload_that_switches_the_breaker_off_ends_the_rest() -> None:
    peers = Peers()
    peers.ends(*[True] * 5)
    peers.health.configured(config(enabled=False))
    assert peers.passes(5) == 5


def test_a_provider_with_a_new_address_starts_as_healthy() -> None:
    peers = Peers()
    peers.ends(*[True] * 5)
    peers.ends(*[True] * 5, provider=B)
    peers.health.key_refused(A)
    moved = {A: Provider(A, "https://elsewhere", ("m",)), B: Provider(B, f"https://{B}", ("m",))}
    peers.health.configured(Config(providers=moved))
    assert (peers.passes(), peers.passes(provider=B)) == (1, 0)


def test_an_attempt_at_a_model_that_is_no_longer_configured_is_forgotten() -> None:
    peers = Peers()
    peers.health.configured(config(models=("n",)))
    peers.ends(*[True] * 5)
    assert [each.model for each in peers.health.standings()] == ["n", "n"]


def test_the_last_success_and_the_last_error_are_kept_for_people() -> None:
    peers = Peers()
    assert (peers.standing().last_success_at, peers.standing().last_failure, peers.standing().since) == (None,) * 3
    peers.health.ended(A, "m", failed=False, seconds=0.5)
    peers.health.note(A, "m", "unavailable", "no such host " + "x" * 1000)
    standing = peers.standing()
    assert standing.last_failure is not None
    assert (standing.last_failure.code, len(standing.last_failure.message)) == ("unavailable", 300)
    assert (standing.last_success_at is not None, standing.mean_seconds) == (True, 0.5)
