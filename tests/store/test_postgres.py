"""Tests of the PostgreSQL store with a real server: start, locks, months, and a server that stops, hangs or crashes."""

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pytest

from gateway.contract.flag import Usage
from gateway.store.base import JournalOffset, SessionQuery, StoreFailed, UsageQuery
from gateway.store.calls import CALL_COLUMNS
from gateway.store.entries import MAX_INTEGER, Entry
from gateway.store.postgres.address import Address, Tls
from gateway.store.postgres.schema import MIGRATIONS
from tests.helpers.postgres import Cluster, cluster, kept_in_postgres
from tests.helpers.records import NOON, record
from tests.helpers.tls import authority, signed
from tests.helpers.waiting import eventually

pytestmark = pytest.mark.usefixtures("postgres")

DAY = 86_400


@pytest.fixture
async def opened(address):
    """Return a function that opens a store in the test's database. All opened stores are closed at the end."""
    stores = []

    def one(journal="journal", **options):
        stores.append(kept_in_postgres(address, **options)(journal))
        return stores[-1]

    yield one
    for store in stores:
        with suppress(RuntimeError):  # a test may have closed the store, whose threads have ended then
            await store.close()


async def put(store, *ids, **changes):
    for each in ids:
        store.put(record(id=each, **changes))
    await store.flush()


async def ids(store):
    return sorted(call.id for call in (await store.calls(None, None, 1000)).rows)


async def test_gateways_that_start_at_once_migrate_the_database_once(address):
    """Check that the tables of an empty database are created once if four processes of a gateway start on it at the
    same time.
    """
    opening = kept_in_postgres(address)
    begin = threading.Barrier(4)

    def start():
        begin.wait()
        return opening("journal")

    with ThreadPoolExecutor(4) as threads:
        stores = [future.result() for future in [threads.submit(start) for _ in range(4)]]
    for number, store in enumerate(stores):
        await put(store, str(number))
    assert await ids(stores[0]) == ["0", "1", "2", "3"]
    for store in stores:
        await store.close()
    assert cluster().sql("SELECT * FROM schema_version", address.database) == [[str(len(MIGRATIONS))]]


async def test_another_gateway_is_refused_while_one_uses_the_database(opened):
    first = opened("one")
    with pytest.raises(StoreFailed, match=r"another gateway uses this database: irisgate writer on .*; give each"):
        opened("two")
    await put(first, "a")
    await first.close()
    second = opened("two")
    assert second.start_offset == JournalOffset()
    assert await ids(second) == ["a"]
    with pytest.raises(StoreFailed, match="another gateway"):
        opened("one")


async def test_each_journal_has_its_own_offset(opened):
    first = opened("one")
    await first.write([Entry(call=record(id="a"))], JournalOffset(3, 7))
    await first.close()
    second = opened("two")
    await second.write([Entry(call=record(id="b"))], JournalOffset(1, 5))
    await second.close()
    assert opened("one").start_offset == JournalOffset(3, 7)


async def test_a_database_of_a_later_release_is_not_touched(opened, address):
    await opened().close()
    cluster().sql("UPDATE schema_version SET version = 999", address.database)
    with pytest.raises(StoreFailed, match=r"its schema is version 999 and this irisgate knows up to"):
        opened()
    assert cluster().sql("SELECT * FROM schema_version", address.database) == [["999"]]


def test_a_database_of_another_encoding_is_refused():
    cluster().sql("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    opening = kept_in_postgres(cluster().address("latin"))
    with pytest.raises(StoreFailed, match="its encoding is LATIN1; create a database with ENCODING 'UTF8'"):
        opening("journal")
    assert cluster().sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", "latin") == [["0"]]


async def test_the_table_of_calls_has_the_fields_of_a_record(opened, address):
    await opened().close()
    columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'calls'"
    assert sorted(name for (name,) in cluster().sql(columns, address.database)) == sorted([*CALL_COLUMNS, "n"])


async def test_calls_are_in_a_partition_for_each_month(opened, address):
    store = opened()
    # 2026-11-30 23:59:59.999, 2026-12-01 00:00, and 2027-01-01 00:00
    times = {"a": NOON + 7 * DAY + 43_199.999, "b": NOON + 7 * DAY + 43_200, "c": NOON + 38 * DAY + 43_200}
    for key, at in times.items():
        store.put(record(id=key, at=at))
    await store.flush()
    for month, key in (("2026_11", "a"), ("2026_12", "b"), ("2027_01", "c")):
        assert cluster().sql(f"SELECT id FROM calls_{month}", address.database) == [[key]]
    assert [call.id for call in (await store.calls(None, None, 10)).rows] == ["c", "b", "a"]


async def test_months_that_have_expired_are_dropped(opened, address):
    """Check how expired calls are deleted. If all calls of a month have expired, the table of the month is dropped at
    once. If only some have expired, they are deleted in batches.

    The sums of the deleted calls stay.
    """
    store = opened()
    for number in range(30):
        headers = {"x-week": str(number // 7)}
        store.put(record(id=f"{number:02}", session_id=f"s{number}", at=NOON + number * 3 * DAY, headers=headers))
    await store.flush()
    # the 14 calls of November and December have expired, and one of January's
    assert await store.expire(NOON + 14 * 3 * DAY, 0) == 13
    assert [name for (name,) in cluster().sql("SELECT relname FROM pg_class WHERE relname LIKE 'calls_____\\___' "
                                              "AND relkind = 'r' ORDER BY 1", address.database)] == [
        "calls_2027_01", "calls_2027_02",
    ]  # fmt: skip
    assert await store.expire(NOON + 14 * 3 * DAY, 5) == 1
    assert await ids(store) == [f"{number:02}" for number in range(14, 30)]
    terms = cluster().sql("SELECT term FROM header_terms ORDER BY term", address.database)
    assert terms == [["x-week"], ["x-week:2"], ["x-week:3"], ["x-week:4"]]
    assert cluster().sql("SELECT count(*) FROM call_headers", address.database) == [["32"]]
    assert [row.calls for row in await store.usage(UsageQuery())] == [30]
    assert len((await store.sessions(SessionQuery(None, 100))).rows) == 30 - 5
    # a call of a dropped month that comes late makes the month anew
    await put(store, "late", at=NOON)
    assert "late" in await ids(store)


async def test_expired_texts_are_deleted(opened, address):
    store = opened()
    await put(store, "a", outcome="failed", error="upstream", error_message="secret words", tools=("Read",))
    await store.expire(NOON + 2 * DAY, 10)
    tables = ("calls", "sessions", "session_tools", "session_models", "errors_quarter", "error_kinds", "tools_day")
    for table in tables:
        assert cluster().sql(f"SELECT count(*) FROM {table}", address.database) == [["0"]]
    assert cluster().sql("SELECT message, call FROM health", address.database) == [["", ""]]


async def test_a_server_that_stops_and_starts_again_is_used_again(opened):
    store = opened()
    await put(store, "a")
    cluster().stop()
    try:
        for _ in range(3):
            with pytest.raises(StoreFailed, match="postgresql://irisgate@"):
                await ids(store)
            with pytest.raises(StoreFailed):
                await store.write([Entry(call=record(id="b"))], JournalOffset())
    finally:
        cluster().start()

    async def written():
        try:
            await store.write([Entry(call=record(id="b"))], JournalOffset())
            return await ids(store)
        except StoreFailed:
            return []

    assert await eventually(written) == ["a", "b"]
    assert (await store.session(None, "s1")).calls == 2


async def test_a_crash_within_a_batch_leaves_nothing_of_it(opened, address):
    """Check that a batch is written whole or not at all if the server crashes while it is written."""
    store = opened()
    await put(store, "a")
    batch = [Entry(call=record(id=f"b{number}", session_id=f"s{number}")) for number in range(20_000)]
    writing = asyncio.create_task(store.write(batch, JournalOffset(9, 9)))
    locked = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 2 AND granted"
    await eventually(lambda: asyncio.to_thread(cluster().sql, locked, address.database))
    cluster().stop("immediate")
    try:
        with pytest.raises(StoreFailed):
            await writing
    finally:
        await asyncio.to_thread(cluster().start)
    await asyncio.sleep(1)
    assert await ids(store) == ["a"]
    assert await store.offset() == JournalOffset()
    assert [row.calls for row in await store.usage(UsageQuery())] == [1]
    await store.write(batch, JournalOffset(9, 9))
    assert [row.calls for row in await store.usage(UsageQuery())] == [20_001]


def test_a_statement_ends_with_its_connection(address, monkeypatch):
    from gateway.store.postgres import connection

    monkeypatch.setattr(connection, "LOOK_SECONDS", 0.05)
    lost = connection.PostgresConnection(address, "writer")

    class Stuck:
        """A connection of asyncpg that breaks off while a COPY waits for the socket."""

        is_closed = lost._connection.is_closed
        terminate = lost._connection.terminate

        async def copy_records_to_table(self, _table, **_options):
            self.terminate()
            await asyncio.Event().wait()

    lost._connection = Stuck()
    with pytest.raises(ConnectionError, match="broke off"):
        lost.copy("batch", ("id",), [("a",)])
    assert lost.is_lost
    lost.close()


async def test_a_server_that_hangs_counts_as_failed(opened, monkeypatch):
    from gateway.store.postgres import connection

    monkeypatch.setattr(connection, "STATEMENT_SECONDS", 1.0)
    store = opened()
    await put(store, "a")
    cluster().pause()
    try:
        with pytest.raises(StoreFailed, match="did not answer in time"):
            await ids(store)
    finally:
        cluster().resume()
    await asyncio.sleep(1)
    assert await ids(store) == ["a"]


async def test_a_sum_that_is_too_large_stops_no_batch(opened, address):
    """Check that a sum that would exceed the largest integer of a column becomes this integer, and that the batch is
    stored.
    """
    store = opened()
    await put(store, "a", usage=Usage(input=MAX_INTEGER), cost=5)
    for table in ("sessions", "figures_day", "everybody_month"):
        cluster().sql(f"UPDATE {table} SET input = {2**63 - 10}, cache_saved = {10 - 2**63}", address.database)
    await put(store, "b", usage=Usage(input=100), cost=5, cache_saved=-100)
    session = await store.session(None, "s1")
    assert (session.calls, session.usage.input, session.cache_saved) == (2, 2**63 - 1, 1 - 2**63)
    assert session.known_cost == 10
    for number in range(1_100):
        store.put(record(id=f"c{number}", session_id="s2", usage=Usage(input=MAX_INTEGER), cost=5))
    await store.flush()
    session = await store.session(None, "s2")
    assert (session.calls, session.usage.input, session.known_cost) == (1_100, 2**63 - 1, 5_500)


async def test_a_slow_server_gets_a_large_batch_in_parts(opened, monkeypatch):
    """Check that a large batch is written in several statements, so that the time limit for one statement does not limit
    the size of the batch. No row is left out.
    """
    from gateway.store.postgres import connection

    monkeypatch.setattr(connection, "MANY_ROWS", 7)
    store = opened()
    for number in range(100):
        store.put(record(id=f"{number}", session_id=f"s{number}", model=f"m{number}"))
    await store.flush()
    assert len((await store.sessions(SessionQuery(None, 200))).rows) == 100
    assert [row.calls for row in await store.usage(UsageQuery())] == [100]


async def test_a_lock_of_another_client_delays_only_one_attempt(opened, address, monkeypatch):
    from gateway.store.postgres import connection

    monkeypatch.setattr(connection, "LOCK_SECONDS", 1)
    store = opened()
    locking = "BEGIN; LOCK TABLE sessions; SELECT pg_sleep(3)"
    other = asyncio.create_task(asyncio.to_thread(cluster().sql, locking, address.database))
    locked = "SELECT 1 FROM pg_locks WHERE relation = to_regclass('sessions') AND mode = 'AccessExclusiveLock'"
    await eventually(lambda: asyncio.to_thread(cluster().sql, locked, address.database))
    with pytest.raises(StoreFailed, match="lock timeout"):
        await put(store, "a")
    await other
    await put(store, "b")
    assert await ids(store) == ["b"]


@pytest.mark.parametrize("selected", ["", "JOIN series s ON s.n = f.series WHERE s.identity = 'ada@example.com'"])
async def test_sums_of_short_spans_are_read_by_their_index(opened, address, selected):
    """Check that PostgreSQL reads a table of sums by its index on time, so that a report reads only the rows in its
    ranges of time.

    The planner does not know that these ranges are short. Without help, it could read all rows of the selected series.
    """
    store = opened()
    for number in range(50):
        await put(store, str(number), at=NOON + number * DAY, identity=f"{number % 25}@example.com")
    query = f"""EXPLAIN SELECT * FROM (VALUES (0, 5), (9, 12)) p (a, b)
        JOIN figures_hour f ON f.time >= a AND f.time < b {selected}"""

    def explained():
        from gateway.store.postgres.connection import PostgresConnection  # it needs asyncpg

        connection = PostgresConnection(address, "reader")
        rows = connection.execute(query).fetchall()
        connection.close()
        return "\n".join(line for (line,) in rows)

    cluster().sql("ANALYZE", address.database)
    plan = await asyncio.to_thread(explained)
    assert 'Index Cond: (("time" >= ' in plan
    assert "Seq Scan on figures_hour" not in plan


async def test_pages_read_a_replica(opened, address):
    """Check that pages and reports are read from the replica, which follows its primary database and cannot be written."""
    await opened().close()
    replica = Cluster(primary=cluster())
    try:
        copy = replica.address(address.database)
        store = opened(copy=copy)
        await put(store, "a")
        assert await eventually(lambda: ids(store)) == ["a"]
        replica.stop()
        with pytest.raises(StoreFailed, match=str(replica.folder)):
            await ids(store)
        with pytest.raises(StoreFailed, match=str(replica.folder)):
            await store.reports.names(None)
        # what must be exact is read from the primary
        await put(store, "b")
        assert await store.offset() == await store.offset()
        assert await store.open_calls() == await store.balances() == []
    finally:
        replica.remove()


async def test_an_empty_database_is_no_replica(opened):
    """Check that a gateway starts although the configured replica is an empty database. Pages show an error that says
    what is wrong.
    """
    store = opened(copy=cluster().address())
    await put(store, "a")
    with pytest.raises(StoreFailed, match=r"has no tables; it must be a replica of the database in storage\.url"):
        await ids(store)


def test_the_password_is_needed_and_never_shown(address):
    hba = cluster().data / "pg_hba.conf"
    before = hba.read_text()
    cluster().sql("CREATE ROLE secretive LOGIN PASSWORD 'correct horse' SUPERUSER")
    hba.write_text(f"local all secretive scram-sha-256\n{before}")
    cluster().sql("SELECT pg_reload_conf()")
    try:
        wrong = replace(address, user="secretive", password="battery staple")
        assert "staple" not in f"{wrong!r} {wrong}"
        with pytest.raises(StoreFailed, match='password authentication failed for user "secretive"') as failed:
            kept_in_postgres(wrong)("journal")
        assert "staple" not in str(failed.value)
        store = kept_in_postgres(replace(wrong, password="correct horse"))("journal")
        asyncio.run(store.close())
    finally:
        hba.write_text(before)
        cluster().sql("SELECT pg_reload_conf()")


def test_the_server_proves_its_name(tmp_path):
    """Check that a connection is encrypted. If the server must be verified, it needs a certificate for its host name."""
    # it needs asyncpg
    from gateway.store.postgres.connection import PostgresConnection

    own = authority(tmp_path, "ca")
    certificate, key = signed(own, "localhost")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Cluster()
    try:
        server.give(certificate, "server.crt")
        server.give(key, "server.key")
        server.sql(f"ALTER SYSTEM SET port = {port}")
        server.sql("ALTER SYSTEM SET listen_addresses = '127.0.0.1'")
        server.sql("ALTER SYSTEM SET ssl = on")
        server.stop()
        server.start()
        address = Address(host="localhost", port=port, user="irisgate", database="postgres")
        trusted = Tls(authorities=own[0].read_text())
        for tls in (trusted, Tls(verify=False)):
            connection = PostgresConnection(replace(address, tls=tls), "reader")
            encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            assert connection.execute(encrypted).fetchone() == (True,)
            connection.close()
        for host, tls in (("localhost", Tls()), ("127.0.0.1", trusted)):
            with pytest.raises(StoreFailed, match=r"cannot be connected to: .*certificate verify failed"):
                kept_in_postgres(replace(address, host=host, tls=tls))("journal")
    finally:
        server.remove()


def test_a_server_without_encryption_is_refused_if_it_is_wanted():
    """Check that the connection fails if it must be encrypted and the server offers no encryption."""
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer():
            connection, _ = plain.accept()
            with connection:
                # the request for encryption; "N" means that the server has none
                connection.recv(8)
                connection.send(b"N")

        with ThreadPoolExecutor(1) as thread:
            thread.submit(answer)
            port = plain.getsockname()[1]
            address = Address(host="127.0.0.1", port=port, user="u", database="d", tls=Tls(verify=False))
            with pytest.raises(StoreFailed, match="rejected SSL upgrade"):
                kept_in_postgres(address)("journal")


def test_a_server_that_is_not_there_is_told_at_the_start(tmp_path):
    nowhere = Address(host=str(tmp_path), port=5432, user="irisgate", database="irisgate")
    with pytest.raises(StoreFailed, match=r"cannot be connected to: .*No such file"):
        kept_in_postgres(nowhere)("journal")
