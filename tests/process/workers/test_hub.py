"""Tests of a worker that registers again at its parent process (the keeper): each of the worker's charges counts once.

The worker and the parent run in one test process, at the two ends of a real connection.
"""

import asyncio
import socket
from contextlib import suppress
from functools import partial
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from gateway.call.keeper import Keeper
from gateway.call.leases import Leases
from gateway.money.quotas.book import ORDER, Quotas
from gateway.money.quotas.bucket_chains import Exceeded
from gateway.money.quotas.buckets import Bucket, Rule
from gateway.money.quotas.leases import NotOpen
from gateway.money.quotas.lending import Lender
from gateway.money.quotas.reservations import Claim
from gateway.money.quotas.settlements import Settlement
from gateway.money.quotas.slices import IDLE_SECONDS, Slices
from gateway.process.handover.wire import Broken
from gateway.process.workers.hub import Hub
from gateway.process.workers.link import KeeperBank
from gateway.process.workers.messages import Channel
from tests.helpers.records import logger
from tests.helpers.waiting import eventually

KEY = Bucket("money", "all")
RULE = Rule("all", 100)
NAME = "replaced-worker-0"


class Pair:
    """A main process that keeps a balance of 100, and one worker, which is the only user of the balance."""

    def __init__(self, ours, theirs):
        self.quotas = Quotas()
        self.lender = Lender(self.quotas)
        metrics = SimpleNamespace(registry=CollectorRegistry())
        self.hub = Hub(SimpleNamespace(lender=self.lender, keeper=Keeper(), metrics=metrics))
        self.hub.add(NAME, ours)
        self._ends = ours, theirs
        slices = Slices()
        self.worker = Quotas(slices=slices, sliced_kinds=ORDER)
        bank, log = KeeperBank(theirs, slices), logger()[0]
        self.leases = Leases(bank, self.worker, None, log, seconds=30.0, goes_on=False, recall_seconds=())
        self._tasks = []

    async def start(self):
        self._tasks = [asyncio.create_task(work) for work in (self._answer(), self._hear())]
        await self.leases.start()

    async def _answer(self):
        with suppress(Broken):
            while True:
                self.hub.answer(NAME, await self._ends[0].receive())

    async def _hear(self):
        with suppress(Broken):
            while True:
                await self._ends[1].receive()

    async def close(self):
        await self.leases.close()
        for end in self._ends:
            end.close()
        await asyncio.gather(*self._tasks)

    async def reserve(self, amount):
        return await self.leases.reserve(partial(self.worker.reserve, [Claim("all", RULE, amount)]))

    def charge(self, held, amount):
        self.worker.charge(held, [(KEY,)], Settlement(money=amount))

    def read_record(self, amount):
        """Do what the parent process does when it reads the record of a worker's call: charge the call to the balance."""
        self.quotas.take(KEY, RULE.terms, amount)
        self.lender.spend(NAME, KEY, amount)

    @property
    def slice(self):
        return self.worker.sliced("all")

    @property
    def held(self):
        """The amount that the parent process counts as lent to the worker.

        It is what the worker may still spend, plus what it has spent in calls whose records the parent process has not
        read yet.
        """
        return self.quotas.bucket(KEY).leased

    def forget_once(self, monkeypatch):
        """Let the parent process answer the worker's next request as if it did not know the worker. The worker then
        registers again.
        """
        exchange = self.lender.exchange

        def forgotten(_worker, _asks):
            monkeypatch.setattr(self.lender, "exchange", exchange)
            raise NotOpen

        monkeypatch.setattr(self.lender, "exchange", forgotten)

    async def give_back(self):
        """Let the worker give back the amount that it does not need. A worker does this when it has had no call for
        some time.
        """
        self.slice.used_at -= IDLE_SECONDS
        self.leases.recalled(KEY, is_awaited=True)
        await eventually(lambda: self.lender.states(NAME) == [])


@pytest.fixture
async def pair():
    both = Pair(*[await Channel.open(one) for one in socket.socketpair()])
    await both.start()
    yield both
    await both.close()


async def test_a_worker_that_registers_again_counts_each_charge_once(pair, monkeypatch):
    """Check that each charge of a worker counts once, although the worker registers again.

    The records of some charges were read before this, and those of others are read later.
    """
    first, second, third = [await pair.reserve(amount) for amount in (10, 20, 5)]
    pair.charge(first, 10)
    pair.read_record(10)
    pair.charge(second, 20)
    pair.forget_once(monkeypatch)
    fourth = await pair.reserve(60)
    assert (pair.slice.spent, pair.slice.reserved) == (30, 65)
    # 20 are charged and not read yet, and 65 reserved
    assert pair.held == pair.slice.granted - 10 >= 85
    pair.read_record(20)
    assert pair.held == pair.slice.granted - pair.slice.spent >= 65
    assert pair.held <= pair.quotas.bucket(KEY).balance == 70
    for held, amount in ((third, 5), (fourth, 60)):
        pair.charge(held, amount)
        pair.read_record(amount)
    await pair.give_back()
    assert (pair.quotas.bucket(KEY).balance, pair.held) == (5, 0)
    await pair.reserve(5)
    with pytest.raises(Exceeded):
        await pair.reserve(1)


async def test_a_lease_ends_when_all_its_records_are_read(pair):
    """Check that nothing is lent to a worker after it has given back the rest of its amount, and the records of all its
    calls were read.

    This worker has registered only once.
    """
    held = await pair.reserve(10)
    pair.charge(held, 10)
    pair.read_record(10)
    await pair.give_back()
    assert (pair.quotas.bucket(KEY).balance, pair.held, pair.slice.spent) == (90, 0, 0)
