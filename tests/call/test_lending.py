"""Tests of two gateways that spend from the same quotas. Each gateway has workers (processes that serve calls).

The quota bank, which is in memory here, grants each gateway a part of a balance. The gateway's main process lends
pieces of this part to its workers. Some tests make the bank unreachable.
"""

import asyncio
from functools import partial
from math import inf
from random import Random
from time import monotonic_ns
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from gateway.call.keeper import Keeper
from gateway.call.leases import Leases
from gateway.contract.errors import Refused
from gateway.money.quotas.book import ORDER, Quotas
from gateway.money.quotas.bucket_chains import Exceeded
from gateway.money.quotas.buckets import Bucket, Rule
from gateway.money.quotas.leases import Ask, Need
from gateway.money.quotas.lending import Lender
from gateway.money.quotas.reservations import Claim
from gateway.money.quotas.settlements import Settlement
from gateway.money.quotas.slices import Slices
from gateway.process.workers.hub import Hub
from gateway.store.base import StoreFailed
from tests.call.test_leases import LIMIT, RULE, Bank, Gateway
from tests.helpers.memory_bank import MemoryBank
from tests.helpers.records import logger
from tests.helpers.waiting import eventually

KEY = Bucket("money", "all")
WAITS = (3600.0,) * 4
"""Seconds before each of the four times that a refused call asks the bank again.

They are longer than any test. So such a call succeeds only if its worker is told to ask again earlier.
"""


class NotifyingBank(Bank):
    """A quota bank that sends notifications, as the real one does.

    If it refuses a request although gateways hold enough of the bucket, it tells all gateways to give back what they do
    not need.
    """

    def __init__(self, memory, name, gateways):
        super().__init__(memory, name)
        self.gateways = gateways

    async def exchange(self, asks):
        answers = await super().exchange(asks)
        for ask, answer in zip(asks, answers, strict=True):
            if answer.is_refused and answer.elsewhere:
                for gateway in self.gateways.values():
                    asyncio.get_running_loop().call_later(0.002, gateway.leases.recalled, ask.key)
        return answers


class KeeperBank:
    """The object through which a worker asks for quota amounts. It passes the requests on to the gateway's main
    process, which lends parts of its own amounts.
    """

    name, needs_reports = "the gateway's main process", False

    def __init__(self, gateway, worker, slices):
        self.gateway, self.worker, self.slices = gateway, worker, slices

    async def open(self, asks):
        self.gateway.lender.open(self.worker)
        return await self.exchange(asks)

    async def exchange(self, asks):
        loan = await self.gateway.keeper.lend(self.gateway.lender, self.worker, asks)
        self.slices.money_until = inf if loan.until is None else loan.until
        return loan.answers

    async def leave(self):
        self.gateway.lender.end(self.worker)


class Worker:
    def __init__(self, gateway, name):
        slices = Slices()
        self.gateway, self.name = gateway, name
        self.quotas = Quotas(slices=slices, sliced_kinds=ORDER)
        bank, log = KeeperBank(gateway, name, slices), logger()[0]
        self.leases = Leases(bank, self.quotas, None, log, seconds=30.0, goes_on=False, recall_seconds=WAITS)

    async def reserve(self, amount, rule=RULE):
        return await self.leases.reserve(partial(self.quotas.reserve, [Claim(rule.name, rule, amount)]))

    async def call(self, amount, rule=RULE):
        """Make a call. Then report its charge to the worker's main process, and a moment later to the quota bank."""
        held = await self.reserve(amount, rule)
        await asyncio.sleep(0.001)
        bucket, kind = Bucket(rule.kind, rule.name), {"money": "money"}.get(rule.kind, "requests")
        self.quotas.charge(held, [(bucket,)], Settlement(**{kind: amount}))
        await asyncio.sleep(0.001)
        self.gateway.quotas.take(bucket, rule.terms, amount)
        self.gateway.lender.spend(self.name, bucket, amount)
        if rule.kind == "money":
            await asyncio.sleep(0.001)
            self.gateway.bank.memory.record(self.gateway.name, {rule.name: amount}, monotonic_ns())

    async def insist(self, amount, rule=RULE):
        """Make a call, and repeat it while other calls have reserved the rest of the balance.

        Return True if the call was served, and False if the balance is used up.
        """
        while True:
            try:
                await self.call(amount, rule)
            except Exceeded as exceeded:
                if exceeded.balance <= 0:
                    return False
                await asyncio.sleep(0.01)
            else:
                return True


class Lending(Gateway):
    """A gateway with two workers."""

    def __init__(self, memory, name, gateways):
        super().__init__(memory, name)
        self.name = name
        self.bank = self.leases._bank = NotifyingBank(memory, name, gateways)
        self.lender, self.keeper = Lender(self.quotas), Keeper(self.leases)
        self.leases.recall_workers, self.leases.free_workers = self.lender.recall_all, self.lender.refilled
        self.workers = {worker: Worker(self, worker) for worker in "12"}
        self.lender.recall = lambda worker, bucket: self._tell(worker, Leases.recalled, bucket, is_awaited=True)
        self.lender.free = lambda worker, bucket: self._tell(worker, Leases.refilled, bucket)

    def _tell(self, worker, what, bucket, **more):
        asyncio.get_running_loop().call_soon(partial(what, self.workers[worker].leases, bucket, **more))
        return True

    async def start(self):
        await self.leases.start()
        for worker in self.workers.values():
            await worker.leases.start()

    async def close(self):
        for one in (*self.workers.values(), self):
            await one.leases.close()


@pytest.fixture
async def two():
    """Yield two gateways that share one quota bank."""
    memory, gateways = MemoryBank(), {}
    gateways |= {name: Lending(memory, name, gateways) for name in "ab"}
    for gateway in gateways.values():
        await gateway.start()
    yield gateways["a"], gateways["b"]
    for gateway in gateways.values():
        await gateway.close()


async def race(gateways, amounts, rule=RULE):
    """Make calls that cost these amounts, all at the same time, at each worker in turn. Return the sum of the amounts
    of the calls that were served.
    """
    workers = [worker for gateway in gateways for worker in gateway.workers.values()]
    begun = await asyncio.gather(*(workers[place % 4].insist(one, rule) for place, one in enumerate(amounts)))
    return sum(amount for amount, is_ok in zip(amounts, begun, strict=True) if is_ok)


async def test_exactly_as_many_calls_begin_as_the_bucket_has(two):
    assert await race(two, [5] * 200) == RULE.capacity
    await eventually(lambda: two[0].bank.memory.buckets["all"].balance == 0)


async def test_a_rate_limit_is_one_for_the_workers_of_all_gateways(two):
    assert await race(two, [1] * 200, LIMIT) == LIMIT.capacity


@pytest.mark.parametrize("seed", range(5))
async def test_a_bucket_is_overdrawn_by_one_call_at_most(two, seed):
    random = Random(seed)
    begun = await race(two, [random.randint(1, 30) for _ in range(60)])
    assert 0 <= begun - RULE.capacity < 30


async def test_a_worker_gets_slices_of_many_new_buckets_at_once(two):
    """Check that a worker gets amounts of ten new buckets in one request. A new bucket is full.

    The main process drops full buckets from memory. It must keep such a bucket while it asks the bank for the balance.
    """
    gateway, _ = two
    rules = [Rule(f"user{number}", 100) for number in range(10)]
    asks = [Ask(bucket=rule.name, rule=rule, known=0, spent=0, needs=[Need(1)]) for rule in rules]
    loan = await gateway.keeper.lend(gateway.lender, "1", asks)
    assert [answer.is_refused for answer in loan.answers] == [False] * 10


async def test_what_workers_of_another_gateway_do_not_need_is_given_back(two):
    one, other = two
    await one.workers["1"].reserve(10)
    await one.workers["2"].reserve(10)
    held = one.bank.memory.leases["all"]["a"].held
    assert held > 20
    await asyncio.gather(*(other.workers["1"].reserve(10) for _ in range(8)))
    assert one.bank.memory.leases["all"]["a"].held == 20


async def test_a_refill_reaches_the_workers_of_all_gateways(two):
    one, other = two
    assert await race(two, [10] * 20) == RULE.capacity
    memory = one.bank.memory
    await eventually(lambda: memory.buckets["all"].balance == 0)
    memory.refill("all", RULE, 10, monotonic_ns())
    for gateway in two:
        gateway.leases.refilled(KEY)
    # the workers hear of it in the next iteration of the event loop
    await asyncio.sleep(0)
    assert await other.workers["1"].insist(10)


async def test_without_the_bank_the_slices_last_and_then_the_setting_decides(two):
    gateway, _ = two
    worker, second = gateway.workers.values()
    await worker.reserve(10)
    gateway.bank.fault = StoreFailed("gone")
    free = gateway.quotas.sliced("all").free + worker.quotas.sliced("all").free
    # the second worker may use what the first one does not need
    await second.reserve(free)
    with pytest.raises(Refused) as refused:
        await second.reserve(1)
    assert "the database is away" in refused.value.problem.message
    for _ in range(LIMIT.capacity):
        await second.reserve(1, LIMIT)
    with pytest.raises(Exceeded):
        await second.reserve(1, LIMIT)
    gateway.bank.fault = None
    await eventually(lambda: gateway.out.getvalue().count(b"leases.bank_is_back") == 1)
    assert await second.reserve(1)


async def test_a_gateway_that_goes_on_lends_from_the_last_balance(two):
    gateway, _ = two
    gateway.leases._may_go_on = True
    await gateway.workers["1"].call(10)
    gateway.bank.fault = StoreFailed("gone")
    assert await race([gateway, gateway], [10] * 20) == 90


async def test_a_worker_of_a_replaced_gateway_keeps_nothing_for_later_calls(two):
    gateway, _ = two
    worker = gateway.workers["1"]
    held = await worker.reserve(10)
    assert gateway.quotas.sliced("all").leased > 10
    worker.leases.give_back()
    await eventually(lambda: gateway.quotas.sliced("all").leased == 10)
    worker.quotas.charge(held, (), Settlement())
    await eventually(lambda: gateway.quotas.sliced("all").leased == 0)


async def test_slices_of_money_end_with_the_leases_of_the_keeper(two):
    gateway, _ = two
    worker = gateway.workers["1"]
    await worker.reserve(10)
    await worker.reserve(1, LIMIT)
    # the keeper's leases end, and the bank does not renew them
    gateway.bank.fault = StoreFailed("gone")
    gateway.quotas.slices.until = 0.0
    await worker.leases._bank.exchange([])
    for rule, own in ((RULE, 10), (LIMIT, worker.quotas.sliced("limit", "requests").granted)):
        bucket = worker.quotas.sliced(rule.name, rule.kind)
        assert (bucket.own, bucket.granted > bucket.reserved) == (own, True)
    with pytest.raises(Refused) as refused:
        await worker.reserve(1)
    assert "the database is away" in refused.value.problem.message
    # the bank renews the leases with the first request of a worker
    gateway.bank.fault = None
    await eventually(lambda: gateway.out.getvalue().count(b"leases.bank_is_back") == 1)
    gateway.quotas.slices.until = 0.0
    assert await worker.reserve(1)


async def test_a_keeper_that_ends_does_not_answer_its_workers(two):
    gateway, _ = two
    await gateway.leases.close()
    with pytest.raises(StoreFailed, match="this gateway is ending"):
        await gateway.keeper.lend(
            gateway.lender, "1", [Ask(bucket="all", rule=RULE, known=0, spent=0, needs=[Need(1)])]
        )


def test_the_keeper_forgets_ended_workers_when_their_records_are_applied():
    lender = Lender(Quotas())
    hub = Hub(SimpleNamespace(lender=lender, metrics=SimpleNamespace(registry=CollectorRegistry())))
    for worker in ("1", "2", "3"):
        lender.open(worker)
    hub.remove("1")
    hub.remove("2")
    assert [lender.recall(worker, KEY) for worker in "12"] == [True, True]
    lender.end("1")
    hub.remove("3")
    assert [lender.recall(worker, KEY) for worker in "123"] == [False, True, True]


async def test_a_worker_is_answered_by_the_next_process(two):
    gateway, _ = two
    gateway.bank.exchange = partial(asyncio.sleep, 60)
    asking = asyncio.create_task(gateway.workers["1"].reserve(10))
    await eventually(lambda: gateway.quotas.sliced("all") and gateway.quotas.sliced("all").waiting)
    asked = []

    class Next:
        def lend(self, worker, asks):
            asked.append((worker, [ask.bucket for ask in asks]))
            lender = Lender(Quotas())
            lender.open(worker)
            return lender.exchange(worker, asks)

    gateway.keeper.begin()
    await gateway.leases.stop()
    gateway.keeper.end(Next())
    assert await asking
    assert asked == [("1", ["all"])]
