# ruff: noqa: T201 (a table is what it prints)
"""Simulates many gateways that share quota buckets: `python -m tests.bench.leases`.

A bank keeps the balances, and each gateway may spend a part of a balance for a time (a lease). Time is simulated, so a
run takes seconds. It prints a table: how much was spent beyond what a bucket had, how many calls were refused while
enough was left, and how many requests for each call reached the bank. README.md explains the table.
"""

import argparse
import heapq
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from random import Random

from gateway.money.quotas.book import Quotas
from gateway.money.quotas.bucket_chains import Exceeded
from gateway.money.quotas.buckets import SECOND, Bucket, LiveBucket, Rule
from gateway.money.quotas.reservations import Claim
from gateway.money.quotas.settlements import Settlement
from gateway.money.quotas.slices import Slices, Want
from tests.helpers.memory_bank import MemoryBank

NAME = "all"
CHAIN = [(Bucket("money", NAME),)]
ROUNDS = 5
RECORD_SECONDS = 0.1
"""Seconds until the record of a call that has ended is in the store."""
RESTART_SECONDS = 45.0
RENEW_SECONDS = 10.0


@dataclass(frozen=True)
class Case:
    """The parameters of one simulation, in which gateways share one bucket."""

    name: str
    gateways: int
    calls: int
    rate: float
    """Calls in a second, of all gateways together."""
    capacity: int
    refill: int = 0
    """Amount by which the bucket is refilled in a second."""
    seconds: float = 2.0
    """Mean duration of a call."""
    estimates: tuple = (1, 1)
    """Smallest and largest reservation of a call. A call costs at most what it has reserved."""
    crashes: int = 0
    """Number of gateways that are killed at random times."""
    seed: int = 1


@dataclass
class Result:
    calls: int = 0
    begun: int = 0
    refused: int = 0
    wrongly: int = 0
    """Number of calls that were refused although enough was left: at the bank and at all running gateways together."""
    overshoot: int = 0
    """The largest amount that was spent and reserved beyond the limit of a single gateway.

    That limit is the bucket's balance plus the cost of one call.
    """
    requests: int = 0
    difference: int = 0
    """The balance at the end of the simulation, minus the balance that a single gateway would have."""


@dataclass
class Gateway:
    number: int
    quotas: Quotas
    is_alive: bool = True


class Simulation:
    def __init__(self, case):
        self.case, self.random, self.result = case, Random(case.seed), Result()
        self.now, self._order, self._events = 0, count(), []
        self.rule = Rule(NAME, case.capacity, case.refill)
        self.bank = MemoryBank()
        self.gateways = [self._gateway(number) for number in range(case.gateways)]
        self.single = LiveBucket(self.rule, case.capacity, 0, 0)
        """The bucket as a single gateway would have it."""
        self.unrecorded = 0
        """Amount that ended calls have spent, but whose records have not reached the bank yet."""

    def _gateway(self, number):
        slices = Slices(clock=lambda: self.now / SECOND)
        slices.low = partial(self._low, number)
        return Gateway(number, Quotas(clock=lambda: self.now, slices=slices))

    def after(self, seconds, action, *arguments):
        heapq.heappush(self._events, (self.now + round(seconds * SECOND), next(self._order), action, arguments))

    def run(self):
        case = self.case
        at = 0.0
        for _ in range(case.calls):
            at += self.random.expovariate(case.rate)
            self.after(at, self._call)
        for gateway in self.gateways:
            gateway.quotas.slices.until = float("inf")
            self.after(self.random.uniform(0, RENEW_SECONDS), self._renew, gateway)
        for gateway in self.random.sample(self.gateways, case.crashes):
            self.after(self.random.uniform(0, at), self._crash, gateway)
        end = round((at + 60) * SECOND)
        while self._events and self._events[0][0] <= end:
            self.now, _, action, arguments = heapq.heappop(self._events)
            action(*arguments)
        self.result.requests = self.bank.requests
        bucket = self.bank.buckets[NAME]
        bucket.accrue(self.now)
        self.single.accrue(self.now)
        self.result.difference = bucket.balance - self.single.balance
        return self.result

    def _ask(self, gateway, wants=()):
        quotas = gateway.quotas
        if (bucket := quotas.sliced(NAME)) is None:
            return self.bank.exchange(gateway.number, (), self.now)
        ask = quotas.slices.ask(NAME, bucket, wants)
        (answer,) = self.bank.exchange(gateway.number, [ask], self.now)
        quotas.slices.apply(ask, answer, bucket)
        return answer

    def _low(self, number, _name):
        self.after(0.002, self._ask_if_alive, self.gateways[number])

    def _ask_if_alive(self, gateway):
        bucket = gateway.quotas.sliced(NAME)
        if gateway.is_alive and (bucket.is_low or bucket.is_wanted):
            self._ask(gateway)

    def _renew(self, gateway):
        if gateway.is_alive:
            if gateway.quotas.slices.active:
                self._ask(gateway)
            self.bank.expire(self.now)
            self.after(RENEW_SECONDS, self._renew, gateway)

    def _call(self):
        gateway = self.random.choice([one for one in self.gateways if one.is_alive])
        estimate = self.random.randint(*self.case.estimates)
        self.single.accrue(self.now)
        left, bank_left = self.single.balance - self.single.reserved, self._bank_left()
        largest = self.case.estimates[1]
        self.result.calls += 1
        held = self._reserve(gateway, estimate)
        if held is None:
            self.result.refused += 1
            self.result.wrongly += bank_left >= estimate
            return
        self.result.begun += 1
        self.single.reserved += estimate
        self.bank.sent[gateway.number, NAME] = self.bank.sent.get((gateway.number, NAME), 0) + estimate
        self.result.overshoot = max(self.result.overshoot, estimate - left - (largest - 1))
        self.after(self.random.expovariate(1 / self.case.seconds), self._end, gateway, held, estimate)

    def _reserve(self, gateway, estimate):
        for _ in range(ROUNDS):
            try:
                return gateway.quotas.reserve([Claim(NAME, self.rule, estimate)])
            except Exceeded as exceeded:
                if (short := exceeded.short) is None:
                    return None
                want = [Want(short.amount, short.others, short.is_partial)]
                answer = self._ask(gateway, want)
                if answer.is_refused and answer.elsewhere:
                    self._recall(gateway)
                    self._ask(gateway, want)
        return None

    def _bank_left(self):
        """Return the amount of the bucket that is free for new calls, at all gateways together.

        From the balance at the bank, three amounts are subtracted: the costs of ended calls whose records have not
        arrived, the reservations of calls in flight, and what killed gateways still hold because their leases have not
        ended.
        """
        if NAME not in self.bank.buckets:
            return self.case.capacity
        withheld = sum(
            lease.held - self.bank.sent.get((number, NAME), 0)
            for number, lease in self.bank.leases[NAME].items()
            if not self.gateways[number].is_alive
        )
        return self.bank.buckets[NAME].state(self.now)[0] - self.unrecorded - self.single.reserved - withheld

    def _recall(self, asking):
        for gateway in self.gateways:
            bucket = gateway.quotas.sliced(NAME)
            if gateway is not asking and gateway.is_alive and bucket is not None and bucket.free > 0:
                bucket.scarce_until = self.now / SECOND + 2
                self._ask(gateway)

    def _end(self, gateway, held, estimate):
        cost = self.random.randint(1, estimate)
        self.single.charge(NAME, cost, self.now)
        self.single.reserved -= estimate
        self.unrecorded += cost
        if gateway.is_alive:
            gateway.quotas.charge(held, CHAIN, Settlement(money=cost))
        # a killed gateway records its calls when it starts again
        self.after(RECORD_SECONDS if gateway.is_alive else RESTART_SECONDS, self._record, gateway, cost, estimate)

    def _record(self, gateway, cost, estimate):
        self.bank.record(gateway.number, {NAME: cost}, self.now)
        self.unrecorded -= cost
        self.bank.sent[gateway.number, NAME] -= estimate

    def _crash(self, gateway):
        gateway.is_alive = False


CASES = (
    Case("plenty left", gateways=100, calls=20_000, rate=200, capacity=10**9, estimates=(1_000, 20_000)),
    Case("used up", gateways=100, calls=20_000, rate=200, capacity=5_000),
    Case("used up, estimates", gateways=100, calls=20_000, rate=200, capacity=25_000_000, estimates=(1_000, 20_000)),
    Case("refilled slowly", gateways=100, calls=20_000, rate=200, capacity=2_000, refill=150),
    Case("ten are killed", gateways=100, calls=20_000, rate=200, capacity=10_000, crashes=10),
    Case("few calls", gateways=100, calls=2_000, rate=2, capacity=1_000),
)


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.bench.leases")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print("| case | calls | begun | overshoot | refused with enough left | requests to the bank per call |")
    print("|---|--:|--:|--:|--:|--:|")
    for case in CASES:
        result = Simulation(replace(case, seed=options.seed)).run()
        share, requests = 100 * result.wrongly / result.calls, result.requests / result.calls
        print(
            f"| {case.name} | {result.calls} | {result.begun} | {result.overshoot} | {share:.2f} % | {requests:.3f} |"
        )


if __name__ == "__main__":
    main()
