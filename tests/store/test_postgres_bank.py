"""Tests of the quota bank in a real PostgreSQL database. The bank keeps the balances, and grants parts of them to
gateways.

Other work of several gateways on one database is tested too, such as deleting expired calls.
"""

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from gateway.money.quotas.book import ORDER
from gateway.money.quotas.buckets import SECOND, Bucket, Rule
from gateway.money.quotas.leases import Ask, Need, NotOpen
from gateway.store.base import StoreFailed
from gateway.store.entries import Balance, Entry, SentCall
from gateway.store.postgres import schema
from tests.helpers.postgres import cluster, kept_in_postgres
from tests.helpers.records import NOON, record
from tests.helpers.waiting import eventually

pytestmark = pytest.mark.usefixtures("postgres")

RULE = Rule("all", 100)
CHANGED = replace(RULE, capacity=50)


@pytest.fixture
async def gateways(address):
    """Yield a function that opens a gateway's store and its connection to the quota bank. All opened ones are closed at
    the end.
    """
    # they need asyncpg
    from gateway.store.postgres.bank import PostgresBank

    opened = []

    async def one(journal, seconds=30.0):
        store = kept_in_postgres(address, is_shared=True)(journal)
        bank = PostgresBank(address, journal, seconds)
        opened.extend([bank, store])
        await bank.open([])
        return store, bank

    yield one
    for each in opened:
        with suppress(RuntimeError):  # a test may have closed it, and its threads have ended then
            await each.close()


async def ask(bank, *needs, known=0, spent=0, rule=RULE, **more):
    needed = [Need(amount) for amount in needs]
    (answer,) = await bank.exchange([Ask(bucket="all", rule=rule, known=known, spent=spent, needs=needed, **more)])
    return answer


async def charge(store, amount, **changes):
    """Store the record of a call that was charged `amount`. The record also has a balance, which the store must ignore."""
    call = record(**{"id": "1", "at": NOON, **changes, "charges": {"all": amount}})
    await write(store, Entry(call=call, balances=(Balance("all", 1, 0, NOON, RULE.terms),)))


async def write(store, *entries):
    await store.write(entries, store.start_offset)


def sent(key):
    """Return the journal entry of a call that is about to be sent. The call's maximum cost is 30 nanodollars."""
    chains = ((("all", RULE.terms),),)
    return Entry(
        sent=SentCall(key, "s", NOON, "ada@example.com", "", "b", "m", "a", "a", "generate", False, "", 30, "", chains)
    )


async def test_gateways_get_together_what_the_bucket_has(gateways):
    (_, one), (_, other) = await gateways("one"), await gateways("other")
    assert (await ask(one, 60)).granted == 60
    answer = await ask(other, 30, 20, 20)
    assert (answer.granted, answer.is_refused, answer.elsewhere) == (50, True, 60)
    assert (await ask(one, 1, known=60)).is_refused


async def test_a_call_is_charged_once_by_its_record(gateways):
    (store, bank), (_, other) = await gateways("one"), await gateways("other")
    await ask(bank, 60)
    await charge(store, 25, id="1")
    await charge(store, 25, id="1")
    answer = await ask(bank, known=60, spent=25)
    assert (answer.amount, answer.spent, answer.granted) == (75, 25, 60)
    assert (await ask(other, 1)).elsewhere == 35
    (balance,) = await store.balances()
    assert balance.amount == 75


async def test_a_charge_to_an_unknown_bucket_begins_with_a_full_one(gateways):
    store, bank = await gateways("one")
    await charge(store, 130)
    assert (await ask(bank, 1)).amount == -30


async def test_balances_that_gateways_believe_in_are_not_written(gateways):
    store, _ = await gateways("one")
    await write(store, Entry(balances=(Balance("all", 1, 0, NOON, RULE.terms),)))
    assert await store.balances() == []


async def test_a_silent_gateway_keeps_only_what_its_open_calls_may_cost(gateways, address):
    (store, bank), (_, other) = await gateways("silent", seconds=0.0), await gateways("other", seconds=0.0)
    await ask(bank, 80)
    await write(store, sent("open"))
    cluster().sql("UPDATE gateways SET ends_at = ends_at - 100 WHERE journal = 'silent'", address.database)
    await eventually(lambda: is_free(other, 70))
    # it comes back, and counts on
    answer = await ask(bank, known=80)
    assert answer.granted == 30


async def is_free(bank, amount):
    return (await ask(bank)).elsewhere == 100 - amount


async def test_a_gateway_that_left_holds_nothing(gateways):
    (_, one), (_, other) = await gateways("one"), await gateways("other")
    await ask(one, 80)
    await one.leave()
    assert (await ask(other)).elsewhere == 0
    with pytest.raises(NotOpen):
        await ask(one)


async def test_a_new_process_takes_the_leases_from_the_old_one(gateways):
    (_, old), (_, new) = await gateways("one"), await gateways("one")
    with pytest.raises(NotOpen):
        await ask(old, 1)
    await old.leave()
    assert (await ask(new, 100)).granted == 100


async def test_a_lease_without_use_is_forgotten_once_its_records_are_there(gateways, address):
    store, bank = await gateways("one")
    await ask(bank, 10)
    assert not (await ask(bank, known=10, spent=10, is_last=True)).is_closed
    await charge(store, 10)
    assert (await ask(bank, known=10, spent=10, is_last=True)).is_closed
    assert cluster().sql("SELECT count(*) FROM leases", address.database) == [["0"]]


async def test_the_rule_that_was_loaded_last_is_used(gateways):
    (_, one), (_, other) = await gateways("one"), await gateways("other")
    await ask(one, 70, since=1.0)
    assert (await ask(other, rule=CHANGED, since=2.0)).amount == 50
    # the first gateway does not know the new rule yet
    assert (await ask(one, known=70, since=1.0)).amount == 50


async def test_a_refill_reaches_the_bucket_and_is_told_to_all(gateways, address):
    from gateway.store.postgres.listening import Listener
    from gateway.store.postgres.shared_balances import RECALLED, REFILLED

    (store, one), (_, other) = await gateways("one"), await gateways("other")
    heard = asyncio.Queue()
    listener = Listener(address, dict.fromkeys((RECALLED, REFILLED), heard.put_nowait))
    listener.start()
    try:
        await charge(store, 60)
        await eventually(lambda: is_listening(address))
        refilled = await other.refill("all", RULE, 500)
        assert (refilled.amount, refilled.balance) == (-60, 100)
        assert await asyncio.wait_for(heard.get(), 10) == "all"
        await ask(one, 100, spent=60, owed=60)
        assert (await ask(other, 1)).is_refused
        assert await asyncio.wait_for(heard.get(), 10) == "all"
    finally:
        await listener.close()


async def is_listening(address):
    statement = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'irisgate listener%'"
    found = await asyncio.to_thread(cluster().sql, f"{statement} AND query LIKE 'LISTEN%'", address.database)
    return found == [["1"]]


async def test_standings_are_those_that_have_changed(gateways):
    (store, one), (_, other) = await gateways("one"), await gateways("other")
    await charge(store, 60)
    (standing,) = await other.standings()
    assert (standing.bucket, standing.amount, standing.spent) == ("all", 40, 0)
    (standing,) = await one.standings()
    assert standing.spent == 60


async def test_open_calls_are_each_gateways_own(gateways):
    (one, _), (other, _) = await gateways("one"), await gateways("other")
    await write(one, sent("1"))
    await write(other, sent("2"))
    assert [call.id for call in await one.open_calls()] == ["1"]
    assert [call.id for call in await other.open_calls()] == ["2"]


async def test_one_gateway_deletes_expired_calls_for_all(gateways):
    (one, _), (other, _) = await gateways("one"), await gateways("other")
    await charge(one, 1)
    assert await one.expire(0.0, 10) == 0
    assert await other.expire(NOON + 1, 10) == 0
    assert await one.expire(NOON + 1, 10) == 1
    await one.close()
    await charge(other, 1, id="later")
    assert await eventually(lambda: other.expire(NOON + 1, 10)) == 1


async def test_a_gateway_that_shares_is_refused_beside_one_that_does_not(gateways, address):
    await gateways("one")
    with pytest.raises(StoreFailed, match="another gateway uses this database"):
        kept_in_postgres(address)("other")


async def test_the_schema_is_not_changed_beside_an_older_gateway(gateways, address, monkeypatch):
    newer = (*schema.MIGRATIONS, ("CREATE TABLE newer (n BIGINT)",))
    one, _ = await gateways("one")
    await gateways("of the same release")
    monkeypatch.setattr(schema, "MIGRATIONS", newer)
    refused = r"a gateway of an older release uses this database: irisgate writer on .*; stop all its gateways"
    with pytest.raises(StoreFailed, match=refused):
        await gateways("other")
    assert cluster().sql("SELECT version FROM schema_version", address.database) == [[str(len(newer) - 1)]]
    await charge(one, 1)


async def test_a_process_that_takes_over_may_change_the_schema(gateways, address, monkeypatch):
    newer = (*schema.MIGRATIONS, ("CREATE TABLE newer (n BIGINT)",))
    await gateways("one")
    monkeypatch.setattr(schema, "MIGRATIONS", newer)
    await gateways("one")
    await gateways("other")
    assert cluster().sql("SELECT version FROM schema_version", address.database) == [[str(len(newer))]]


LIMIT = Rule("all", 60, amount=60, period=60 * SECOND, kind="requests")


async def test_a_rate_limit_is_shared_and_its_charges_are_those_of_requests(gateways):
    (store, one), (_, other) = await gateways("one"), await gateways("other")
    limit = replace(LIMIT, amount=0)
    assert (await ask(one, 40, rule=limit)).granted == 40
    answer = await ask(other, 20, 1, rule=limit)
    assert (answer.granted, answer.is_refused, answer.elsewhere) == (20, True, 40)
    answer = await ask(one, known=40, spent=35, rule=limit)
    assert (answer.amount, answer.spent) == (25, 35)
    # a charge that was reported is not counted again
    assert (await ask(one, known=40, spent=35, rule=limit)).amount == 25
    assert (await ask(one, known=35, spent=35, rule=limit, is_last=True)).is_closed
    assert (await ask(other, known=20, rule=limit)).elsewhere == 0
    # a quota of the same name is another bucket, and a rate limit is no balance for a page
    assert (await ask(one, 100)).granted == 100
    assert [balance.bucket for balance in await store.balances()] == ["all"]
    assert [standing.bucket for standing in await one.standings()] == ["all"]


async def test_a_rate_limit_refills_by_the_clock_of_the_server(gateways, address):
    _, bank = await gateways("one")
    await ask(bank, 60, rule=LIMIT)
    await ask(bank, known=60, spent=60, rule=LIMIT)
    cluster().sql("UPDATE balances SET at = at - 30", address.database)
    assert 30 <= (await ask(bank, known=60, spent=60, rule=LIMIT)).amount < 60


async def test_old_buckets_of_rate_limits_are_removed(gateways, address):
    _, bank = await gateways("one", seconds=0.0)
    await ask(bank, 1, rule=LIMIT)
    await ask(bank, 1)
    for rule in (LIMIT, RULE):
        await ask(bank, rule=rule, is_last=True)
    cluster().sql("UPDATE balances SET at = at - 36 * 86400", address.database)
    await ask(bank, rule=replace(RULE, name="other"))
    assert cluster().sql("SELECT bucket FROM balances", address.database) == [["all"]]


@pytest.mark.parametrize("bucket", [Bucket(kind, name) for kind in ORDER for name in ("all", "a b", "", "tokens x")])
def test_a_bucket_is_known_by_its_stored_name(bucket):
    from gateway.store.postgres.shared_balances import bucket_named, stored_name

    assert bucket_named(stored_name(bucket)) == bucket
