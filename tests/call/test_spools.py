"""Tests that the main process reads the records of calls that a worker process has written to its journal (spool).

Each call must be recorded and charged once.
"""

from contextlib import closing

import pytest

from gateway.call.spools import WORKER_PREFIX, SpoolReader
from gateway.money.quotas.buckets import Bucket
from gateway.store.entries import Charged, Entry, encode
from gateway.store.journal import Journal
from tests.helpers.gateway import gate
from tests.helpers.records import record
from tests.helpers.waiting import eventually

CAPACITY = 1_000_000_000
QUOTAS = {"quotas": {"all": {"capacity": "$1.00", "rate": "$0.00/day"}}}
SPOOL = f"{WORKER_PREFIX}0-1-a"


def ended(name, amount):
    """Return the line that a worker writes to its journal when a call has ended."""
    terms = f"{CAPACITY} 0/86400000000000"
    return encode(Entry(call=record(id=name), charged=(Charged("money", "all", amount, terms),)))


@pytest.fixture
async def parts(tmp_path):
    (tmp_path / "state").mkdir(mode=0o700)
    async with gate(tmp_path / "state", {}, more=QUOTAS) as gateway:
        yield gateway.running.gateway


async def read(parts, *lines):
    """Write these lines to a worker's journal, and wait until the main process has read the journal from its beginning,
    as after a restart.
    """
    with closing(Journal(parts.spools.folder(SPOOL), parts.log)) as spool:
        for line in lines:
            spool.append(line)
        parts.spools.add(SpoolReader(parts.spools.folder(SPOOL), recovered=True))
        parts.spools.start()
    await eventually(lambda: not list(parts.spools.all()))
    await parts.follower.flush()


async def test_a_call_that_is_read_again_after_a_kill_is_charged_once(parts):
    await read(parts, ended("a", 300))
    await read(parts, ended("a", 300), ended("b", 200))
    assert sorted(row.id for row in (await parts.store.calls(None, None, 100)).rows) == ["a", "b"]
    assert parts.quotas.bucket(Bucket("money", "all")).balance == CAPACITY - 500
    (balance,) = await parts.store.balances()
    assert balance.amount == CAPACITY - 500
