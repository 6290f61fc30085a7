"""Tests of the versions of a shared configuration in a real PostgreSQL database."""

import asyncio

import pytest

from gateway.store.base import StoreFailed
from gateway.store.postgres.configurations import ADDED, KEPT, Configurations
from gateway.store.postgres.listening import Listener
from tests.helpers.postgres import cluster, kept_in_postgres
from tests.helpers.waiting import eventually

pytestmark = pytest.mark.usefixtures("postgres")


@pytest.fixture
async def versions(address):
    """Yield two `Configurations` objects on one PostgreSQL database, one for each of two gateways.

    Such an object reads and writes the versions of the configuration that the gateways share.
    """
    await kept_in_postgres(address)("journal").close()
    both = Configurations(address), Configurations(address)
    yield both
    for one in both:
        await one.close()


async def test_a_database_without_tables_has_no_version(address):
    empty = Configurations(address)
    assert await empty.newest() is None
    await empty.close()


async def test_a_version_is_added_only_after_the_newest_one(versions):
    one, other = versions
    assert await one.newest() is None
    assert await one.add("a", "ann@example.com", after=0) == 1
    assert await other.add("b", "bob@example.com", after=0) is None
    assert await other.add("b", "bob@example.com", after=1) == 2
    assert await one.add("c", "ann@example.com", after=1) is None
    newest = await one.newest()
    assert (newest.number, newest.who, newest.text) == (2, "bob@example.com", "b")


async def test_of_many_versions_at_once_one_is_added(versions):
    adding = [versions[number % 2].add(str(number), "file", after=0) for number in range(20)]
    assert sorted(await asyncio.gather(*adding), key=str) == [1, *[None] * 19]


async def test_the_oldest_versions_are_removed(versions, address):
    for number in range(KEPT + 3):
        await versions[0].add(f"text {number}", "file", after=number)
    numbers = cluster().sql("SELECT min(n), max(n), count(*) FROM configurations", address.database)
    assert numbers == [["4", str(KEPT + 3), str(KEPT)]]


async def test_a_new_version_is_heard_of(versions, address):
    heard = []
    listener = Listener(address, {ADDED: heard.append})
    listener.start()

    async def is_listening():
        listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
        return await asyncio.to_thread(cluster().sql, listening, address.database) == [["1"]]

    await eventually(is_listening)
    await versions[0].add("a", "file", after=0)
    await eventually(lambda: heard == ["1"])
    await listener.close()


async def test_a_server_that_is_away_is_an_error(versions):
    cluster().stop()
    try:
        with pytest.raises(StoreFailed, match=r"cannot be connected to|closed"):
            await versions[0].newest()
    finally:
        cluster().start()
