"""Tests of the ledger of quotas: chains of buckets, windows of the calendar, warnings, and changes of a quota's
definition.

If a bucket of a chain is empty, the next bucket of the chain pays.
"""

from datetime import datetime

import pytest

from gateway.money.quotas.book import Quotas
from gateway.money.quotas.bucket_chains import MAX_RETRY_AFTER, RETRY_AFTER_BUSY, Exceeded
from gateway.money.quotas.buckets import SECOND, Charge, Rule
from gateway.money.quotas.clock import SteadyClock
from gateway.money.quotas.definitions import Quota, merged_chains
from gateway.money.quotas.ledger import Ledger
from gateway.money.quotas.reservations import Claim
from gateway.money.quotas.windows import Window

DAY = 86_400 * SECOND
OWN, TEAM, LAST = Rule("own", 10), Rule("team", 20), Rule("last", 5)
CHAIN = (("team", TEAM), ("last", LAST))
BERLIN = Window("month", "Europe/Berlin")


def at(text):
    return int(datetime.fromisoformat(text).timestamp()) * SECOND


def claim(amount, *, own=OWN, overdraft=CHAIN):
    return Claim(own.name, own, amount, overdraft)


def spend(ledger, amount, now=0, **chain):
    held = ledger.reserve([claim(amount, **chain)], now)
    return {charge.bucket: charge.amount for charge in ledger.charge(held, amount, now)}


def balances(ledger, *names):
    return [ledger.level(name, {"own": OWN, "team": TEAM, "last": LAST}[name], 0).balance for name in names]


@pytest.mark.parametrize(
    ("costs", "last"),
    [
        ([4], {"own": 4}),
        ([10], {"own": 10}),
        ([11], {"own": 10, "team": 1}),
        ([33], {"own": 10, "team": 20, "last": 3}),
        ([99], {"own": 10, "team": 20, "last": 69}),
        ([9, 9], {"own": 1, "team": 8}),
        ([10, 20, 4, 9], {"last": 9}),
    ],
)
def test_a_chain_pays_in_order_and_only_its_last_bucket_is_overdrawn(costs, last):
    ledger = Ledger()
    assert [spend(ledger, cost) for cost in costs][-1] == last


def test_a_chain_refuses_only_when_all_its_buckets_are_empty_together():
    ledger = Ledger()
    spend(ledger, 34)
    spend(ledger, 9)
    assert balances(ledger, "own", "team", "last") == [0, 0, -8]
    with pytest.raises(Exceeded) as caught:
        ledger.reserve([claim(1)], 0)
    assert [bucket.name for bucket in caught.value.chain] == ["own", "team", "last"]
    # blocked until the sum is above zero
    ledger.refill("own", OWN, 8, 0)
    with pytest.raises(Exceeded):
        ledger.reserve([claim(1)], 0)
    ledger.refill("team", TEAM, 1, 0)
    ledger.reserve([claim(1)], 0)


def test_calls_in_flight_hold_a_chain_in_order():
    ledger = Ledger()
    held = [ledger.reserve([claim(9)], 0) for _ in range(4)]
    assert [ledger.level(name, OWN, 0).reserved for name in ("own", "team", "last")] == [10, 20, 6]
    with pytest.raises(Exceeded) as caught:
        ledger.reserve([claim(1)], 0)
    assert caught.value.retry_after == RETRY_AFTER_BUSY
    for reservation in held:
        ledger.charge(reservation, 8, 0)
    assert balances(ledger, "own", "team", "last") == [0, 0, 3]
    assert [level.reserved for level in ledger.levels(0)] == [0, 0, 0]


def test_buckets_beside_a_chain_are_charged_in_full():
    ledger = Ledger()
    beside = Claim("beside", Rule("beside", 100), 15)
    held = ledger.reserve([claim(15), beside], 0)
    charges = ledger.charge(held, 15, 0)
    assert {charge.bucket: charge.amount for charge in charges} == {"own": 10, "team": 5, "beside": 15}


def test_a_bucket_of_two_chains_is_charged_once():
    ledger = Ledger()
    other = Claim("other", Rule("other", 3), 15, (("team", TEAM),))
    charges = ledger.charge(ledger.reserve([claim(15), other], 0), 15, 0)
    assert {charge.bucket: charge.amount for charge in charges} == {"own": 10, "team": 12, "other": 3}


def test_a_bucket_that_only_notifies_takes_the_rest_of_a_chain():
    own = Rule("own", 10, notify=True)
    ledger = Ledger()
    assert spend(ledger, 12, own=own) == {"own": 12}
    assert spend(ledger, 5, own=own) == {"own": 5}


@pytest.mark.parametrize(
    ("own", "team", "seconds"),
    [
        (Rule("own", 10, 1, SECOND), Rule("team", 10), 6),
        (Rule("own", 10), Rule("team", 10, 1, 2 * SECOND), 12),
        # both flow in: 3 in 2 seconds
        (Rule("own", 10, 1, SECOND), Rule("team", 10, 1, 2 * SECOND), 4),
        # neither alone gains enough
        (Rule("own", 3, 1, SECOND), Rule("team", 4, 1, SECOND), 3),
        (Rule("own", 3, 1, SECOND), Rule("team", 2, 1, SECOND), 3),
        (Rule("own", 10), Rule("team", 10), MAX_RETRY_AFTER),
    ],
)
def test_a_chain_says_when_its_buckets_suffice_together(own, team, seconds):
    ledger = Ledger()
    spend(ledger, own.capacity + team.capacity + 5, own=own, overdraft=(("team", team),))
    with pytest.raises(Exceeded) as caught:
        ledger.reserve([claim(1, own=own, overdraft=(("team", team),))], 0)
    assert abs(caught.value.retry_after - seconds) <= 1


@pytest.mark.parametrize(
    ("chains", "merged"),
    [
        ([("a",), ("b",)], (("a",), ("b",))),
        ([("a",), ("a", "b")], (("a", "b"),)),
        ([("a", "b"), ("a",)], (("a", "b"),)),
        ([("a", "b"), ("a", "c", "b")], (("a", "b", "c"),)),
        ([("a", "b", "a")], (("a", "b"),)),
    ],
)
def test_chains_of_several_grants_add_to_each_other(chains, merged):
    assert merged_chains(chains) == merged


def test_a_month_of_the_calendar_is_paid_once_and_filled_at_its_border():
    rule = Rule("m", 100, window=BERLIN)
    ledger, now = Ledger(), at("2026-10-05T12:00+02:00")
    for _ in range(4):
        ledger.charge(ledger.reserve([Claim("m", rule, 25)], now), 25, now)
        now += DAY
    with pytest.raises(Exceeded) as caught:
        ledger.reserve([Claim("m", rule, 1)], now)
    border = at("2026-11-01T00:00+01:00")
    assert caught.value.retry_after == (border - now) // SECOND
    with pytest.raises(Exceeded):
        ledger.reserve([Claim("m", rule, 1)], border - 1)
    assert ledger.level("m", rule, border - 1).full_at == border / SECOND
    ledger.reserve([Claim("m", rule, 1)], border)
    assert ledger.level("m", rule, border).balance == 100


def test_each_window_is_filled_once():
    rule, now = Rule("m", 100, window=BERLIN), at("2026-10-05T12:00+02:00")
    ledger = Ledger()
    for border in ("2026-11-01T00:00+01:00", "2026-12-01T00:00+01:00", "2027-01-01T00:00+01:00"):
        ledger.charge(ledger.reserve([Claim("m", rule, 60)], now), 60, now)
        ledger.release(ledger.reserve([Claim("m", rule, 1)], now + 20 * DAY), now + 21 * DAY)
        assert ledger.level("m", rule, at(border) - 1).balance == 40
        now = at(border)
        assert ledger.level("m", rule, now).balance == 100


def test_a_call_counts_in_the_window_in_which_it_ends():
    rule, border = Rule("m", 100, window=BERLIN), at("2026-11-01T00:00+01:00")
    ledger = Ledger()
    held = ledger.reserve([Claim("m", rule, 60)], border - 1)
    assert ledger.level("m", rule, border)[2:4] == (100, 60)
    ledger.charge(held, 60, border + SECOND)
    assert ledger.level("m", rule, border + SECOND)[2:4] == (40, 0)


def test_a_window_adds_nothing_before_its_border():
    """Check that a bucket with an hourly window is not refilled before the hour ends, so that only its capacity can be
    spent.

    For comparison, nearly twice the capacity can be spent within a minute from a bucket that refills evenly in a
    minute.
    """
    rate, window = Rule("r", 60, 60, 60 * SECOND), Rule("w", 60, window=Window("hour"))
    for rule, passed in ((rate, 118), (window, 60)):
        ledger, total, start = Ledger(), 0, at("2026-10-05T12:00+00:00")
        for second in range(59):
            try:
                held = ledger.reserve([Claim("x", rule, 60)], start + second * SECOND)
            except Exceeded:
                continue
            left = ledger.level("x", rule, start + second * SECOND).balance
            total += left
            ledger.charge(held, left, start + second * SECOND)
        assert total == passed


RULES = {
    "rate": Rule("q", 100, 10, DAY),
    "faster": Rule("q", 100, 50, DAY),
    "larger": Rule("q", 300, 10, DAY),
    "smaller": Rule("q", 40, 10, DAY),
    "none": Rule("q", 100),
    "month": Rule("q", 100, window=BERLIN),
    "day": Rule("q", 100, window=Window("day")),
    "zero": Rule("q", 0),
}


@pytest.mark.parametrize("spent", [0, 30, 100, 130])
@pytest.mark.parametrize("after", RULES)
@pytest.mark.parametrize("before", RULES)
def test_an_edit_gives_the_same_balance_by_reload_and_by_restart(before, after, spent):
    old, new = RULES[before], RULES[after]
    start, edited, later = (at(f"2026-{day}T12:00+00:00") for day in ("10-30", "11-02", "11-09"))
    ledger, restarted = Ledger(), Ledger()
    stored = {}
    if spent and old.capacity:
        held = ledger.reserve([Claim("q", old, spent)], start)
        stored = {charge.bucket: charge for charge in ledger.charge(held, spent, start)}
    ledger.reload(lambda _: new, edited)
    for charge in stored.values():
        restarted.restore(new, charge, edited)
    for now in (edited, later):
        assert ledger.level("q", new, now).balance == restarted.level("q", new, now).balance


@pytest.mark.parametrize(("before", "after", "balance"), [("rate", "larger", 300), ("zero", "rate", 100)])
def test_a_full_bucket_stays_full_when_its_capacity_grows(before, after, balance):
    ledger = Ledger()
    held = ledger.reserve([Claim("q", RULES["none"], 5)], 0)
    ledger.reload(lambda _: RULES[before], 0)
    ledger.charge(held, 0, 0)
    ledger.refill("q", RULES[before], 5, 0)
    ledger.reload(lambda _: RULES[after], 0)
    assert ledger.level("q", RULES[after], 0).balance == balance


def test_a_balance_of_an_older_release_refills_by_the_rule_of_today():
    ledger = Ledger()
    ledger.restore(RULES["rate"], Charge("q", 0, 10, 0, 0.0), 2 * DAY)
    assert ledger.level("q", RULES["rate"], 2 * DAY).balance == 30


@pytest.mark.parametrize("terms", ["x", "1", "1 2", "1 month Nowhere/Land", "1 year UTC", "1 2/x", "- -/-"])
def test_stored_terms_that_cannot_be_read_are_those_of_today(terms):
    assert RULES["rate"].with_terms(terms) == RULES["rate"]


@pytest.mark.parametrize("name", RULES)
def test_stored_terms_give_the_rule_again(name):
    assert Rule("q", 7, 3, DAY).with_terms(RULES[name].terms) == RULES[name]


def test_a_clock_that_is_set_back_and_put_right_refills_once():
    wall, steady = [DAY], [0]
    book = Quotas(SteadyClock(lambda: wall[0], lambda: steady[0]))
    book.configured({"q": Quota("q", 100, 10, 1)})
    held = book.reserve([Claim("q", book.rules["q"], 100)])["money"]
    book._money.charge(held, 100, book.clock())
    wall[0] -= DAY // 2
    assert book.level("q").balance == 0
    wall[0] += DAY // 2 + SECOND
    steady[0] += SECOND
    assert book.level("q").balance == 10


def test_a_clock_that_stays_behind_goes_on_at_half_the_speed():
    wall, steady = [DAY], [0]
    clock = SteadyClock(lambda: wall[0], lambda: steady[0])
    wall[0] -= 100 * SECOND
    for _ in range(200):
        wall[0] += SECOND
        steady[0] += SECOND
        assert clock() >= wall[0]
    assert clock() == wall[0] == DAY + 100 * SECOND


def test_a_stored_time_far_ahead_holds_a_bucket_for_a_day_only():
    ledger = Ledger()
    ledger.restore(RULES["rate"], Charge("q", 0, 10, 0, 400 * 86_400.0, terms=RULES["rate"].terms), 0)
    assert [ledger.level("q", RULES["rate"], days * DAY).balance for days in (1, 2)] == [10, 20]


@pytest.mark.parametrize("notify", [True, False])
def test_a_bucket_is_reported_once_when_four_fifths_are_used(notify):
    rule, reports = Rule("q", 100, 1, SECOND, notify), []
    ledger = Ledger(nearly_used=reports.append)
    for used, reported in ((79, 0), (1, 1), (1, 1), (5, 1)):
        ledger.charge(ledger.reserve([Claim("q", rule, used)], 0), used, 0)
        assert len(reports) == reported
    assert (reports[0].bucket, reports[0].balance, reports[0].spent) == ("q", 20, 0.8)
    # a small part of a refill causes no second report, but most of a refill does
    for second, reported in ((7, 1), (60, 2)):
        ledger.charge(
            ledger.reserve([Claim("q", rule, 61)], second * SECOND), 7 if second == 7 else 61, second * SECOND
        )
        assert len(reports) == reported


@pytest.mark.parametrize(("second", "reported"), [(10, 1), (11, 2)])
def test_a_bucket_is_reported_again_below_seventy_percent(second, reported):
    rule, reports = Rule("q", 100, 1, SECOND), []
    ledger = Ledger(nearly_used=reports.append)
    ledger.charge(ledger.reserve([Claim("q", rule, 80)], 0), 80, 0)
    ledger.charge(ledger.reserve([Claim("q", rule, second)], second * SECOND), second, second * SECOND)
    assert len(reports) == reported


def test_a_bucket_that_was_reported_is_not_reported_again_after_a_restart():
    reports = []
    ledger = Ledger(nearly_used=reports.append)
    ledger.restore(RULES["none"], Charge("q", 0, 15, 0, 0.0, terms=RULES["none"].terms), 0)
    ledger.charge(ledger.reserve([Claim("q", RULES["none"], 5)], 0), 5, 0)
    assert reports == []


def test_a_quota_of_nothing_is_used_completely():
    book = Quotas(lambda: 0)
    book.configured({"none": Quota("none", 0), "some": Quota("some", 5)})
    assert book.used() == {"none": 1.0, "some": 0.0}


def test_only_buckets_with_something_used_or_held_are_listed():
    ledger = Ledger()
    for name, cost in (("a", 0), ("b", 5)):
        ledger.charge(ledger.reserve([Claim(name, TEAM, 5)], 0), cost, 0)
    ledger.reserve([Claim("c", TEAM, 5)], 0)
    assert [level.bucket for level in ledger.levels(0)] == ["b", "c"]
