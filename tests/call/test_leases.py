"""Tests of the requests that a gateway sends to the quota bank. The bank keeps the quota balances that several gateways
share.

The bank of the tests is in memory, and can be made unreachable.
"""

import asyncio
from functools import partial
from time import monotonic_ns, time
from types import SimpleNamespace

import pytest

from gateway.call import bank_rounds
from gateway.call import keeper as keeper_module
from gateway.call import leases as leases_module
from gateway.call.keeper import Keeper
from gateway.call.leases import Leases
from gateway.contract.errors import Refused
from gateway.money.quotas.book import ORDER, Quotas
from gateway.money.quotas.bucket_chains import Exceeded
from gateway.money.quotas.buckets import Bucket, Rule
from gateway.money.quotas.leases import NotOpen, Standing
from gateway.money.quotas.reservations import Claim
from gateway.money.quotas.settlements import Settlement
from gateway.money.quotas.slices import Slices, Want
from gateway.store.base import StoreFailed
from tests.helpers.memory_bank import MemoryBank
from tests.helpers.records import logger
from tests.helpers.waiting import eventually

RULE = Rule("all", 100)
LIMIT = Rule("limit", 60, kind="requests")


class Bank:
    """A gateway's connection to the quota bank. While `fault` is set, each request raises this exception."""

    name, needs_reports = "the database", True

    def __init__(self, memory, name):
        self.memory, self.gateway, self.fault = memory, name, None
        self.opened, self.asks, self.answers = 0, [], asyncio.Event()

    async def open(self, asks):
        self.opened += 1
        self.fault = None
        for leases in self.memory.leases.values():
            leases.pop(self.gateway, None)
        return self.memory.exchange(self.gateway, asks, monotonic_ns())

    async def exchange(self, asks):
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault
        self.asks.append(asks)
        return self.memory.exchange(self.gateway, asks, monotonic_ns())

    async def standings(self):
        await self.answers.wait()
        return [Standing("all", 40, 0, time(), RULE.terms, 0)]

    async def leave(self):
        for leases in self.memory.leases.values():
            leases.pop(self.gateway, None)


class Journal:
    async def flush(self):
        """Do nothing, because the quota bank of these tests gets each record at once."""


class Gateway:
    def __init__(self, memory, name, *, goes_on=False, seconds=30.0):
        self.bank, (self.log, self.out) = Bank(memory, name), logger()
        self.quotas = Quotas(slices=Slices(), sliced_kinds=ORDER)
        self.leases = Leases(self.bank, self.quotas, Journal(), self.log, seconds=seconds, goes_on=goes_on)

    async def reserve(self, amount, rule=RULE):
        return await self.leases.reserve(partial(self.quotas.reserve, [Claim(rule.name, rule, amount)]))

    async def call(self, rule):
        """Make a call that counts as one request of a rate limit."""
        held = await self.reserve(1, rule)
        self.quotas.charge(held, [(Bucket("requests", rule.name),)], Settlement(requests=1))


@pytest.fixture
def memory():
    return MemoryBank()


@pytest.fixture
async def opened(memory):
    """Yield a function that starts a gateway. After the test, all started gateways are closed."""
    gateways = []

    async def one(name="a", **settings):
        gateways.append(Gateway(memory, name, **settings))
        await gateways[-1].leases.start()
        return gateways[-1]

    yield one
    for gateway in gateways:
        await gateway.leases.close()


async def test_calls_that_wait_are_asked_for_together(opened, memory):
    gateway = await opened()
    before = memory.requests
    await asyncio.gather(*(gateway.reserve(1) for _ in range(50)))
    assert memory.requests - before < 10


async def test_what_another_gateway_does_not_need_is_given_back(opened, memory):
    one, other = await opened("a"), await opened("b")
    await one.reserve(10)
    held = memory.leases["all"]["a"].held
    await other.reserve(100 - held + 1)
    asking = asyncio.create_task(other.reserve(5))
    before = memory.requests
    await eventually(lambda: memory.requests > before)
    # as the database's notification does
    one.leases.recalled(Bucket("money", "all"))
    await asking
    assert memory.leases["all"]["a"].held == 10 < held


async def test_a_page_does_not_wait_for_a_bank_that_is_silent(opened, monkeypatch):
    monkeypatch.setattr(leases_module, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(leases_module, "READ_SECONDS", 0.01)
    gateway = await opened()
    await gateway.reserve(10)
    await gateway.leases.look()
    assert [level.balance for level in gateway.quotas.levels()] == [100]
    gateway.bank.answers.set()
    await gateway.leases.look()
    assert [level.balance for level in gateway.quotas.levels()] == [40]


async def test_a_refusal_ends_with_a_refill(opened, memory):
    gateway = await opened()
    await gateway.reserve(100)
    with pytest.raises(Exceeded):
        await gateway.reserve(1)
    memory.buckets["all"].balance = 150
    with pytest.raises(Exceeded):
        await gateway.reserve(1)
    gateway.leases.refilled(Bucket("money", "all"))
    memory.buckets["all"].rule = Rule("all", 200)
    assert await gateway.reserve(1)


async def test_without_a_bank_the_slice_lasts_and_then_calls_are_refused(opened):
    gateway = await opened()
    await gateway.reserve(10)
    gateway.bank.fault = StoreFailed("gone")
    free = gateway.quotas.sliced("all").free
    await gateway.reserve(free)
    with pytest.raises(Refused) as refused:
        await gateway.reserve(1)
    assert "the database is away" in refused.value.problem.message
    gateway.bank.fault = None
    await eventually(lambda: gateway.out.getvalue().count(b"leases.bank_is_back") == 1)
    assert await gateway.reserve(1)


async def test_a_gateway_that_goes_on_counts_from_the_last_balance(opened, memory):
    gateway = await opened(goes_on=True)
    await gateway.reserve(10)
    gateway.bank.fault = StoreFailed("gone")
    await gateway.reserve(80)
    await gateway.reserve(40)
    with pytest.raises(Exceeded):
        await gateway.reserve(1)
    gateway.bank.fault = None
    # what it had no slice for is leased after the event
    await eventually(lambda: memory.leases["all"]["a"].held >= 130)


async def test_a_gateway_that_the_bank_has_forgotten_begins_anew(opened, memory):
    gateway = await opened()
    await gateway.reserve(10)
    gateway.bank.fault = NotOpen("a")
    await gateway.reserve(50)
    assert gateway.bank.opened == 2
    assert memory.leases["all"]["a"].held >= 60


async def test_a_replaced_process_spends_nothing_more(opened, memory):
    gateway = await opened()
    await gateway.reserve(10)
    await gateway.leases.stop()
    with pytest.raises(Exceeded):
        gateway.quotas.reserve([Claim("all", RULE, 1)])
    await gateway.leases.resume()
    assert await gateway.reserve(1)
    await gateway.leases.close()
    assert memory.leases["all"] == {}


def reported(gateway):
    """Return how much of the rate limit was spent, as the gateway last reported it to the quota bank."""
    return [ask.spent for asks in gateway.bank.asks for ask in asks if ask.bucket == "limit"][-1]


async def test_the_bank_is_told_of_charges_to_a_rate_limit(opened, monkeypatch):
    monkeypatch.setattr(bank_rounds, "REPORT_SECONDS", 0.01)
    gateway = await opened()
    for _ in range(3):
        await gateway.call(LIMIT)
    await eventually(lambda: reported(gateway) == 3)


async def test_the_bank_is_told_of_the_last_charges_when_a_gateway_ends(opened):
    gateway = await opened()
    for _ in range(3):
        await gateway.call(LIMIT)
    await gateway.leases.close()
    assert reported(gateway) == 3


async def test_charges_while_the_bank_is_away_are_told_later(opened, monkeypatch):
    monkeypatch.setattr(bank_rounds, "REPORT_SECONDS", 0.01)
    gateway = await opened()
    await gateway.call(LIMIT)
    gateway.bank.fault = StoreFailed("gone")
    for _ in range(5):
        await gateway.call(LIMIT)
    await eventually(lambda: gateway.out.getvalue().count(b"leases.bank_is_away") == 1)
    gateway.bank.fault = None
    await eventually(lambda: reported(gateway) == 6)


async def test_without_a_bank_a_rate_limit_is_the_last_known_one(opened):
    gateway = await opened()
    await gateway.call(LIMIT)
    gateway.bank.fault = StoreFailed("gone")
    for _ in range(59):
        await gateway.call(LIMIT)
    with pytest.raises(Exceeded):
        await gateway.call(LIMIT)


async def test_a_refused_call_leaves_nothing_that_waits(opened, memory):
    one, other = await opened("a"), await opened("b")
    await one.reserve(100)
    with pytest.raises(Exceeded):
        await other.reserve(1)
    assert other.leases._returns.is_empty


async def test_first_calls_of_many_callers_at_the_same_time_are_all_served(opened):
    """Check that ten callers can begin their first calls at the same time. Each call is charged to a new bucket, which
    is full.

    The gateway drops full buckets from memory. It must keep such a bucket while a call waits for the bank's answer.
    """
    gateway = await opened()
    rules = [Rule(f"user{number}", 100) for number in range(10)]
    await asyncio.gather(*(gateway.reserve(1, rule) for rule in rules))


async def test_what_a_call_was_granted_is_not_given_back_before_it_is_reserved(opened):
    """Check that 20 calls get their amounts, although the bank demands unused amounts back at each of the gateway's
    requests.
    """
    gateway = await opened()
    gateway.leases.give_back()
    exchange = gateway.bank.exchange

    async def followed(asks):
        gateway.leases.recalled(Bucket("money", "all"), is_awaited=True)
        return await exchange(asks)

    gateway.bank.exchange = followed
    held = await asyncio.gather(*(gateway.reserve(1) for _ in range(20)))
    assert len([ask for asks in gateway.bank.asks for ask in asks if ask.needs]) == 1
    for one in held:
        gateway.quotas.charge(one, (), Settlement())
    gateway.bank.exchange = exchange
    bucket = gateway.quotas.sliced("all")
    await eventually(lambda: bucket.granted == bucket.waiting == 0)


async def test_a_call_of_several_buckets_keeps_what_it_was_granted_of_each(opened):
    """Check that a call that is charged to three buckets gets an amount of each, although the bank demands unused
    amounts back at each of the gateway's requests.
    """
    gateway = await opened()
    gateway.leases.give_back()
    exchange = gateway.bank.exchange

    async def followed(asks):
        gateway.leases.recalled(None)
        for rule in rules:
            gateway.leases.recalled(Bucket(rule.kind, rule.name), is_awaited=True)
        return await exchange(asks)

    gateway.bank.exchange = followed
    rules = [LIMIT, Rule("tokens", 1000, kind="tokens"), RULE]
    claims = [Claim(rule.name, rule, 1) for rule in rules]
    held = await gateway.leases.reserve(partial(gateway.quotas.reserve, claims))
    assert len(held) == 3


async def test_a_call_is_served_although_others_take_what_it_was_granted(opened):
    """Check that a call asks the bank again and again while other calls take what the bank has granted for it."""
    gateway = await opened()
    gateway.leases.give_back()
    exchange = gateway.bank.exchange
    thefts = iter(range(20))

    async def robbed(asks):
        answers = await exchange(asks)
        if any(ask.needs for ask in asks) and next(thefts, None) is not None:
            claim = Claim("all", RULE, 1)
            # the amount is granted when the answer has been read, before the waiting call runs
            asyncio.get_running_loop().call_soon(lambda: taken.append(gateway.quotas.reserve([claim])))
        return answers

    taken = []
    gateway.bank.exchange = robbed
    assert await gateway.reserve(1)
    assert len(taken) == 20


async def test_an_empty_bucket_is_asked_for_a_few_times_only(opened, memory):
    """Check that calls are refused after a few requests to the bank, although the bucket refills at every moment."""
    gateway = await opened()
    rule = Rule("all", 100 * 10**9, amount=100 * 10**9, period=86400 * 10**9)
    held = await gateway.reserve(rule.capacity, rule)
    spent = rule.capacity + 10**7
    gateway.quotas.charge(held, [(Bucket("money", "all"),)], Settlement(money=spent))
    memory.record("a", {"all": spent}, monotonic_ns())
    before = memory.requests
    for _ in range(3):
        with pytest.raises(Exceeded):
            await gateway.reserve(10**6, rule)
    assert memory.requests - before < 30


async def test_the_overdraft_bucket_is_asked_after_a_refilling_one(opened, memory):
    gateway = await opened()
    day = 86400 * 10**9
    own = Rule("own", 100 * 10**9, amount=100 * 10**9, period=day)
    team = Rule("team", 100 * 10**9, amount=100 * 10**9, period=day)
    held = await gateway.reserve(own.capacity, own)
    spent = own.capacity + 10**7
    gateway.quotas.charge(held, [(Bucket("money", "own"),)], Settlement(money=spent))
    memory.record("a", {"own": spent}, monotonic_ns())
    claims = [Claim("own", own, 10**6, (("team", team),))]
    assert await gateway.leases.reserve(partial(gateway.quotas.reserve, claims))


async def test_what_a_worker_was_granted_is_not_given_back_before_it_is_lent(opened):
    gateway = await opened()
    await gateway.reserve(1)
    gateway.leases.give_back()
    async with gateway.leases.covering([(Bucket("money", "all"), Want(10, 0, is_partial=False))]) as away:
        gateway.leases.recalled(Bucket("money", "all"), is_awaited=True)
        asked = len(gateway.bank.asks)
        await eventually(lambda: len(gateway.bank.asks) > asked)
        assert (gateway.quotas.sliced("all").free, away) == (10, frozenset())
    await eventually(lambda: gateway.quotas.sliced("all").granted == 1)


async def test_a_call_that_waits_while_another_process_takes_over_is_told(opened):
    gateway = await opened()
    gateway.bank.exchange = partial(asyncio.sleep, 60)
    waiting = asyncio.create_task(gateway.reserve(1))
    await eventually(lambda: gateway.quotas.sliced("all") and gateway.quotas.sliced("all").waiting)
    await asyncio.sleep(0)
    await gateway.leases.stop()
    with pytest.raises(bank_rounds.Stopped):
        await waiting


async def test_a_call_that_waits_for_other_gateways_is_told_of_a_take_over(opened):
    one, other = await opened("a"), await opened("b")
    await one.reserve(100)
    other.leases._recall_seconds = (3600.0,)
    waiting = asyncio.create_task(other.reserve(1))
    await eventually(lambda: other.quotas.sliced("all") and other.quotas.sliced("all").dry_until)
    await other.leases.stop()
    other.leases.refilled(Bucket("money", "all"))
    with pytest.raises(bank_rounds.Stopped):
        await waiting


def hanging(gateway):
    """Make the next request to the quota bank hang until the returned event is set."""
    release, exchange = asyncio.Event(), gateway.bank.exchange

    async def hang(asks):
        gateway.bank.exchange = exchange
        await release.wait()
        return await exchange(asks)

    gateway.bank.exchange = hang
    return release


async def wait_for_calls(gateway, calls):
    """Wait until this number of calls wait for the answer of the quota bank."""
    await eventually(lambda: gateway.quotas.sliced("all") and gateway.quotas.sliced("all").waiting == calls)


async def begin_hanging(gateway):
    """Begin a call whose request to the quota bank hangs. Return the call's task, and an event. The bank answers when
    this event is set.
    """
    release = hanging(gateway)
    hung = gateway.bank.exchange
    first = asyncio.create_task(gateway.reserve(10))
    await eventually(lambda: gateway.bank.exchange is not hung)
    return first, release


async def test_a_call_for_the_next_request_is_not_served_by_the_last_report(opened):
    gateway = await opened()
    await gateway.call(LIMIT)
    first, _ = await begin_hanging(gateway)
    second = asyncio.create_task(gateway.reserve(10))
    await wait_for_calls(gateway, 2)
    await gateway.leases.stop()
    assert reported(gateway) == 1
    for call in (first, second):
        with pytest.raises(bank_rounds.Stopped):
            await call


async def test_a_replaced_process_does_not_go_on_when_its_last_report_fails(opened):
    gateway = await opened(goes_on=True)
    await gateway.reserve(10)
    await gateway.call(LIMIT)
    gateway.bank.fault = StoreFailed("gone")
    await gateway.leases.stop()
    with pytest.raises(Exceeded):
        gateway.quotas.reserve([Claim("all", RULE, 1)])


async def test_a_process_that_ends_refuses_calls(opened, monkeypatch):
    gateway = await opened()
    keeper = Keeper(gateway.leases)
    monkeypatch.setattr(keeper_module, "reserve", lambda _call, quotas, _size: quotas.reserve([Claim("all", RULE, 1)]))
    await gateway.leases.close()
    with pytest.raises(Refused, match="this gateway is ending"):
        await keeper.reserve(None, gateway.quotas, None)


async def refused_once(gateway, event):
    """Check that the gateway refuses a call while the quota bank cannot be reached, and that it logs `event` once.

    Then make the bank reachable, and check that a call is served.
    """
    with pytest.raises(Refused):
        await gateway.reserve(1)
    await eventually(lambda: gateway.out.getvalue().count(b"leases.bank_is_away") == 1)
    assert gateway.out.getvalue().count(event) == 1
    gateway.bank.fault = None
    await eventually(lambda: gateway.out.getvalue().count(b"leases.bank_is_back") == 1)
    assert await gateway.reserve(1)


async def test_a_bank_that_does_not_register_a_gateway_counts_as_away(opened, monkeypatch):
    gateway = await opened()

    async def refuse(_asks):
        raise NotOpen

    gateway.bank.open, gateway.bank.fault = refuse, NotOpen()
    monkeypatch.setattr(bank_rounds, "RETRY_SECONDS", 0.01)
    await refused_once(gateway, b"it did not register this process")


async def test_after_an_unexpected_error_the_bank_is_asked_again(opened, monkeypatch):
    gateway = await opened()
    gateway.bank.fault = ZeroDivisionError("odd")
    monkeypatch.setattr(bank_rounds, "RETRY_SECONDS", 0.01)
    await refused_once(gateway, b"leases.round_failed")


async def test_a_call_that_waits_for_a_registration_is_told_of_a_take_over(opened):
    gateway = await opened()
    opening = asyncio.Event()

    async def hang(_asks):
        opening.set()
        await asyncio.sleep(60)

    gateway.bank.open, gateway.bank.fault = hang, NotOpen()
    waiting = asyncio.create_task(gateway.reserve(1))
    await opening.wait()
    await gateway.leases.stop()
    with pytest.raises(bank_rounds.Stopped):
        await waiting


async def test_nothing_is_requested_for_cancelled_calls(opened):
    gateway = await opened()
    first, release = await begin_hanging(gateway)
    others = [asyncio.create_task(gateway.reserve(30)) for _ in range(3)]
    await wait_for_calls(gateway, 4)
    for call in others:
        call.cancel()
    await asyncio.wait(others)
    release.set()
    await first
    # the next request, which would have been that of the cancelled calls
    gateway.leases.recalled(Bucket("money", "all"))
    before = len(gateway.bank.asks)
    await eventually(lambda: len(gateway.bank.asks) > before)
    assert [need.amount for asks in gateway.bank.asks for ask in asks for need in ask.needs] == [10]


async def test_a_charge_while_a_process_registers_again_counts_as_spent(opened, memory):
    """Check that a charge counts as spent even if it comes while the gateway is asking the bank for a new lease.

    If it did not count, the gateway could spend this amount twice.
    """
    gateway = await opened()
    held = await gateway.reserve(30)

    async def flush():
        gateway.quotas.charge(held, [(Bucket("money", "all"),)], Settlement(money=30))

    gateway.leases._records = SimpleNamespace(flush=flush)
    gateway.bank.fault = NotOpen()
    await gateway.reserve(60)
    memory.record("a", {"all": 30}, monotonic_ns())
    bucket = gateway.quotas.sliced("all")
    assert bucket.granted - bucket.spent == memory.leases["all"]["a"].held


async def test_a_bank_that_is_away_is_asked_again_after_one_pause(opened, monkeypatch):
    pauses = []

    async def pause(seconds):
        pauses.append(seconds)
        await asyncio.sleep(0)

    gateway = await opened()
    gateway.bank.fault = StoreFailed("gone")
    monkeypatch.setattr(bank_rounds, "RETRY_SECONDS", 3600.0)
    monkeypatch.setattr(bank_rounds, "asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": pause}))
    with pytest.raises(Refused):
        await gateway.reserve(1)
    await eventually(lambda: len(pauses) > 2)
    gateway.bank.fault = None
    await eventually(lambda: gateway.out.getvalue().count(b"leases.bank_is_back") == 1)
    assert {*pauses} - {0} == {3600.0}
