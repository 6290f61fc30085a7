"""Tests of the quotas of a call with several attempts. Each attempt uses an offer (a model of a provider).

A bucket is charged for the attempts that used its offers, and for no other attempts.
"""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.call.spools import _charged
from gateway.money.quotas.book import CallReservation, Quotas
from gateway.money.quotas.buckets import SECOND, Bucket, Rule
from gateway.money.quotas.estimate import Estimate
from gateway.money.quotas.reservations import Claim
from gateway.money.quotas.settlements import Settlement
from gateway.store.entries import Bill

LARGE = 10**12
RULES = {
    "money": [Rule(name, LARGE) for name in ("m1", "m2", "m3")],
    "tokens": [Rule(name, LARGE, kind="tokens") for name in ("t1", "t2")],
    "requests": [Rule(name, LARGE, kind="requests") for name in ("r1", "r2")],
}
BUCKETS = [Bucket(kind, rule.name) for kind, rules in RULES.items() for rule in rules]
offers = st.lists(st.sets(st.sampled_from(BUCKETS)), min_size=1, max_size=4)
amounts = st.integers(0, 10**6)


def reserved(quotas, chosen):
    """Return a reservation for a call that may use several offers (an offer is a model of a provider).

    `chosen` has a set of buckets for each offer. The call is charged to these buckets if it uses the offer.
    """
    names = {bucket.name for buckets in chosen for bucket in buckets}
    claims = [Claim(rule.name, rule, 5) for rules in RULES.values() for rule in rules if rule.name in names]
    chains = {f"offer {number}": tuple((bucket,) for bucket in buckets) for number, buckets in enumerate(chosen)}
    return CallReservation(quotas, Estimate(1, 1), quotas.reserve(claims), chains)


def spent(quotas):
    """Return the amount that was spent from each bucket. Buckets from which nothing was spent are left out."""
    now = quotas.clock()
    levels = [level for ledger in quotas._ledgers.values() for level in ledger.levels(now)]
    assert [level for level in levels if level.reserved] == []
    return Counter({level.bucket: LARGE - level.balance for level in levels if level.balance != LARGE})


@given(offers, st.data())
def test_each_bucket_is_charged_the_parts_of_its_offers(chosen, data):
    """Check which attempts of a call are charged to a bucket. Each attempt uses one offer (a model of a provider).

    A bucket of money or tokens is charged for each attempt that used one of its offers. A limit on requests counts the
    call once.
    """
    quotas = Quotas(clock=lambda: SECOND)
    reservation = reserved(quotas, chosen)
    parts = [
        (f"offer {number}", Settlement(1, data.draw(amounts), data.draw(amounts), data.draw(st.booleans())))
        for number in data.draw(st.lists(st.sampled_from(range(len(chosen))), min_size=1, max_size=5))
    ]
    charges = reservation.charge_each(parts)
    expected, estimated = Counter(), set()
    for offer, due in parts:
        for ((kind, name),) in reservation.chains[offer]:
            expected[name] += {"money": due.money, "tokens": due.tokens, "requests": 0}[kind]
            if kind == "requests":
                expected[name] = 1
            if kind == "money" and due.money and due.estimated:
                estimated.add(name)
    assert spent(quotas) == +expected
    assert {charge.bucket: charge.amount for charge in charges} == +Counter(
        {name: amount for name, amount in expected.items() if name.startswith("m")}
    )
    assert {charge.bucket for charge in charges if charge.estimated} == estimated
    assert len({charge.bucket for charge in charges}) == len(charges)
    assert reservation.charge_each(parts) == charges
    assert reservation.release() == charges


def test_a_bucket_of_two_parts_has_one_charge_with_the_last_balance():
    quotas = Quotas(clock=lambda: SECOND)
    reservation = reserved(quotas, [{BUCKETS[0]}, {BUCKETS[0]}])
    parts = [("offer 0", Settlement(1, 0, 30, estimated=True)), ("offer 1", Settlement(1, 0, 12))]
    (charge,) = reservation.charge_each(parts)
    assert (charge.bucket, charge.amount, charge.balance, charge.estimated) == ("m1", 42, LARGE - 42, True)


def test_a_replaced_process_has_a_bill_for_each_attempt():
    """Check that both attempts of a call are charged if the call ended in a process that a new process has replaced.

    The old process sends one bill for each attempt. The new process charges all bills, even without a reservation for
    the call.
    """
    first, second = ((("money", "m1", ""),),), ((("money", "m1", ""),), (("money", "m2", ""),))
    bill = Bill(first, 1, 0, 30, True, (Bill(second, 1, 0, 12),))
    quotas = Quotas(clock=lambda: SECOND)
    held = reserved(quotas, [set(BUCKETS[:2])]).held
    charges = {charge.bucket: charge.amount for charge in _charged(bill, held, quotas)}
    assert charges == {"m1": 42, "m2": 12}
    assert spent(quotas) == Counter(charges)
    unreserved = _charged(bill, None, Quotas(clock=lambda: SECOND))
    assert {charge.bucket: charge.amount for charge in unreserved} == charges
