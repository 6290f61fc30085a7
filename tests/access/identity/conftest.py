"""Fixtures: a simulated tailscaled that knows Alice, and the gateway's client that asks this tailscaled."""

import pytest

from gateway.access.identity.lookups import Lookups
from gateway.testkit.localapi import LocalApiSim
from tests.helpers.identity import ALICE


@pytest.fixture
async def sim(tmp_path):
    async with LocalApiSim(tmp_path / "tailscaled.sock") as running:
        running.add(ALICE)
        yield running


@pytest.fixture
async def lookups(tmp_path):
    made = Lookups(str(tmp_path / "tailscaled.sock"))
    yield made
    await made.close()
