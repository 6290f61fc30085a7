"""Tests of the sums over the calls of the last minutes."""

from gateway.telemetry.recent_calls import MINUTES, Minute, RecentCalls
from tests.helpers.records import record

ADA, BOB = "ada@example.com", "bob@example.com"


def test_minutes_are_summed_and_old_ones_are_dropped():
    now = [600.0]
    recent = RecentCalls(lambda: now[0])
    recent.observe(record(identity=ADA, cost=5))
    recent.observe(record(identity=BOB, cost=None, outcome="failed"))
    now[0] = 725.0
    recent.observe(record(identity=ADA, cost=7, outcome="cancelled"))
    tokens = 100 + 20 + 7 + 5 + 3
    assert [minute.at for minute in recent.minutes()] == [480, 540, 600, 660, 720]
    assert recent.minutes()[2:] == (
        Minute(600, 2, 1, 2 * tokens, 5, 1), Minute(660), Minute(720, 1, 0, tokens, 7, 0),
    )  # fmt: skip
    assert [minute.calls for minute in recent.minutes(BOB)] == [0, 0, 1, 0, 0]
    now[0] += MINUTES * 60
    recent.observe(record(identity=ADA))
    assert [minute.calls for minute in recent.minutes()] == [0, 0, 0, 0, 1]
