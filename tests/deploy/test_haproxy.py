"""Tests of the configuration of HAProxy. `end_to_end/test_cluster.py` runs HAProxy in front of three gateways, under
load.
"""

import io
import json

import aiohttp
import pytest

from gateway.testkit.localapi import LocalApiSim
from gateway.testkit.tailnet_nodes import Node, User
from tests.helpers.gateway import HAIKU, bedrock, gate
from tests.helpers.haproxy import haproxy

CALLERS = {"127.0.0.2": "alice@example.com", "127.0.0.3": "bob@example.com"}
JSON = {"Content-Type": "application/json"}
BUFFER = 1024 * 1024
"""The value of `tune.bufsize`."""


@pytest.fixture
async def url(tmp_path, bedrock_sim, unused_tcp_port_factory):
    """Return the URL of HAProxy in front of one gateway. The other gateways in its configuration are not running."""
    port, here, *away = (unused_tcp_port_factory() for _ in range(4))
    async with LocalApiSim(tmp_path / "tailscaled") as tailscaled:
        tailscaled.tun = True
        for address, login in CALLERS.items():
            tailscaled.add(Node(f"{login[:3]}.example.ts.net", (address,), User(login)))
        proxied = {"identity": "proxy-protocol", "proxies": ["127.0.0.1"], "tailscaled": str(tailscaled.path)}
        server = {"listeners": [{"listen": f"127.0.0.1:{here}", **proxied}], "hosts": ["ai"]}
        async with (
            gate(tmp_path / "state", {"b": bedrock(bedrock_sim.url)}, server=server),
            haproxy(tmp_path, port, [away[0], here, away[1]]) as front,
        ):
            yield front


def caller(address):
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=(address, 0)), headers={"Host": "ai"})


async def test_each_caller_is_known_by_its_own_address(url):
    async with caller("127.0.0.2") as alice, caller("127.0.0.3") as bob:
        for _ in range(3):
            for session, login in zip((alice, bob), CALLERS.values(), strict=True):
                async with session.get(f"{url}/api/whoami") as reply:
                    assert (reply.status, (await reply.json())["login"]) == (200, login)


@pytest.mark.parametrize("size", [100, BUFFER - 10_000, 3 * BUFFER])
async def test_bodies_of_all_sizes_reach_the_gateway_that_is_there(url, bedrock_sim, size):
    body = json.dumps({"model": HAIKU, "max_tokens": 10, "messages": [{"role": "user", "content": "x" * size}]})
    async with caller("127.0.0.2") as session:
        for _ in range(4):
            async with session.post(f"{url}/v1/messages", data=io.BytesIO(body.encode()), headers=JSON) as reply:
                assert reply.status == 200, await reply.text()
    assert [len(seen.json["messages"][0]["content"]) for seen in bedrock_sim.requests] == [size] * 4
