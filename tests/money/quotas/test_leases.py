"""Tests of leases: gateways hold parts of a bucket's balance, and together never spend more than a single gateway
would.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.money.quotas.book import Quotas
from gateway.money.quotas.bucket_chains import Exceeded
from gateway.money.quotas.buckets import SECOND, Bucket, LiveBucket, Rule
from gateway.money.quotas.definitions import Quota
from gateway.money.quotas.leases import Answer, Ask, Lease, Need, Standing, answered
from gateway.money.quotas.reservations import Claim
from gateway.money.quotas.settlements import Settlement
from gateway.money.quotas.slices import DRY_SECONDS, IDLE_SECONDS, Slices, Want
from tests.bench.leases import Case, Simulation
from tests.helpers.memory_bank import MemoryBank

RULE = Rule("all", 100)
NOTIFY = Rule("all", 100, notify=True)
CHAIN = [(Bucket("money", "all"),)]


class Gateway:
    """A gateway with one bucket. The quota bank keeps the bucket's balance. The gateway asks the bank only when a test
    tells it to.
    """

    def __init__(self, bank, name="a"):
        self.bank, self.name, self.now = bank, name, 0.0
        self.quotas = Quotas(slices=Slices(clock=lambda: self.now, until=1e9), clock=lambda: round(self.now * SECOND))

    @property
    def bucket(self):
        return self.quotas.sliced("all")

    def reserve(self, amount, rule=RULE):
        return self.quotas.reserve([Claim("all", rule, amount)])

    def ask(self, *amounts, is_lost=False):
        """Ask the quota bank for the amounts that waiting calls need, and return its answer.

        If `is_lost` is true, the answer does not reach the gateway.
        """
        wants = [Want(amount, 0, is_partial=False) for amount in amounts]
        ask = self.quotas.slices.ask("all", self.bucket, wants)
        (answer,) = self.bank.exchange(self.name, [ask], round(self.now * SECOND))
        if not is_lost:
            self.quotas.slices.apply(ask, answer, self.bucket)
        return answer

    def begin(self, amount):
        """Reserve an amount for a call. If the gateway's part of the balance is too small, first ask the bank for more.

        Return the reservation, or None if the call is refused.
        """
        try:
            return self.reserve(amount)
        except Exceeded as exceeded:
            if exceeded.short is None:
                return None
        self.ask(amount)
        try:
            return self.reserve(amount)
        except Exceeded:
            return None

    def charge(self, held, amount):
        self.quotas.charge(held, CHAIN, Settlement(money=amount))
        self.bank.record(self.name, {"all": amount}, round(self.now * SECOND))


@pytest.fixture
def bank():
    return MemoryBank()


@pytest.fixture
def gateway(bank):
    return Gateway(bank)


@pytest.mark.parametrize(
    "case",
    [
        Case("unit", gateways=100, calls=1_500, rate=200, capacity=500, crashes=5),
        Case("estimates", gateways=100, calls=1_500, rate=200, capacity=500_000, estimates=(1, 2_000)),
        Case("refill", gateways=100, calls=1_500, rate=200, capacity=200, refill=100),
    ],
    ids=lambda case: case.name,
)
def test_a_hundred_gateways_spend_no_more_than_one_and_refuse_no_more(case):
    result = Simulation(case).run()
    assert result.overshoot == 0
    assert result.refused > case.calls / 10
    assert result.wrongly < case.calls / 100
    assert result.requests < 3 * case.calls
    assert result.difference <= 0


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 40), st.integers(0, 40), st.integers(0, 8)), max_size=60)
)
def test_a_call_begins_only_if_something_is_left(calls):
    """Check that several gateways together overdraw a bucket by less than 40, the highest cost of one call.

    The calls begin and end in any order.
    """
    bank, now = MemoryBank(), 0.0
    gateways = {name: Gateway(bank, name) for name in "abc"}
    left, running = 100, []
    for name, amount, cost, pause in calls:
        now += pause
        for gateway in gateways.values():
            gateway.now = now
        before = left
        if (held := gateways[name].begin(amount)) is not None:
            # a gateway's slice may cover the call while another one's call has overdrawn the bucket
            assert before > -40
            left -= amount
            running.append((name, held, amount, min(cost, amount)))
        if len(running) > 4:
            ended, its, reserved, spent = running.pop(0)
            gateways[ended].charge(its, spent)
            left += reserved - spent
    assert left > -40


def test_exactly_as_many_calls_begin_as_the_bucket_has(bank):
    gateways = [Gateway(bank, name) for name in "abc"]
    begun = [gateways[number % 3].begin(5) is not None for number in range(200)]
    assert sum(begun) == 20


def test_a_slice_is_spent_without_a_question(gateway, bank):
    gateway.begin(1)
    asked = bank.requests
    for _ in range(3):
        assert gateway.begin(1)
    assert bank.requests == asked


def test_what_a_lost_reply_granted_is_granted_once(gateway, bank):
    gateway.begin(1)
    gateway.ask(30, is_lost=True)
    assert bank.leases["all"]["a"].granted > gateway.bucket.granted + 20
    gateway.ask(30)
    assert bank.leases["all"]["a"].granted == gateway.bucket.granted < 60


def test_the_bank_takes_back_what_a_silent_gateway_has_not_spent(gateway, bank):
    held = gateway.begin(60)
    gateway.charge(held, 10)
    other = Gateway(bank, "b")
    other.now = 20.0
    assert other.begin(20)
    assert other.begin(10) is None
    bank.expire(31 * SECOND)
    other.now = 40.0
    assert other.begin(60)
    assert bank.buckets["all"].balance == 90


def test_a_gateway_that_comes_back_counts_on_with_what_it_has_spent(gateway, bank):
    held = gateway.begin(60)
    bank.expire(31 * SECOND)
    gateway.now = 32.0
    gateway.ask()
    assert gateway.bucket.granted == 0
    gateway.ask()
    # the call in flight is covered again
    assert gateway.bucket.granted >= 60
    gateway.charge(held, 60)
    assert bank.buckets["all"].balance == 40
    assert bank.leases["all"]["a"].held == gateway.bucket.granted - gateway.bucket.spent


def test_slices_that_were_not_renewed_begin_no_call(gateway):
    gateway.begin(1)
    gateway.quotas.slices.until = 5.0
    gateway.now = 4.9
    assert gateway.reserve(1)
    gateway.now = 5.0
    with pytest.raises(Exceeded) as raised:
        gateway.reserve(1)
    assert raised.value.short is not None


def test_without_a_bank_the_last_known_balance_decides(gateway):
    gateway.begin(60)
    gateway.quotas.slices.goes_on = True
    assert gateway.reserve(60)
    with pytest.raises(Exceeded) as raised:
        gateway.reserve(1)
    assert raised.value.short is None


def test_an_idle_gateway_gives_everything_back_and_is_forgotten(gateway, bank):
    gateway.charge(gateway.begin(2), 2)
    gateway.now = IDLE_SECONDS + 1
    assert gateway.ask().is_closed
    assert bank.leases["all"] == {}
    assert (gateway.bucket.granted, gateway.bucket.spent) == (0, 0)
    assert gateway.quotas.slices.active == {}


def test_a_lease_is_kept_until_all_its_records_have_come(gateway, bank):
    held = gateway.begin(2)
    gateway.quotas.charge(held, CHAIN, Settlement(money=2))
    gateway.now = IDLE_SECONDS + 1
    assert not gateway.ask().is_closed
    bank.record("a", {"all": 2}, 0)
    assert gateway.ask().is_closed
    assert bank.buckets["all"].balance == 98


def test_a_refused_gateway_does_not_ask_again_at_once(gateway, bank):
    Gateway(bank, "b").begin(100)
    gateway.begin(1)
    asked = bank.requests
    assert gateway.begin(1) is None
    assert bank.requests == asked
    gateway.now = DRY_SECONDS
    gateway.begin(1)
    assert bank.requests == asked + 1


def test_a_bucket_that_only_notifies_asks_for_nothing(gateway, bank):
    held = gateway.reserve(500, NOTIFY)
    assert bank.requests == 0
    gateway.ask()
    gateway.charge(held, 500)
    assert bank.buckets["all"].balance == -400
    assert bank.leases["all"]["a"].held == 0


def test_a_balance_that_the_bank_reports_is_shown():
    """Check that a balance that the quota bank reports is shown, whether or not the gateway has the bucket in memory.

    The bank may report a bucket before this gateway's configuration has its quota.
    """
    quotas = Quotas(slices=Slices(clock=lambda: 0.0, until=1.0))
    quotas.configured({"all": Quota("all", 100)})
    quotas.show([Standing("later", 30, 0, 1.0, "100 0/1000000000", 0)])
    quotas.show([Standing("all", 40, 0, 1.0, RULE.terms, 0)])
    assert quotas.level("all").balance == 40
    quotas.sliced("all").charge("all", 5, 0)
    quotas.show([Standing("all", 20, 0, 1.0, RULE.terms, spent=3)])
    assert quotas.level("all").balance == 18
    quotas.configured({"all": Quota("all", 100), "later": Quota("later", 100)})
    assert quotas.level("later").balance == 30


@pytest.mark.parametrize(
    ("needs", "granted", "is_refused"),
    [
        ([Need(30)], 30, False),
        ([Need(30), Need(30), Need(30)], 60, True),
        ([Need(200)], 200, False),
        ([Need(200, is_partial=True)], 50, True),
        ([Need(50), Need(1)], 50, True),
        ([Need(50), Need(1, beside=1)], 51, False),
    ],
    ids=str,
)
def test_a_bank_with_50_left_grants(needs, granted, is_refused):
    ask = Ask(bucket="all", rule=RULE, known=0, spent=0, needs=needs)
    lease, refused = answered(ask, LiveBucket(RULE, 80, 0, 0), own=Lease(), elsewhere=30, gateways=2)
    assert (lease.granted, refused) == (granted, is_refused)


def test_a_slice_that_the_bank_could_not_fill_does_not_grow(gateway):
    gateway.now = 100.0
    gateway.begin(10)
    gateway.now += 0.5
    gateway.ask()
    assert (gateway.bucket.size, gateway.bucket.free) == (80, 65)
    gateway.now += 0.9
    gateway.ask()
    assert gateway.bucket.size == 80


def test_a_slice_ahead_is_a_share_of_what_is_left():
    ask = Ask(bucket="all", rule=RULE, known=0, spent=0, ahead=1_000)
    lease, _ = answered(ask, LiveBucket(RULE, 100, 0, 0), own=Lease(), elsewhere=20, gateways=4)
    assert lease.granted == 10


def test_a_chain_takes_what_its_first_bucket_has_and_then_the_next():
    slices = Slices(clock=lambda: 0.0, until=1.0)
    quotas = Quotas(slices=slices)
    claim = Claim("first", Rule("first", 10), 8, [("second", Rule("second", 100))])
    with pytest.raises(Exceeded) as raised:
        quotas.reserve([claim])
    assert raised.value.short == ("first", 8, 0, True)
    first = quotas.sliced("first")
    first.granted, first.dry_until = 3, 1.0
    with pytest.raises(Exceeded) as raised:
        quotas.reserve([claim])
    short = raised.value.short
    assert short == ("second", 8, 3, False)
    second = quotas.sliced("second")
    ask = slices.ask("second", second, [Want(short.amount, short.others, short.is_partial)])
    assert ask.needs == [Need(5, beside=3)]
    answer = Answer(bucket="second", granted=5, spent=0, amount=100, remainder=0, at=0.0)
    slices.apply(ask, answer, second)
    held = quotas.reserve([claim])
    assert [(name, amount) for name, _, amount in held["money"].parts] == [("first", 3), ("second", 5)]
