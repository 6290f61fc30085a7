"""Tests of the number of active sessions. It is exact for few sessions, and an estimate for many. It needs constant
memory.
"""

import tracemalloc
from types import SimpleNamespace

import pytest

from gateway.telemetry.active_sessions import SLOTS, ActiveSessions


def counted():
    clock = SimpleNamespace(now=1000.0)
    return clock, ActiveSessions(lambda: clock.now)


def test_a_session_is_active_for_five_minutes():
    clock, sessions = counted()
    sessions.note(1)
    sessions.note(2)
    clock.now += 200
    sessions.note(1)
    assert sessions.count() == 2
    clock.now += 200
    assert sessions.count() == 1
    clock.now += 200
    assert sessions.count() == 0


def test_no_session_is_active_before_the_first_call():
    # the clock of a machine that has just started may be near zero
    assert ActiveSessions(lambda: 0.0).count() == 0


@pytest.mark.parametrize("number", [10, 1_000, 10_000, 100_000])
def test_the_number_of_many_sessions_is_estimated(number):
    _, sessions = counted()
    for each in range(number):
        sessions.note(f"session {each}")
    # five times the standard error
    assert sessions.count() == pytest.approx(number, rel=0.04, abs=2)


def test_more_sessions_than_can_be_estimated_are_no_error():
    _, sessions = counted()
    for each in range(SLOTS):
        sessions.note(each)
    assert sessions.count() > 10 * SLOTS


def test_sessions_of_an_hour_take_no_memory():
    clock, sessions = counted()
    sessions.note("first")
    tracemalloc.start()
    try:
        for each in range(100_000):
            clock.now += 0.036
            sessions.note((f"user {each % 100}", f"session {each}"))
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 1_000
