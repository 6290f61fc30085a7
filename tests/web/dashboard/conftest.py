"""Fixtures: a client for the pages and lists, and an empty store."""

import pytest

from tests.helpers.axe import violations  # noqa: F401 (a fixture)
from tests.helpers.records import Kept
from tests.web.admin.conftest import config_file, served  # noqa: F401 (fixtures of the configuration)
from tests.web.dashboard.application import application


@pytest.fixture
async def store(tmp_path):
    store = Kept(tmp_path / "irisgate.db")
    yield store
    await store.close()


@pytest.fixture
async def client(store, aiohttp_client):
    return await aiohttp_client(application(store))


@pytest.fixture
def get(client):
    """Get a path as a caller. Return the status and the body, decoded if it is JSON."""

    async def get(path, login="ada@example.com"):
        async with client.get(path, headers={"x-test-login": login}, allow_redirects=False) as response:
            is_json = response.content_type == "application/json"
            return response.status, await response.json() if is_json else await response.text()

    return get
