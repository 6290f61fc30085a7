"""Fixtures that run a test of the store's protocol twice: with SQLite and with PostgreSQL."""

import pytest

from tests.helpers.postgres import kept_in_postgres
from tests.helpers.records import Kept


@pytest.fixture(params=["sqlite", "postgres"])
async def opened(request, tmp_path):
    """Return a function that opens the store. If the store is open already, the function closes it and opens it again."""
    opening = kept_in_postgres() if request.param == "postgres" else lambda: Kept(tmp_path / "irisgate.db")
    open_stores = []

    async def again():
        while open_stores:
            await open_stores.pop().close()
        open_stores.append(opening())
        return open_stores[0]

    yield again
    for store in open_stores:
        await store.close()
