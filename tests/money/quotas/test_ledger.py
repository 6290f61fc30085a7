"""Tests of the arithmetic of buckets: refills, reservations, charges, and how long a refused caller must wait."""

import pytest

from gateway.money.quotas.bucket_chains import MAX_RETRY_AFTER, RETRY_AFTER_BUSY, Exceeded
from gateway.money.quotas.buckets import SECOND, Charge, Rule
from gateway.money.quotas.ledger import Ledger
from gateway.money.quotas.reservations import Claim

DAY = 86_400 * SECOND
TEN = 10_000_000_000
PLAIN = Rule("daily:<user>", TEN, 5_000_000_000, DAY)
STILL = Rule("once", TEN)
NONE = Rule("none", 0)
TOLD = Rule("told", TEN, notify=True)


def claim(amount, rule=PLAIN, bucket=""):
    return Claim(bucket or rule.name, rule, amount)


def spent(ledger, amount, rule=PLAIN, now=0, bucket=""):
    held = ledger.reserve([claim(amount, rule, bucket)], now)
    return ledger.charge(held, amount, now)


def refused(ledger, rule=PLAIN, now=0, amount=1):
    with pytest.raises(Exceeded) as caught:
        ledger.reserve([claim(amount, rule)], now)
    return caught.value


def restored(ledger, rule, balance, remainder=0, at=0.0, now=0, terms="", bucket="b"):
    return ledger.restore(rule, Charge(bucket, 0, balance, remainder, at, terms=terms), now)


def test_a_bucket_starts_full():
    assert Ledger().level("b", PLAIN, 0).balance == TEN


def test_what_was_held_too_much_comes_back_when_it_is_settled():
    ledger = Ledger()
    held = ledger.reserve([claim(7 * SECOND)], 0)
    assert ledger.level(PLAIN.name, PLAIN, 0)[2:4] == (TEN, 7 * SECOND)
    assert ledger.charge(held, 2, 0) == (Charge(PLAIN.name, 2, TEN - 2, 0, 0.0, terms=PLAIN.terms),)
    assert ledger.level(PLAIN.name, PLAIN, 0)[2:4] == (TEN - 2, 0)


def test_a_second_settlement_takes_nothing_and_says_the_same():
    ledger = Ledger()
    held = ledger.reserve([claim(10)], 0)
    first = ledger.charge(held, 4, 0)
    assert ledger.charge(held, 9, 5) == first
    assert ledger.level(PLAIN.name, PLAIN, 0).balance == TEN - 4


def test_a_call_that_cost_nothing_leaves_no_charge():
    ledger = Ledger()
    assert ledger.charge(ledger.reserve([claim(10)], 0), 0, 0) == ()


def test_only_the_buckets_that_apply_are_charged():
    ledger = Ledger()
    held = ledger.reserve([claim(5, bucket="a"), claim(5, bucket="b")], 0)
    assert [charge.bucket for charge in ledger.charge(held, 5, 0, only={("b",)})] == ["b"]
    assert [level.reserved for level in ledger.levels(0)] == [0]


def test_a_bucket_of_nothing_refuses_all():
    assert refused(Ledger(), NONE).retry_after == MAX_RETRY_AFTER


def test_a_call_dearer_than_the_balance_may_begin():
    """Check that a call is admitted while the balance is positive, even if the call could cost more."""
    ledger = Ledger()
    ledger.reserve([claim(3 * TEN)], 0)
    assert refused(ledger).balance == TEN


def test_calls_at_once_cannot_take_more_than_one_of_them_too_much():
    ledger = Ledger()
    cost, held = TEN // 20 + 1, []
    for _ in range(200):
        try:
            held.append(ledger.reserve([claim(cost)], 0))
        except Exceeded:
            continue
    for reservation in held:
        ledger.charge(reservation, cost, 0)
    assert len(held) == 20
    assert ledger.level(PLAIN.name, PLAIN, 0).balance >= -cost


def test_all_buckets_of_a_call_are_held_or_none():
    ledger = Ledger()
    spent(ledger, TEN, STILL)
    with pytest.raises(Exceeded):
        ledger.reserve([claim(5), claim(5, STILL)], 0)
    assert ledger.level(PLAIN.name, PLAIN, 0).reserved == 0


def test_of_several_empty_buckets_the_one_with_the_longest_wait_is_named():
    ledger = Ledger()
    spent(ledger, TEN)
    spent(ledger, TEN, STILL)
    with pytest.raises(Exceeded) as caught:
        ledger.reserve([claim(1), claim(1, STILL)], 0)
    assert caught.value.bucket == "once"


@pytest.mark.parametrize(
    ("rule", "over", "seconds"),
    [
        (PLAIN, 0, 1),
        (PLAIN, 5 * SECOND, 86_400),
        (Rule("m", TEN, 60, 60 * SECOND), 29, 30),
        (Rule("m", TEN, 60, 60 * SECOND), 30, 31),
        (Rule("slow", TEN, 1, 30 * DAY), 0, MAX_RETRY_AFTER),
        (STILL, 0, MAX_RETRY_AFTER),
    ],
)
def test_who_is_refused_is_told_when_something_will_have_flowed_in(rule, over, seconds):
    ledger = Ledger()
    spent(ledger, rule.capacity + over, rule)
    assert refused(ledger, rule).retry_after == seconds


def test_after_the_time_that_was_told_a_call_may_begin():
    rule = Rule("m", 100, 7, 60 * SECOND)
    ledger = Ledger()
    spent(ledger, 103, rule)
    wait = refused(ledger, rule).retry_after
    refused(ledger, rule, now=(wait - 1) * SECOND)
    ledger.reserve([claim(1, rule)], wait * SECOND)


def test_where_only_calls_in_flight_stand_in_the_way_the_wait_is_short():
    ledger = Ledger()
    ledger.reserve([claim(TEN, STILL)], 0)
    assert refused(ledger, STILL).retry_after == RETRY_AFTER_BUSY


@pytest.mark.parametrize("looks", [0, 1, 7, 1000])
def test_a_refill_is_the_same_however_often_it_is_looked_at(looks):
    rule = Rule("third", TEN, 1, 3 * SECOND)
    ledger = Ledger()
    spent(ledger, TEN, rule)
    end = 1000 * SECOND + 7
    for look in range(looks):
        ledger.refill("third", rule, 0, end * look // looks)
    charge = ledger.refill("third", rule, 0, end)
    assert (charge.balance, charge.remainder) == (333, SECOND + 7)


def test_a_refill_ends_at_the_capacity():
    ledger = Ledger()
    spent(ledger, 5 * SECOND)
    assert ledger.level(PLAIN.name, PLAIN, 3 * DAY).balance == TEN


def test_a_clock_that_was_set_back_adds_and_takes_nothing():
    ledger = Ledger()
    spent(ledger, TEN, now=DAY)
    assert ledger.refill(PLAIN.name, PLAIN, 0, 0).balance == 0
    assert ledger.refill(PLAIN.name, PLAIN, 0, DAY).balance == 0
    assert ledger.refill(PLAIN.name, PLAIN, 0, 2 * DAY).balance == 5 * SECOND


def test_somebody_may_refill_up_to_the_capacity():
    ledger = Ledger()
    spent(ledger, 3 * SECOND)
    assert ledger.refill(PLAIN.name, PLAIN, SECOND, 0)[1:3] == (-SECOND, 8 * SECOND)
    assert ledger.refill(PLAIN.name, PLAIN, 5 * SECOND, 0)[1:3] == (-2 * SECOND, TEN)


def test_a_bucket_that_only_notifies_lets_calls_through_below_zero():
    ledger = Ledger()
    spent(ledger, 2 * TEN, TOLD)
    assert ledger.reserve([claim(1, TOLD)], 0).notices == (("told", 200),)


@pytest.mark.parametrize(("used", "notices"), [(79, ()), (80, (("told", 80),)), (100, (("told", 100),))])
def test_a_notice_is_given_from_four_fifths_on(used, notices):
    ledger = Ledger()
    spent(ledger, TEN * used // 100, TOLD)
    assert ledger.reserve([claim(1, TOLD)], 0).notices == notices


def test_balances_are_kept_over_a_reload_and_capped():
    ledger = Ledger()
    spent(ledger, SECOND)
    ledger.reload(lambda _: Rule(PLAIN.name, 20 * SECOND, 5 * SECOND, DAY), 0)
    assert ledger.level(PLAIN.name, PLAIN, 0).balance == 9 * SECOND
    ledger.reload(lambda _: Rule(PLAIN.name, 3 * SECOND, 5 * SECOND, DAY), 0)
    assert ledger.level(PLAIN.name, PLAIN, 0).balance == 3 * SECOND


def test_what_flowed_in_before_a_reload_flowed_by_the_old_rate():
    ledger = Ledger()
    spent(ledger, TEN)
    ledger.reload(lambda _: Rule(PLAIN.name, TEN, SECOND, DAY), DAY)
    assert ledger.level(PLAIN.name, PLAIN, 2 * DAY).balance == 6 * SECOND


def test_a_returning_definition_has_its_charged_buckets():
    """Check that if a quota is removed and later defined again, its bucket has the charges of calls that ended while it
    was removed.
    """
    ledger = Ledger()
    held = ledger.reserve([claim(5)], 0)
    ledger.reload(lambda _: None, 0)
    assert len(ledger) == 0
    assert [charge.amount for charge in ledger.charge(held, 5, 0)] == [5]
    ledger.reload(lambda _: PLAIN, 0)
    assert [level.balance for level in ledger.levels(0)] == [PLAIN.capacity - 5]


def test_a_full_bucket_of_a_definition_that_is_gone_is_forgotten():
    ledger = Ledger()
    ledger.charge(ledger.reserve([claim(5)], 0), 0, 0)
    ledger.reload(lambda _: None, 0)
    ledger.reload(lambda _: Rule(PLAIN.name, 2 * TEN), 0)
    assert ledger.level("daily:a", Rule(PLAIN.name, 2 * TEN), 0).balance == 2 * TEN


def test_a_call_of_the_old_configuration_charges_the_old_bucket():
    """Check that a call is charged to the bucket in which it has reserved, even if the bucket's quota was removed
    during the call.
    """
    ledger = Ledger()
    spent(ledger, 5)
    ledger.reload(lambda _: None, 0)
    spent(ledger, 5)
    assert [level.balance for level in ledger.levels(0)] == [PLAIN.capacity - 10]


def test_a_bucket_goes_on_from_its_last_charge_after_a_restart():
    ledger, after = Ledger(), Ledger()
    (charge,) = spent(ledger, TEN)
    after.restore(PLAIN, charge, 0)
    assert after.level(PLAIN.name, PLAIN, DAY) == ledger.level(PLAIN.name, PLAIN, DAY)


@pytest.mark.parametrize("balance", [TEN, 2 * TEN])
def test_what_was_kept_of_a_full_bucket_is_capped(balance):
    ledger = Ledger()
    restored(ledger, PLAIN, balance)
    assert ledger.level("b", PLAIN, 0).balance == TEN


def test_a_remainder_of_another_period_is_left_out():
    ledger = Ledger()
    restored(ledger, PLAIN, 1, 30 * DAY)
    assert ledger.level("b", PLAIN, 0).balance == 1


def test_a_level_says_when_the_bucket_is_full_again():
    ledger = Ledger()
    spent(ledger, 5 * SECOND)
    spent(ledger, 1, STILL)
    assert [level.full_at for level in ledger.levels(0)] == [86_400.0, None]


def test_buckets_that_are_full_again_are_forgotten():
    rule = Rule("m", 10, 10, SECOND)
    ledger = Ledger()
    for caller in range(1000):
        spent(ledger, 5, rule, caller * SECOND, f"b{caller}")
    assert len(ledger) <= 3


def test_more_buckets_than_memory_is_meant_for_are_refused():
    ledger = Ledger(max_buckets=10)
    for caller in range(10):
        spent(ledger, 5, STILL, bucket=f"b{caller}")
    with pytest.raises(Exceeded):
        spent(ledger, 5, STILL, bucket="b10")
    spent(ledger, 5, STILL, bucket="b3")


def test_the_emptiest_bucket_of_a_definition_is_what_metrics_show():
    ledger = Ledger()
    spent(ledger, TEN // 4, bucket="a")
    spent(ledger, TEN * 3 // 4, bucket="b")
    assert ledger.used(0, {}) == {PLAIN.name: 0.75}


HOUR = 3600 * SECOND


@pytest.mark.parametrize(("period", "left"), [(DAY, DAY - 1), (HOUR, 0), (2 * DAY, 0)])
def test_a_part_of_a_unit_stays_over_a_reload_unless_the_period_changes(period, left):
    """Check that a reload keeps the refilled fraction of a unit, unless the reload changes the period of the refill.

    Only the numerator of the fraction is stored. The denominator is the period, so the numerator is wrong for another
    period.
    """
    rule = Rule("slow", TEN, 1, DAY)
    ledger = Ledger()
    spent(ledger, TEN, rule)
    ledger.reload(lambda _: Rule("slow", TEN, 1, period), DAY - 1)
    after = ledger.refill("slow", rule, 1, DAY - 1)
    assert (after.balance, after.remainder) == (1, left)
