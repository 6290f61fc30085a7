"""Tests of the amounts that the parent process (the keeper) lends to its workers from the quota balances."""

import pytest

from gateway.money.quotas.book import Quotas
from gateway.money.quotas.buckets import SECOND, Bucket, Rule
from gateway.money.quotas.clock import SteadyClock
from gateway.money.quotas.leases import Ask, Need, NotOpen
from gateway.money.quotas.lending import Lender
from gateway.money.quotas.slices import Slices, Want

RULE = Rule("all", 100)
REFILLED = Rule("all", 100, amount=1)
KEY = Bucket("money", "all")


class Keeper:
    """The parent process of two workers, to which it lends parts of its quota balances. The list `told` has the
    messages that it sent to the workers.
    """

    def __init__(self, clock=None, rule=RULE):
        self.quotas, self.told, self.rule = Quotas(clock or SteadyClock()), [], rule
        self.lender = Lender(self.quotas)
        self.lender.recall = lambda worker, _bucket: self._tell("recall", worker)
        self.lender.free = lambda worker, _bucket: self._tell("free", worker)
        for worker in "ab":
            self.lender.open(worker)

    def _tell(self, what, worker):
        self.told.append((what, worker))
        return True

    def ask(self, worker, *needs, **more):
        wants = [Need(amount) for amount in needs]
        ask = Ask(bucket="all", rule=self.rule, **{"known": 0, "spent": 0, **more}, needs=wants)
        (answer,) = self.lender.exchange(worker, [ask]).answers
        return answer

    def spend(self, worker, amount):
        self.quotas.take(KEY, self.rule.terms, amount)
        self.lender.spend(worker, KEY, amount)

    @property
    def free(self):
        bucket = self.quotas.bucket(KEY)
        return bucket.own - bucket.reserved


def test_what_one_worker_holds_no_other_gets():
    keeper = Keeper()
    assert keeper.ask("a", 60).granted == 60
    assert keeper.free == 40
    answer = keeper.ask("b", 30, 30)
    # the second call begins too, because something is left for it, as in one process
    assert (answer.granted, answer.is_refused, keeper.free) == (60, False, -20)
    assert keeper.ask("a", 1, known=60).is_refused


def test_a_charge_is_taken_from_the_balance_and_the_slice_once():
    keeper = Keeper()
    keeper.ask("a", 60)
    keeper.spend("a", 25)
    assert (keeper.quotas.bucket(KEY).balance, keeper.free) == (75, 40)
    keeper.lender.end("a")
    assert (keeper.quotas.bucket(KEY).balance, keeper.free) == (75, 75)


def test_a_refused_worker_hears_when_all_others_have_answered():
    keeper = Keeper()
    keeper.ask("a", 100)
    assert keeper.ask("b", 10).is_refused
    assert keeper.told == [("recall", "a")]
    # the other worker gives back what it does not need
    keeper.ask("a", known=70)
    assert keeper.told == [("recall", "a"), ("free", "b")]
    assert not keeper.ask("b", 10).is_refused


def test_a_worker_that_ends_frees_what_others_wait_for():
    keeper = Keeper()
    keeper.ask("a", 100)
    assert keeper.ask("b", 10).is_refused
    keeper.lender.end("a")
    assert keeper.told == [("recall", "a"), ("free", "b")]
    with pytest.raises(NotOpen):
        keeper.ask("a", 1)


def test_the_next_keeper_goes_on_with_the_leases():
    keeper, following = Keeper(), Keeper()
    keeper.ask("a", 60)
    keeper.spend("a", 25)
    following.lender.adopt("a", keeper.lender.states("a"))
    assert following.quotas.bucket(KEY).leased == 35
    answer = following.ask("a", 10, known=60, spent=25)
    assert (answer.granted, answer.spent) == (70, 25)


def test_the_next_keeper_knows_the_charges_to_a_full_bucket():
    """Check that the next keeper (the main process) learns how much a worker has charged to a bucket that is full
    again.

    Full buckets are dropped from memory. Without these charges, the next keeper would count their amount as still lent
    to the worker.
    """
    times = [0]
    keeper, following = Keeper(lambda: times[-1], REFILLED), Keeper(lambda: times[-1], REFILLED)
    for one in (keeper, following):
        one.quotas.rules = {"all": REFILLED}
    keeper.ask("a", 60)
    keeper.spend("a", 60)
    times.append(100 * SECOND)
    keeper.lender.exchange("b", [Ask(bucket="other", rule=Rule("other", 1), known=0, spent=0)])
    assert keeper.quotas.bucket(KEY) is None
    following.lender.adopt("a", keeper.lender.states("a"))
    answer = following.ask("a", 10, known=60, spent=60)
    assert (answer.granted, answer.spent, following.free) == (70, 60, 90)


def test_a_worker_that_registers_again_holds_what_it_has_not_reported():
    """Check the amount that a worker holds after it has registered again at the main process.

    It is what the worker has reserved, plus what it has spent in records that the main process has not read yet.
    """
    keeper = Keeper()
    keeper.ask("a", 60)
    keeper.spend("a", 25)
    keeper.lender.open("a")
    assert keeper.free == 75
    # of the 40 that the worker has spent, 15 are in records that were not read yet, and 10 more are reserved
    answer = keeper.ask("a", spent=40, owed=50)
    assert (answer.granted, answer.spent, keeper.free) == (50, 25, 50)
    keeper.spend("a", 15)
    assert (keeper.quotas.bucket(KEY).balance, keeper.free) == (60, 50)


def test_a_keeper_of_several_lends_no_more_than_its_own_slice():
    quotas = Quotas(slices=Slices(clock=lambda: 0.0, until=1.0))
    lender = Lender(quotas)
    lender.open("a")
    bucket = quotas.shared_bucket(KEY, RULE)
    bucket.granted = 5
    ask = Ask(bucket="all", rule=RULE, known=0, spent=0, needs=[Need(8, beside=2)])
    assert list(lender.lacking("a", [ask])) == [(KEY, Want(10, 2, is_partial=False))]
    (answer,) = lender.exchange("a", [ask]).answers
    assert (answer.granted, answer.is_refused, bucket.leased, bucket.free) == (0, True, 0, 5)
    bucket.granted = 8
    assert list(lender.lacking("a", [ask])) == []
    (answer,) = lender.exchange("a", [ask]).answers
    assert (answer.granted, answer.is_refused, bucket.leased, bucket.free) == (8, False, 8, 0)
