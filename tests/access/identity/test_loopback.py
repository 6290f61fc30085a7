"""Tests of a loopback listener, which must distinguish local callers from callers behind a proxy or tailscaled."""

import pytest

from gateway.access.identity.caller import Caller
from gateway.access.identity.lookups import Lookups
from gateway.access.identity.loopback import Loopback
from gateway.contract.errors import Refused
from gateway.testkit.localapi import LocalApiSim
from tests.helpers.identity import ALICE, Connection


def caller(*headers, peer=("127.0.0.1", 4711), connection=None):
    return Caller(connection or Connection(), peer, ("127.0.0.1", 8080), headers)


async def refusal(mode, who):
    with pytest.raises(Refused) as refused:
        await mode(who)
    return refused.value.problem.message


@pytest.fixture
def mode(lookups):
    return Loopback(lambda: [lookups])


@pytest.mark.parametrize(
    "header",
    [
        "Tailscale-User-Login", "Tailscale-Funnel-Request", "tailscale-headers-info", "X-Forwarded-For", "Forwarded",
        "x-forwarded-host", "X-Real-IP", "CF-Connecting-IP", "X-Forwarded-Proto",
    ],
)  # fmt: skip
async def test_what_a_proxy_forwarded_is_refused(mode, header):
    message = await refusal(mode, caller((header, "x")))
    assert f'"{header}"' in message
    assert '"serve-headers"' in message


@pytest.mark.parametrize("peer", [("127.0.0.1", 4711), ("::1", 4711, 0, 0), ""])
async def test_without_tailscaled_every_caller_is_of_this_machine(mode, peer):
    assert (await mode(caller(peer=peer))).login == "(loopback)"


async def test_a_killed_tailscaled_forwards_nothing(mode, sim):
    await sim.stop()
    assert sim.path.is_socket()
    assert (await mode(caller())).login == "(loopback)"


async def test_a_node_of_the_tailnet_is_refused_without_a_network_device(mode, sim):
    sim.proxied(4711, ALICE)
    connection = Connection()
    message = await refusal(mode, caller(connection=connection))
    assert "from the tailnet" in message
    assert '"identity": "whois"' in message
    assert await refusal(mode, caller(connection=connection)) == message
    assert (await mode(caller(peer=("127.0.0.1", 4712)))).login == "(loopback)"


async def test_a_late_registration_is_waited_for(mode, sim):
    sim.late_seconds = 0.05
    sim.proxied(4711, ALICE)
    assert "from the tailnet" in await refusal(mode, caller())


async def test_a_connection_of_this_machine_is_asked_for_once(mode, sim):
    connection = Connection()
    for _ in range(3):
        assert (await mode(caller(connection=connection))).login == "(loopback)"
    assert len(sim.asked) == 1


async def test_with_a_network_device_nothing_is_asked(mode, sim):
    sim.tun = True
    assert (await mode(caller())).login == "(loopback)"
    assert sim.asked == []


async def test_a_tailscaled_that_starts_later_counts_at_once(mode, tmp_path):
    assert (await mode(caller())).login == "(loopback)"
    async with LocalApiSim(tmp_path / "tailscaled.sock") as sim:
        sim.add(ALICE)
        sim.proxied(4711, ALICE)
        assert "from the tailnet" in await refusal(mode, caller())
        sim.tun = True
        await sim.stop()
        await sim.start()
        assert (await mode(caller())).login == "(loopback)"


async def test_where_tailscaled_does_not_say_the_caller_is_refused(mode, sim):
    sim.answer = (500, b"boom")
    assert "it answered whois with 500" in await refusal(mode, caller())


async def test_a_socket_that_cannot_be_examined_refuses(tmp_path):
    path = tmp_path / "tailscaled.sock"
    path.symlink_to(path)
    mode = Loopback(lambda: [Lookups(str(path))])
    assert "cannot be examined: Too many levels of symbolic links" in await refusal(mode, caller())
