"""Tests of a gateway that stores its records in PostgreSQL. The database server or the gateway is stopped or killed."""

import asyncio
import json
from decimal import Decimal

import aiohttp
import pytest

from tests.end_to_end.test_kill import load
from tests.helpers.gateway import CAP, EVERYTHING, HAIKU, bedrock
from tests.helpers.postgres import cluster
from tests.helpers.processes import family, irisgate, served
from tests.helpers.waiting import eventually

pytestmark = pytest.mark.usefixtures("postgres")


@pytest.fixture
def serve(tmp_path, bedrock_sim, address):
    """Write the configuration of a gateway that stores its records in PostgreSQL, with one quota for all callers.
    Return the arguments of the command `serve`.
    """
    grants = [*EVERYTHING, {"src": ["*"], "app": {CAP: [{"quotas": [{"bucket": "all"}]}]}}]
    config = {
        "providers": {"b": bedrock(bedrock_sim.url)},
        "grants": grants,
        "quotas": {"all": {"capacity": "$1000.00", "rate": "$0.00/day"}},
        "storage": {"url": cluster().url(address)},
    }
    path = tmp_path / "config.hujson"
    path.write_text(json.dumps(config))
    return ("serve", "--config", str(path), "--listen", "127.0.0.1:0", "--state", str(tmp_path / "state"))


async def ready(gateway):
    async with gateway.session.get(f"{gateway.url}/readyz") as reply:
        return reply.status, await reply.json()


async def is_store(gateway, state):
    status, checks = await ready(gateway)
    return status == 200 and checks["store"] == state


async def require_all(gateway, whole):
    """Check that each complete reply has its call in the store, and that no call is stored twice.

    Check also that the usage report and the balance agree with the stored calls. `whole` are the ids of the calls with
    a complete reply.
    """
    calls = await gateway.stored(len(whole))
    known = [call["id"] for call in calls]
    assert len(known) == len(set(known))
    assert set(whole) <= set(known)
    async with gateway.session.get(f"{gateway.url}/api/usage") as reply:
        (usage,) = (await reply.json())["usage"]
    assert usage["calls"] == len(known)
    async with gateway.session.get(f"{gateway.url}/api/quotas") as reply:
        (bucket,) = (await reply.json())["quotas"]
    charged = sum(Decimal(str(call["charges_usd"].get("all", 0))) for call in calls)
    assert charged > 0
    assert Decimal(str(bucket["balance_usd"])) == 1000 - charged


async def test_calls_go_on_while_the_server_is_away_and_are_stored_after(tmp_path, serve):
    """Check that no call fails while PostgreSQL is stopped under load, that /readyz reports the stopped database, and
    that nothing is lost.
    """
    whole = []
    async with served(tmp_path, *serve) as gateway:
        loading = asyncio.create_task(load(gateway.url, whole))
        await eventually(lambda: len(whole) >= 20)
        assert (await ready(gateway))[1]["store"] == "working"
        await asyncio.to_thread(cluster().stop)
        try:
            before = len(whole)
            await eventually(lambda: is_store(gateway, "failing"))
            await eventually(lambda: len(whole) >= before + 50)
            async with gateway.session.get(f"{gateway.url}/api/calls") as reply:
                assert reply.status == 503
                text = await reply.text()
            assert "postgresql" not in text
            async with gateway.session.get(f"{gateway.url}/ui/") as reply:
                assert (reply.status, "The records cannot be read now" in await reply.text()) == (503, True)
        finally:
            await asyncio.to_thread(cluster().start)
        await eventually(lambda: is_store(gateway, "working"))
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        await require_all(gateway, whole)
        events = [json.loads(line)["event"] for line in gateway.lines if line.startswith("{")]
        assert events.count("store.write_failed") == events.count("store.recovered") == 1


async def test_a_server_without_calls_is_missed_too(tmp_path, serve):
    async with served(tmp_path, *serve) as gateway:
        assert await is_store(gateway, "working")
        await asyncio.to_thread(cluster().stop)
        try:
            await eventually(lambda: is_store(gateway, "failing"))
        finally:
            await asyncio.to_thread(cluster().start)
        await eventually(lambda: is_store(gateway, "working"))


async def test_a_gateway_and_a_server_that_are_killed_lose_no_finished_call(tmp_path, serve):
    """Check that each finished call is stored and charged once, whether the gateway or the database server is killed in
    the middle of a batch.
    """
    whole = []
    for kill in ("gateway", "server", "both"):
        async with served(tmp_path, *serve) as gateway:
            loading = asyncio.create_task(load(gateway.url, whole))
            enough = len(whole) + 30
            await eventually(lambda enough=enough: len(whole) >= enough)
            if kill != "gateway":
                await asyncio.to_thread(cluster().stop, "immediate")
            if kill != "server":
                gateway.process.kill()
                await loading
            if kill != "gateway":
                await asyncio.to_thread(cluster().start)
            if kill == "server":
                await eventually(lambda: is_store(gateway, "working"))
                loading.cancel()
                await asyncio.gather(loading, return_exceptions=True)
                await gateway.end()
    async with served(tmp_path, *serve) as gateway:
        await require_all(gateway, whole)


async def test_a_replaced_gateway_hands_its_store_over(tmp_path, serve):
    async with family(tmp_path, *serve) as gateway:
        for _ in range(2):
            assert (await gateway.chat())[0] == (await gateway.chat(stream=True))[0] == 200
            await gateway.restart()
        assert (await gateway.chat())[0] == 200
        calls = await gateway.stored(5)
        await require_all(gateway, [call["id"] for call in calls])
    assert len(calls) == 5


async def test_another_gateway_does_not_start_on_the_same_database(tmp_path, serve):
    async with served(tmp_path, *serve):
        other = (*serve[:-1], str(tmp_path / "other"))
        status, _, err = await irisgate(tmp_path, *other)
    assert status != 0
    assert "another gateway uses this database: irisgate writer on" in err


async def test_a_start_without_the_server_says_why(tmp_path, serve):
    cluster().stop()
    try:
        status, out, err = await irisgate(tmp_path, *serve)
    finally:
        cluster().start()
    assert status != 0
    assert "cannot be connected to" in err
    assert "Traceback" not in out + err


async def test_the_password_is_on_no_page_and_in_no_log(tmp_path, serve, address):
    """Check that a password from the configuration works, and that no page and no log line shows it."""
    password = "correct-horse-battery"
    role = f"keeper_{address.database}"
    hba = cluster().data / "pg_hba.conf"
    before = hba.read_text()
    cluster().sql(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD '{password}'")
    hba.write_text(f"local all {role} scram-sha-256\n{before}")
    cluster().sql("SELECT pg_reload_conf()")
    path = tmp_path / "config.hujson"
    config = json.loads(path.read_text())
    config["storage"] = {"url": cluster().url(address).replace("irisgate@", f"{role}@"), "password": password}
    path.write_text(json.dumps(config))
    try:
        async with served(tmp_path, *serve) as gateway:
            assert (await gateway.chat(model=HAIKU))[0] == 200
            assert len(await gateway.stored(1)) == 1
            async with gateway.session.get(f"{gateway.url}/aperture/config") as reply:
                assert reply.status == 200
                shown = await reply.text()
            async with gateway.session.get(f"{gateway.url}/ui/config") as reply:
                shown += await reply.text()
            config["storage"]["password"] = "another-password"
            path.write_text(json.dumps(config))
            await gateway.line("storage.password")
        assert password not in shown + "".join(gateway.lines)
    finally:
        hba.write_text(before)
        cluster().sql("SELECT pg_reload_conf()")


async def test_the_same_database_answers_after_a_new_state_folder(tmp_path, serve):
    """Check that a gateway still has its calls and balances if it starts with a new state folder and the same database."""
    async with served(tmp_path, *serve) as gateway:
        for _ in range(3):
            assert (await gateway.chat())[0] == 200
        calls = await gateway.stored(3)
        await gateway.end()
    async with served(tmp_path, *serve[:-1], str(tmp_path / "new")) as gateway:
        assert (await gateway.chat())[0] == 200
        assert {call["id"] for call in calls} < {call["id"] for call in await gateway.stored(4)}
        await require_all(gateway, [call["id"] for call in calls])
        async with aiohttp.ClientSession() as session, session.get(f"{gateway.url}/readyz") as reply:
            assert reply.status == 200
