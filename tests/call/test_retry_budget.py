"""Tests of the retry budget. It limits the number of retries after failures, depending on the number of recent calls."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.call.retry_budget import ALWAYS, WINDOW_SECONDS, RetryBudget


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def taken(budget, share, tries):
    return sum(budget.take(share) for _ in range(tries))


def test_a_few_requests_are_always_allowed():
    assert taken(RetryBudget(Clock()), 0, 100) == ALWAYS


def test_further_requests_are_a_share_of_the_calls():
    budget = RetryBudget(Clock())
    for _ in range(500):
        budget.called()
    assert taken(budget, 0.1, 500) == 50


def test_few_calls_leave_the_constant_and_no_more():
    budget = RetryBudget(Clock())
    for _ in range(99):
        budget.called()
    assert taken(budget, 0.1, 500) == ALWAYS


def test_the_used_part_is_told():
    clock = Clock()
    budget = RetryBudget(clock)
    for _ in range(200):
        budget.called()
    assert budget.used(0.1) == 0
    taken(budget, 0.1, 5)
    assert budget.used(0.1) == 5 / 20
    taken(budget, 0.1, 100)
    assert budget.used(0.1) == 1
    assert budget.used(0.05) == 1, "a budget that has become smaller is used up, and not more"
    clock.now += WINDOW_SECONDS
    assert budget.used(0.1) == 0


def test_calls_and_requests_are_forgotten_after_the_window():
    clock = Clock()
    budget = RetryBudget(clock)
    for _ in range(500):
        budget.called()
    taken(budget, 0.1, 500)
    clock.now += WINDOW_SECONDS - 1
    assert taken(budget, 0.1, 500) == 0
    clock.now += 1
    assert taken(budget, 0.1, 500) == ALWAYS


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 40), st.integers(0, 40)), max_size=30), st.floats(0, 1))
def test_no_window_has_more_than_its_share(steps, share):
    """Check that the retry budget never allows too many retries (requests after a failed first one).

    Whenever a retry is allowed, the number of retries in the last `WINDOW_SECONDS` must be at most `ALWAYS`, or `share`
    times the number of calls in this time if that is more.
    """
    clock = Clock()
    budget = RetryBudget(clock)
    calls, more = [], []
    for seconds, begun, tries in steps:
        clock.now += seconds
        second = int(clock.now)
        for _ in range(begun):
            budget.called()
        calls.append((second, begun))
        more.append((second, taken(budget, share, tries)))
        recent = second - WINDOW_SECONDS
        allowed = max(ALWAYS, share * sum(count for at, count in calls if at > recent))
        assert sum(count for at, count in more if at > recent) <= allowed + 1e-9 or more[-1][1] == 0
