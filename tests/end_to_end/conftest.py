"""What a test has opened by hand is closed after it."""

import pytest

from tests.helpers.raw_http import Raw


@pytest.fixture(autouse=True)
async def raw_connections():
    yield
    await Raw.close_all()
