"""Tests of two gateways that share their configuration through one PostgreSQL database.

Each gateway is a process of its own.
"""

import asyncio
import json
import os
import signal
from contextlib import AsyncExitStack

import pytest

from tests.helpers.gateway import EVERYTHING, HAIKU, NOVA, bedrock
from tests.helpers.postgres import cluster
from tests.helpers.processes import irisgate, served
from tests.helpers.waiting import eventually

pytestmark = pytest.mark.usefixtures("postgres")


@pytest.fixture
def document(bedrock_sim, address):
    """Return a function that returns the text of a configuration. The function's arguments are the models of the
    provider.
    """

    def one(*models, **storage):
        return json.dumps({
            "providers": {"b": {**bedrock(bedrock_sim.url), "models": list(models)}},
            "grants": EVERYTHING,
            "storage": {"url": cluster().url(address), "shared": True, "share_config": True, **storage},
        })  # fmt: skip

    return one


@pytest.fixture
def command(tmp_path, document):
    """Return a function from a gateway's name to its command line. The function writes the gateway's configuration file
    if there is none.
    """

    def one(name, *models):
        path = tmp_path / f"{name}.hujson"
        if not path.exists():
            path.write_text(document(*models or [HAIKU]))
        return "serve", "--config", str(path), "--listen", "127.0.0.1:0", "--state", str(tmp_path / name)

    return one


async def models(gateway):
    async with gateway.session.get(f"{gateway.url}/v1/models") as reply:
        return {model["id"] for model in (await reply.json())["data"]}


async def has(gateway, *ids):
    return await models(gateway) == set(ids)


async def save(gateway, text):
    headers = {"If-Match": "*"}
    async with gateway.session.put(f"{gateway.url}/aperture/config", json={"config": text}, headers=headers) as reply:
        return reply.status, await reply.text()


async def both(stack, tmp_path, command):
    return [await stack.enter_async_context(served(tmp_path, *command(name))) for name in "ab"]


async def test_a_save_and_an_edit_reach_the_other_gateway(tmp_path, command, document):
    async with AsyncExitStack() as stack:
        a, b = await both(stack, tmp_path, command)
        assert (await save(a, document(HAIKU, NOVA)))[0] == 200
        await eventually(lambda: has(b, HAIKU, NOVA))
        assert json.loads((tmp_path / "b.hujson").read_text()) == json.loads(document(HAIKU, NOVA))
        (tmp_path / "b.hujson").write_text(document(NOVA))
        await eventually(lambda: has(a, NOVA))
        async with b.session.get(f"{b.url}/ui/config") as page:
            assert page.status == 200


async def test_of_many_saves_at_once_all_gateways_have_the_last_one(tmp_path, command, document, address):
    async with AsyncExitStack() as stack:
        a, b = await both(stack, tmp_path, command)
        texts = [document(HAIKU, f"model-{number}") for number in range(12)]
        outcomes = await asyncio.gather(*(save((a, b)[number % 2], text) for number, text in enumerate(texts)))
        assert {status for status, _ in outcomes} <= {200, 412}, outcomes
        saved = sum(status == 200 for status, _ in outcomes)
        assert saved
        await eventually(lambda: versions_are(address, 1 + saved))
        ((newest,),) = cluster().sql("SELECT text FROM configurations ORDER BY n DESC LIMIT 1", address.database)
        last = json.loads(newest)["providers"]["b"]["models"]
        for gateway in (a, b):
            await eventually(lambda gateway=gateway: has(gateway, *last))
        assert (tmp_path / "a.hujson").read_text() == (tmp_path / "b.hujson").read_text() == newest


async def versions_are(address, count):
    rows = await asyncio.to_thread(cluster().sql, "SELECT count(*) FROM configurations", address.database)
    return rows == [[str(count)]]


async def test_a_gateway_that_was_killed_has_what_it_missed_when_it_listens(tmp_path, command, document):
    async with served(tmp_path, *command("a")) as a:
        async with served(tmp_path, *command("b")) as b:
            os.kill(b.process.pid, signal.SIGKILL)
            await b.process.wait()
        assert (await save(a, document(NOVA)))[0] == 200
        async with served(tmp_path, *command("b")) as b:
            assert await models(b) == {NOVA}


async def test_while_the_database_is_away_saves_are_refused_and_edits_wait(tmp_path, command, document, address):
    async with AsyncExitStack() as stack:
        a, b = await both(stack, tmp_path, command)
        await eventually(lambda: versions_are(address, 1))
        await asyncio.to_thread(cluster().stop, "immediate")
        try:
            status, text = await save(a, document(NOVA))
            assert status == 503, text
            assert "is kept in the database, which is away" in text
            assert await models(a) == {HAIKU}
            assert json.loads((tmp_path / "a.hujson").read_text()) == json.loads(document(HAIKU))
            (tmp_path / "a.hujson").write_text(document(NOVA))
            await eventually(lambda: has(a, NOVA))
        finally:
            await asyncio.to_thread(cluster().start)
        await eventually(lambda: has(b, NOVA))


async def test_the_setting_needs_a_shared_database(tmp_path, document):
    path = tmp_path / "config.hujson"
    path.write_text(document(HAIKU, shared=False))
    status, _, errors = await irisgate(tmp_path, "check", str(path))
    assert status == 2
    assert 'storage.share_config: is for gateways that share a database; set "shared" to true' in errors
