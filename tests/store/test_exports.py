"""Tests of exports, with each store: the order in which calls are exported, and the stored position of the last
exported call.
"""

import pytest

from gateway.store.exports import NOWHERE, Position
from tests.helpers.records import NOON, record


@pytest.fixture
async def store(opened):
    return await opened()


async def ids(store, after=0, until=2**62, limit=1000):
    return await store.exports.read(after, until, limit, lambda calls: [record.id for _, record in calls])


async def add(store, *calls, at=NOON):
    for call in calls:
        store.put(record(id=call, at=at))
    await store.flush()


async def test_calls_are_read_in_the_order_of_their_insertion(store):
    """Check that calls are exported in the order in which they were stored, even if a call that was stored later began
    earlier.
    """
    await add(store, "a", "b")
    position = await store.exports.newest()
    await add(store, "late", at=NOON - 86_400 * 40)
    assert await ids(store) == ["a", "b", "late"]
    assert await ids(store, after=position) == ["late"]
    assert await ids(store, until=position, limit=1) == ["a"]


async def test_more_calls_than_one_step_reads_are_read(store):
    names = [f"{number:03}" for number in range(250)]
    await add(store, *names)
    assert await ids(store) == names
    assert await ids(store, limit=230) == names[:230]


async def test_a_range_of_times_is_read_in_the_order_of_time(store):
    for number in reversed(range(150)):
        store.put(record(id=str(number), at=NOON + number // 2))
    await store.flush()
    since, until = round(NOON * 1000), round((NOON + 70) * 1000)
    read = await store.exports.read_time(since, until, lambda calls: [record.id for _, record in calls])
    assert sorted(read, key=int) == [str(number) for number in range(140)]
    assert [int(name) // 2 for name in read] == sorted(int(name) // 2 for name in read)


async def test_a_position_moves_when_the_planned_object_is_complete(opened):
    store = await opened()
    assert await store.exports.position("x") == NOWHERE
    assert await store.exports.plan("x", 0, 5, "first") == Position(0, 5, "first")
    store = await opened()
    assert await store.exports.position("x") == Position(0, 5, "first")
    await store.exports.complete("x", "first")
    assert await store.exports.position("x") == Position(5, 5, "")
    assert await store.exports.position("another") == NOWHERE


async def test_of_two_plans_the_first_is_stored(store):
    await store.exports.plan("x", 0, 5, "first")
    assert await store.exports.plan("x", 0, 9, "second") == Position(0, 5, "first")
    await store.exports.complete("x", "second")
    await store.exports.complete("x", "first")
    assert await store.exports.plan("x", 0, 9, "second") == Position(5, 5, "")


async def test_calls_after_a_deletion_are_not_missed(store):
    """Check that new calls are exported even if SQLite gives them the row numbers of calls that were exported and then
    deleted.
    """
    await add(store, "a", "b", "c")
    newest = await store.exports.newest()
    for name, until in (("whole", newest), ("planned", newest - 1)):
        await store.exports.plan(name, 0, until, "object")
    await store.exports.complete("whole", "object")
    assert await store.expire(NOON + 1, 10) == 3
    await add(store, "d")
    assert await ids(store, after=(await store.exports.position("whole")).n) == ["d"]
    await store.exports.complete("planned", "object")
    assert await ids(store, after=(await store.exports.position("planned")).n) == ["d"]
