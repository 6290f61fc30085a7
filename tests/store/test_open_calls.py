"""Tests of calls that were sent, but whose process ended before they were recorded. The next process must find each of
them, even if files of the journal were removed.
"""

import asyncio
import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.call.finish import Finish
from gateway.call.plugin_reports import PluginReports
from gateway.config.load import loads
from gateway.money.quotas.book import Quotas
from gateway.store.base import StoreFailed, UsageQuery
from gateway.store.entries import Balance, Entry, SentCall, encode
from gateway.store.journal import Journal
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observers import Observers
from tests.helpers.records import HAIKU, NOON, logger, record
from tests.store.test_follower import Kept, abandoned, keeping

CAPACITY, COST = 10**9, 250_000_000
QUOTAS = {"team": {"capacity": "$1.00", "rate": "$0.00/day"}}


def sent(key, **changes):
    call = SentCall(
        id=key, session_id="s1", at=NOON, identity="ada@example.com", node="n1", provider="bedrock", model=HAIKU,
        api="openai_chat", upstream_api="bedrock_converse", operation="generate", stream=True, agent="curl",
        headers={"x-team": "alpha"}, cost=COST, cost_basis="bedrock/haiku", chains=((("team", f"{CAPACITY} 0/1000000000"),),),
    )  # fmt: skip
    return type(call)(**{**{name: getattr(call, name) for name in call.__struct_fields__}, **changes})


class Started:
    """A gateway process that starts on the state folder of a killed one, and finds the lost calls: those that were sent
    but not recorded.
    """

    def __init__(self, records, quotas=QUOTAS):
        self.records = records
        config = loads(json.dumps({"quotas": quotas})).config
        self.quotas = Quotas()
        self.quotas.configured(config.quotas)
        self.observed = []
        metrics = Metrics(config)
        reports = PluginReports(metrics, records.log)
        observers = Observers({}, records.log, reports.failed)
        self.finish = Finish(records.follower, metrics, records.log, observers, reports)

    async def recover(self, count=None):
        """Charge and record the lost calls, and return the ids of all of them.

        If `count` is given, stop after this number of calls, as if the process were killed then.
        """
        self.quotas.restore(await self.records.store.balances())
        calls = await self.records.store.open_calls()
        self.finish.lost(calls[:count], self.quotas)
        return [call.id for call in calls]

    @property
    def balance(self):
        return self.quotas.level("team").balance


async def left(folder, *lines, torn=b"", **options):
    """Write lines to the journal, and leave its files as a killed process does. `torn` is the beginning of a further
    line.
    """
    records = Kept(folder, **options)
    for line in lines:
        records.journal.append(line)
    path = max((folder / "journal").glob("*.jsonl"))
    abandoned(records)
    path.write_bytes(path.read_bytes() + torn)
    await records.store.close()


def begun(*keys, **changes):
    return [encode(Entry(sent=sent(key, **changes))) for key in keys]


def ended(*keys, balance=CAPACITY):
    return [encode(Entry(call=record(id=key), balances=(Balance("team", balance, 0, NOON),))) for key in keys]


async def lost(records):
    rows = (await records.store.calls(None, None, 100)).rows
    return sorted(row.id for row in rows if row.outcome == "lost")


ENDED = {
    "both in one file": [*begun("a", "b"), *ended("a")],
    "the end came first": [*ended("a"), *begun("b")],
    "many calls between": [*begun("b"), *[line for n in range(50) for line in [*begun(f"c{n}"), *ended(f"c{n}")]]],
    "one that is twice in the file": [*begun("b"), *begun("b"), *begun("a"), *ended("a"), *ended("a")],
}


@pytest.mark.parametrize("lines", ENDED.values(), ids=ENDED)
async def test_a_call_without_an_end_is_lost_and_charged(tmp_path, lines):
    await left(tmp_path, *lines)
    async with keeping(tmp_path) as records:
        started = Started(records)
        assert await started.recover() == ["b"]
        assert started.balance == CAPACITY - COST
        await records.follower.flush()
        assert await lost(records) == ["b"]
        (row,) = [row for row in (await records.store.calls(None, None, 100)).rows if row.id == "b"]
        assert (row.cost, row.estimated, row.charges, row.status) == (COST, True, {"team": COST}, 500)
        assert (row.identity, row.node, row.model, row.stream) == ("ada@example.com", "n1", HAIKU, True)
        assert row.headers == {"x-team": "alpha"}
    async with keeping(tmp_path) as records:
        assert await Started(records).recover() == []


async def test_an_end_that_is_torn_makes_the_call_lost(tmp_path):
    (line,) = ended("a")
    await left(tmp_path, *begun("a"), torn=line[:-1])
    async with keeping(tmp_path) as records:
        assert await Started(records).recover() == ["a"]


async def test_a_torn_line_before_sending_is_no_call(tmp_path):
    (line,) = begun("a")
    await left(tmp_path, *begun("b"), *ended("b"), torn=line[:-1])
    async with keeping(tmp_path) as records:
        assert await Started(records).recover() == []


async def test_a_long_call_outlives_the_files_that_it_began_in(tmp_path):
    """Check that an open call of a killed process is found, although the journal's file with the call's entry was
    deleted.

    A file of the journal is deleted when all its entries are in the store.
    """
    async with keeping(tmp_path) as records:
        records.follower.put_sent(sent("long"))
        await records.follower.flush()
        records.journal.renew(0)
        for number in range(10):
            records.put(f"c{number}")
        await records.follower.flush()
        records.journal.renew(0)
        records.put("d")
        await records.follower.flush()
        assert len(list((tmp_path / "journal").glob("*.jsonl"))) == 1
    async with keeping(tmp_path) as records:
        assert await Started(records).recover() == ["long"]
        await records.follower.flush()
        assert await lost(records) == ["long"]


@pytest.mark.parametrize("recorded", [0, 1, 2, 3])
@pytest.mark.parametrize("applied", [False, True])
async def test_a_start_that_is_killed_charges_nothing_twice(tmp_path, recorded, applied):
    """Check that if a process is killed while it charges lost calls, the next process charges only those that are left."""
    await left(tmp_path, *begun("a", "b", "c"))
    killed = Kept(tmp_path)
    await killed.follower._catch_up()
    await Started(killed).recover(recorded)
    if applied:
        await killed.follower._catch_up()
    abandoned(killed)
    await killed.store.close()
    async with keeping(tmp_path) as records:
        started = Started(records)
        assert await started.recover() == ["a", "b", "c"][recorded:]
        assert started.balance == CAPACITY - 3 * COST
        await records.follower.flush()
        assert await lost(records) == ["a", "b", "c"]
        (row,) = await records.store.usage(UsageQuery())
        assert (row.calls, row.known_cost, row.estimated_calls, row.failed) == (3, 3 * COST, 3, 3)


async def test_of_two_starts_at_once_one_is_refused(tmp_path):
    await left(tmp_path, *begun("a"))
    async with keeping(tmp_path) as records:
        with pytest.raises(StoreFailed, match="another gateway keeps its records there"):
            Journal(tmp_path / "journal", logger()[0])
        assert await Started(records).recover() == ["a"]


async def test_balances_are_those_of_a_process_that_was_not_killed(tmp_path):
    """Check that after lost calls were charged, the balance is the one that was stored with the last ended call, minus
    the costs of the lost calls.
    """
    await left(tmp_path, *begun("a", "b"), *ended("a", balance=700_000_000), *begun("c"))
    async with keeping(tmp_path) as records:
        started = Started(records)
        assert await started.recover() == ["b", "c"]
        assert started.balance == 700_000_000 - 2 * COST
        await records.follower.flush()
        assert [left.amount for left in await records.store.balances()] == [started.balance]


async def test_a_bucket_whose_quota_is_gone_is_charged_for_its_return(tmp_path):
    await left(tmp_path, *begun("a"))
    async with keeping(tmp_path) as records:
        await Started(records, {}).recover()
    async with keeping(tmp_path) as records:
        started = Started(records)
        assert await started.recover() == []
        assert started.balance == CAPACITY - COST


@pytest.mark.parametrize(("cost", "charges"), [(None, {}), (0, {})])
async def test_a_lost_call_without_a_price_charges_nothing(tmp_path, cost, charges):
    await left(tmp_path, *begun("a", cost=cost))
    async with keeping(tmp_path) as records:
        started = Started(records)
        await started.recover()
        await records.follower.flush()
        (row,) = (await records.store.calls(None, None, 10)).rows
        assert (row.cost, row.charges, row.estimated, started.balance) == (cost, charges, True, CAPACITY)


async def test_calls_that_expired_are_not_counted_again(tmp_path):
    """Check that calls that were deleted because of their age are not counted again if the journal's folder is
    removed.
    """
    async with keeping(tmp_path, retention=lambda: 3600.0) as records:
        records.put("old", at=NOON - 10**7)
        await records.follower.flush()
        for _ in range(200):
            records.follower._expire_at = 0.0
            await records.follower._expire()
            if not await records.ids():
                break
        assert await records.ids() == []
        shutil.rmtree(tmp_path / "journal")
        records.journal.retry()
        records.put("new", at=NOON + 10**9)
        await records.follower.flush()
        assert await records.ids() == ["new"]
        assert [row.calls for row in await records.store.usage(UsageQuery())] == [2]


async def test_a_journal_that_was_removed_keeps_what_is_not_in_the_store(tmp_path):
    records = Kept(tmp_path)
    await records.follower._catch_up()
    records.put("a")
    await records.follower._catch_up()
    records.put("b")
    records.follower.put_sent(sent("c"))
    shutil.rmtree(tmp_path / "journal")
    records.journal.retry()
    assert len(max((tmp_path / "journal").glob("*.jsonl")).read_bytes().splitlines()) == 2
    abandoned(records)
    await records.store.close()
    async with keeping(tmp_path) as records:
        assert sorted(await records.ids()) == ["a", "b"]
        assert await Started(records).recover() == ["c"]


def test_a_journal_without_another_number_keeps_lines_in_memory(tmp_path):
    """Check that the journal keeps lines in memory, and raises no error, if its file is full and has the highest
    possible number.

    A next file would need a higher number.
    """
    (tmp_path / "999999999998.jsonl").touch()
    log, _ = logger()
    journal = Journal(tmp_path, log, segment_bytes=1)
    journal.append(b"a")
    journal.append(b"b")
    assert journal.waiting == 2
    journal.renew(0)
    shutil.rmtree(tmp_path)
    journal.retry()
    assert journal.waiting == 2
    journal.close()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 9)),
        st.tuples(st.just("end"), st.integers(0, 9)),
        st.tuples(st.sampled_from(["apply", "rotate", "remove"]), st.just(0)),
        st.tuples(st.just("kill"), st.integers(0, 3)),
    ),
    max_size=40,
)


class History:
    """The state folder of a gateway, on which several processes run one after the other. It records which calls the
    store must have.
    """

    def __init__(self, folder):
        self.folder, self.number = folder, 0
        self.open, self.sent, self.ended = {}, set(), set()

    async def start(self):
        self.records = Kept(self.folder)
        await self.records.follower._catch_up()

    async def step(self, step, number):
        match step:
            case "send" if number not in self.open:
                self.number += 1
                self.open[number] = key = f"call{self.number}"
                self.sent.add(key)
                self.records.follower.put_sent(sent(key))
            case "end" if number in self.open:
                key = self.open.pop(number)
                self.ended.add(key)
                self.records.put(key)
            case "apply":
                await self.records.follower._catch_up()
            case "rotate":
                self.records.journal.renew(0)
            case "remove":
                await self.records.follower._catch_up()
                shutil.rmtree(self.folder / "journal")
                self.records.journal.retry()
            case "kill":
                await self.kill(number)

    async def kill(self, recorded):
        """Kill the process. Also kill the next process, after it has recorded some of the lost calls."""
        self.open = {}
        for count in (recorded, None):
            abandoned(self.records)
            await self.records.store.close()
            await self.start()
            await Started(self.records).recover(count)


@given(STEPS)
@settings(max_examples=40)
def test_each_call_is_recorded_once_whatever_happens(steps):
    """Check that each call is recorded and charged once, for any order of steps.

    A step begins or ends a call, begins a new file of the journal, removes the journal's folder, or kills the process.
    """

    async def lived(folder):
        history = History(folder)
        await history.start()
        for step in steps:
            await history.step(*step)
        await history.kill(0)
        await history.records.follower._catch_up()
        store = history.records.store
        rows = (await store.calls(None, None, 100)).rows
        lost = history.sent - history.ended
        assert sorted(row.id for row in rows) == sorted(history.sent)
        assert {row.id for row in rows if row.outcome == "lost"} == lost
        assert sum(row.charges.get("team", 0) for row in rows) == COST * len(lost)
        assert [left.amount for left in await store.balances()] == ([CAPACITY - COST * len(lost)] if lost else [])
        sums = await store.usage(UsageQuery())
        assert sum(row.calls for row in sums) == len(history.sent)
        abandoned(history.records)
        await store.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(lived(Path(folder)))
