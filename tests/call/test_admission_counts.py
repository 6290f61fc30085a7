"""Tests of admission without connections: what counts towards each limit, what is released, and how refusals are
worded.
"""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from gateway.call.admission import RETRY_SECONDS, Admission
from gateway.call.failover import NO_MEMORY
from gateway.config.model import Provider
from gateway.config.server import Limits
from gateway.contract.errors import RATE_LIMIT, UNAVAILABLE, Problem, Refused, UpstreamFailed
from gateway.telemetry.log import configure
from gateway.telemetry.metrics import Metrics
from tests.helpers.gateway import Lines

NO_PROVIDERS = SimpleNamespace(providers={}, metrics=SimpleNamespace(users=0))


class Gauged:
    """An `Admission` (the limits on calls), with the metrics and the log to which it writes."""

    def __init__(self, **limits):
        self.metrics = Metrics(NO_PROVIDERS)
        self.lines = Lines()
        self.admission = Admission(lambda: Limits(**limits), self.metrics, configure(self.lines))

    def value(self, name, **labels):
        return self.metrics.registry.get_sample_value(f"irisgate_{name}", labels)

    @property
    def held(self):
        return self.value("calls_in_flight"), self.value("buffered_bytes")

    def refused(self, limit):
        return self.value("calls_refused_total", limit=limit)


def problem(kind, function, *arguments):
    with pytest.raises(kind) as caught:
        function(*arguments)
    return caught.value.problem


def later(code, message):
    return Problem(code, message, retry_after=RETRY_SECONDS, retryable=True)


async def test_a_caller_has_as_many_places_as_configured():
    gauged = Gauged(calls_per_identity=2)
    enter = gauged.admission.enter
    first, _ = enter("ada", 0), enter("ada", 0)
    words = "ada has 2 calls in flight already, the limit; try again"
    assert problem(Refused, enter, "ada", 0) == later(RATE_LIMIT, words)
    enter("bob", 0)
    first.leave()
    assert gauged.held == (2, 0)
    enter("ada", 0)
    assert problem(Refused, enter, "ada", 0).code == RATE_LIMIT
    assert (gauged.held, gauged.refused("calls_per_identity")) == ((3, 0), 2)


async def test_all_callers_have_as_many_places_as_configured():
    gauged = Gauged(calls=2)
    enter = gauged.admission.enter
    enter("ada", 0)
    second = enter("bob", 0)
    words = "the gateway has 2 calls in flight already, the limit; try again"
    assert problem(Refused, enter, "eve", 0) == later(UNAVAILABLE, words)
    second.leave()
    enter("eve", 0)
    assert (gauged.held, gauged.refused("calls")) == ((2, 0), 1)


async def test_a_refusal_is_logged_by_limit_with_a_count():
    gauged = Gauged(calls_per_identity=1, buffer_bytes=10)
    gauged.admission.enter("ada", 0)
    for login, size in (("ada", 0), ("bob", 11), ("ada", 0)):
        problem(Refused, gauged.admission.enter, login, size)
    entries = await gauged.lines.until("calls.refused", 2)
    # a third line would be too soon after the first of the same limit
    assert [(entry["limit"], entry["count"]) for entry in entries] == [("calls_per_identity", 1), ("buffer_bytes", 1)]
    assert gauged.refused("buffer_bytes") == 1


async def test_bytes_of_a_caller_add_up_to_half_of_the_room():
    gauged = Gauged(buffer_bytes=10)
    enter = gauged.admission.enter
    ada = [enter("ada", 2), enter("ada", 2), enter("ada", 1)]
    words = "calls in flight take up the 10 bytes that the gateway has for bodies and replies; try again"
    assert problem(Refused, enter, "ada", 1) == later(UNAVAILABLE, words)
    bob = enter("bob", 5)
    assert problem(Refused, enter, "eve", 1).code == UNAVAILABLE
    assert gauged.held == (4, 10)
    for admitted in (*ada, bob):
        admitted.leave()
    # a single body may be larger than half of the room
    enter("ada", 10).leave()
    assert gauged.held == (0, 0)


async def test_a_refused_call_holds_nothing():
    gauged = Gauged(buffer_bytes=10)
    problem(Refused, gauged.admission.enter, "ada", 11)
    gauged.admission.enter("ada", 10)
    assert gauged.held == (1, 10)


async def test_callers_without_calls_are_forgotten():
    gauged = Gauged()
    for number in range(3):
        first, second = (gauged.admission.enter(f"user {number}", 5) for _ in range(2))
        first.hold_reply(3)
        first.leave()
        assert gauged.held == (1, 5)
        second.leave()
    assert gauged.held == (0, 0)
    assert (gauged.admission._calls, gauged.admission._held) == ({}, {})


async def test_a_body_is_held_as_it_grows_and_shrinks():
    gauged = Gauged(buffer_bytes=10)
    ada = gauged.admission.enter("ada", 1)
    for change, size, held in (
        (ada.hold, 2, 3),
        (ada.hold, 1, 4),
        (ada.ensure, 4, 4),
        (ada.ensure, 3, 4),
        (ada.ensure, 5, 5),
        (ada.shrink, 1, 1),
        # half of the room is free for this caller again
        (ada.ensure, 5, 5),
    ):
        change(size)
        assert gauged.held == (1, held)
    assert problem(Refused, ada.ensure, 6).code == UNAVAILABLE
    ada.leave()
    assert gauged.held == (0, 0)


async def test_the_buffered_part_of_a_reply_is_held_as_it_changes():
    gauged = Gauged(buffer_bytes=10)
    ada = gauged.admission.enter("ada", 1)
    for size in (3, 3, 4, 1, 0, 2):
        ada.hold_reply(size)
        assert gauged.held == (1, 1 + size)
    words = "calls in flight take up the 10 bytes that the gateway has for bodies and replies; try again"
    assert problem(UpstreamFailed, ada.hold_reply, 5) == replace(later(UNAVAILABLE, words), reason=NO_MEMORY)
    # half of the room, and not a byte more
    ada.hold_reply(4)
    assert problem(UpstreamFailed, ada.hold_reply, 5).code == UNAVAILABLE
    ada.leave()
    assert (gauged.held, gauged.admission._held) == ((0, 0), {})


async def test_a_provider_has_as_many_places_as_configured():
    gauged = Gauged()
    one, other = (Provider(name, "http://127.0.0.1:9", ("m",), calls_in_flight=2) for name in ("one", "other"))
    enter, leave = gauged.admission.enter_provider, gauged.admission.leave_provider
    enter(one)
    enter(one)
    words = 'provider "one" has 2 calls in flight already, the limit; try again'
    assert problem(Refused, enter, one) == later(UNAVAILABLE, words)
    assert gauged.refused("providers.one.calls_in_flight") == 1
    enter(other)
    leave(one)
    assert gauged.value("provider_calls_in_flight", provider="one") == 1
    enter(one)
    assert problem(Refused, enter, one).code == UNAVAILABLE
    leave(one)
    leave(one)
    assert gauged.value("provider_calls_in_flight", provider="one") == 0


async def test_a_provider_without_a_limit_has_many_places():
    gauged = Gauged()
    provider = Provider("free", "http://127.0.0.1:9", ("m",))
    for _ in range(100):
        gauged.admission.enter_provider(provider)
    assert gauged.value("provider_calls_in_flight", provider="free") == 100
