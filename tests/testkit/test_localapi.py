"""Tests that the simulated tailscaled answers and refuses requests as the real one does, over a socket."""

import asyncio
import json
import time

import aiohttp
import pytest

from gateway.testkit.localapi import LATE_SECONDS, LocalApiSim
from gateway.testkit.tailnet_nodes import ME, Node, User
from tests.helpers.waiting import eventually

ALICE = User("alice@example.com", groups=("group:ml",), display_name="Alice")
CAP = "tailscale.com/cap/aperture"
LAPTOP = Node("laptop.example.ts.net", ("100.64.0.7", "fd7a:115c:a1e0::7"), ALICE, stable_id="nLaptop")
BUILDER = Node("builder.example.ts.net", ("100.64.0.8",), tags=("tag:ci", "tag:prod"))
GRANTED = Node(
    "granted.example.ts.net", ("100.64.0.9",), User("bob@example.com"),
    caps={CAP: [{"role": "user"}]}, service_caps={"svc:ai": {CAP: [{"role": "admin"}]}},
)  # fmt: skip
WHOIS = "/localapi/v0/whois"


@pytest.fixture
async def sim(tmp_path):
    async with LocalApiSim(tmp_path / "tailscaled.sock") as simulated:
        for node in (LAPTOP, BUILDER, GRANTED):
            simulated.add(node)
        yield simulated


@pytest.fixture
async def session(sim):
    connector = aiohttp.UnixConnector(str(sim.path))
    async with aiohttp.ClientSession("http://local-tailscaled.sock", connector=connector) as made:
        yield made


async def answer_to(session, path=WHOIS, *, method="GET", headers=None, **query):
    async with session.request(method, path, params=query, headers=headers) as reply:
        return reply.status, await reply.text()


async def whois(session, **query):
    status, text = await answer_to(session, **query)
    assert status == 200, text
    return json.loads(text)


async def test_a_node_is_told_with_its_user_in_the_shape_of_tailscaled(session):
    reply = await whois(session, addr="100.64.0.7:4711", proto="tcp")
    assert set(reply) == {"Node", "UserProfile", "CapMap"}
    node, profile = reply["Node"], reply["UserProfile"]
    assert (node["StableID"], node["Name"], node["ComputedName"]) == ("nLaptop", "laptop.example.ts.net.", "laptop")
    assert node["Addresses"] == ["100.64.0.7/32", "fd7a:115c:a1e0::7/128"]
    assert (node["Online"], node["Hostinfo"]["Hostname"], "Tags" in node) == (True, "laptop", False)
    assert node["User"] == profile["ID"] > 0
    assert (profile["LoginName"], profile["DisplayName"]) == ("alice@example.com", "Alice")
    assert (profile["Groups"], "ProfilePicURL" in profile) == (["group:ml"], True)
    assert reply["CapMap"] is None, "Go's map that was never made"


@pytest.mark.parametrize(
    "address", ["100.64.0.7", "100.64.0.7:0", "100.64.0.7:65535", "fd7a:115c:a1e0::7", "[fd7a:115c:a1e0::7]:80", LAPTOP.key]
)  # fmt: skip
async def test_a_node_is_found_by_each_address_with_any_port_and_by_its_key(session, address):
    assert (await whois(session, addr=address))["Node"]["StableID"] == "nLaptop"


async def test_a_tagged_node_has_its_tags_and_the_shared_user(session):
    """Check that whois returns the tags of a tagged node, and the user `tagged-devices` that all tagged nodes share."""
    reply = await whois(session, addr="100.64.0.8:1")
    assert reply["Node"]["Tags"] == ["tag:ci", "tag:prod"]
    assert reply["UserProfile"]["LoginName"] == "tagged-devices"
    assert "Groups" not in reply["UserProfile"]


async def test_a_tagged_node_may_be_told_with_the_user_who_made_it(sim, session):
    sim.add(Node("made.example.ts.net", ("100.64.0.10",), ALICE, tags=("tag:ci",)))
    reply = await whois(session, addr="100.64.0.10:1")
    assert (reply["Node"]["Tags"], reply["UserProfile"]["LoginName"]) == (["tag:ci"], "alice@example.com")


def test_a_node_of_nobody_cannot_be_made():
    with pytest.raises(ValueError, match="nobodys: a node has a user or tags"):
        Node("nobodys", ("100.64.0.11",))


async def test_capabilities_are_those_on_the_destination_that_was_asked_for(sim, session):
    sim.services["svc:ai"] = "100.100.0.1"
    own, service = {CAP: [{"role": "user"}]}, {CAP: [{"role": "admin"}]}
    address = "100.64.0.9:1"
    for query, caps in (
        ({}, own),
        ({"dst_ip": ME.addresses[0]}, own),
        ({"svc_name": "svc:ai"}, service),
        ({"dst_ip": "100.100.0.1"}, service),
        ({"svc_name": "svc:ai", "dst_ip": ME.addresses[0]}, service),
        ({"svc_name": "svc:other"}, None),
        ({"dst_ip": "100.100.0.2"}, None),
    ):
        assert (await whois(session, addr=address, **query))["CapMap"] == caps, query


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ({}, 400, "missing 'addr' parameter"),
        ({"addr": ""}, 400, "missing 'addr' parameter"),
        ({"addr": "laptop"}, 400, "invalid 'addr' parameter"),
        ({"addr": "laptop:80"}, 400, "invalid 'addr' parameter"),
        ({"addr": "100.64.0.7:65536"}, 400, "invalid 'addr' parameter"),
        ({"addr": "100.64.0.7:+1"}, 400, "invalid 'addr' parameter"),
        ({"addr": "[100.64.0.7]:1"}, 400, "invalid 'addr' parameter"),
        ({"addr": "nodekey:abc"}, 400, "invalid nodekey in 'addr' parameter"),
        ({"addr": "100.64.0.9", "svc_name": "ai"}, 400, "invalid svc_name"),
        ({"addr": "100.64.0.9", "dst_ip": "ai"}, 400, "invalid dst_ip"),
        ({"addr": "100.64.0.99:1"}, 404, "no match for IP:port"),
        ({"addr": "::ffff:100.64.0.7"}, 404, "no match for IP:port"),
        ({"addr": "127.0.0.1"}, 404, "no match for IP:port"),
        ({"addr": "127.0.0.1:80"}, 404, "no match for IP:port"),
        ({"addr": f"nodekey:{64 * 'a'}"}, 404, "no match for IP:port"),
    ],
)
async def test_what_whois_cannot_answer_is_said_as_plain_text(session, query, status, text):
    assert await answer_to(session, **query) == (status, f"{text}\n")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "localhost"},
        {"Host": "local-tailscaled.sock:80"},
        {"Host": "evil.example"},
        {"Origin": "http://local-tailscaled.sock"},
        {"Referer": "http://local-tailscaled.sock/"},
    ],
)
@pytest.mark.parametrize("path", [WHOIS, "/localapi/v0/status", "/nothing"])
async def test_what_a_web_page_could_have_sent_is_refused(sim, session, path, headers):
    assert await answer_to(session, path, headers=headers, addr="100.64.0.7") == (403, "invalid localapi request\n")
    assert sim.asked == []


async def test_a_request_without_a_host_is_taken(sim):
    reader, writer = await asyncio.open_unix_connection(str(sim.path))
    writer.write(f"GET {WHOIS}?addr=100.64.0.7 HTTP/1.0\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 200 " in head.partition(b"\r\n")[0]
    writer.close()
    await writer.wait_closed()


async def test_an_unknown_path_is_not_found_and_every_method_is_taken(session):
    assert await answer_to(session, "/localapi/v0/nothing") == (404, "404 page not found\n")
    assert await answer_to(session, "/whois") == (404, "404 page not found\n")
    assert (await answer_to(session, method="POST", addr="100.64.0.7"))[0] == 200
    assert (await answer_to(session, method="HEAD", addr="100.64.0.7"))[0] == 200
    assert (await answer_to(session, "/localapi/v0/status", method="PUT"))[0] == 200
    assert (await answer_to(session, "/"))[1].startswith("<html>")


async def test_an_unknown_address_with_a_port_is_waited_for_under_one_lock(session):
    """Check that whois queries for an unknown address with a port are answered late, and one after the other.

    tailscaled waits, because the connection may be registered a moment later. For a query without a protocol, it waits
    twice.
    """

    async def seconds(*queries):
        began = time.monotonic()
        await asyncio.gather(*(answer_to(session, **query) for query in queries))
        return time.monotonic() - began

    unknown = {"addr": "127.0.0.1:9"}
    assert await seconds({**unknown, "proto": "tcp"}) >= LATE_SECONDS
    assert await seconds(unknown) >= 2 * LATE_SECONDS
    assert await seconds(*[{**unknown, "proto": "tcp"}] * 3) >= 3 * LATE_SECONDS


async def test_a_late_registration_is_found(sim, session):
    asyncio.get_running_loop().call_later(LATE_SECONDS / 2, sim.proxied, 4711, LAPTOP)
    assert (await whois(session, addr="127.0.0.1:4711", proto="tcp"))["Node"]["StableID"] == "nLaptop"


async def test_a_node_is_told_with_the_members_of_a_real_one(session):
    node = (await whois(session, addr="100.64.0.7"))["Node"]
    assert (node["Cap"], len(node["Endpoints"]), node["KeyExpiry"] > "2026") == (140, 1, True)
    async with session.get(WHOIS, params={"addr": "100.64.0.7"}) as reply:
        assert reply.headers["X-Frame-Options"] == "DENY"
        assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'; frame-ancestors 'none'; ")


async def test_a_long_reply_comes_in_chunks(sim, session):
    sim.add(
        Node("many.example.ts.net", ("100.64.0.20",), ALICE, caps={CAP: [{"models": f"p{n}/**"} for n in range(200)]})
    )
    async with session.get(WHOIS, params={"addr": "100.64.0.20"}) as reply:
        assert reply.headers["Transfer-Encoding"] == "chunked"
        assert len((await reply.json())["CapMap"][CAP]) == 200


async def test_replies_carry_the_version_and_a_refused_request_learns_nothing(session):
    for path, headers, answers in ((WHOIS, {}, True), ("/nothing", {}, True), (WHOIS, {"Origin": "http://x"}, False)):
        async with session.get(path, headers=headers) as reply:
            assert ("Tailscale-Version" in reply.headers, "Tailscale-Cap" in reply.headers) == (answers, answers)
            assert reply.headers["Content-Type"].startswith("text/plain")


async def test_status_tells_of_this_node_and_its_peers(session):
    status = json.loads((await answer_to(session, "/localapi/v0/status"))[1])
    assert (status["BackendState"], status["MagicDNSSuffix"]) == ("Running", "example.ts.net")
    assert status["Self"]["DNSName"] == "gateway.example.ts.net."
    assert status["Self"]["TailscaleIPs"] == status["TailscaleIPs"] == list(ME.addresses)
    assert status["Peer"][BUILDER.key]["Tags"] == ["tag:ci", "tag:prod"]
    assert {user["LoginName"] for user in status["User"].values()} > {"alice@example.com", "tagged-devices"}
    alone = json.loads((await answer_to(session, "/localapi/v0/status", peers="false"))[1])
    assert alone["Peer"] is None


async def test_a_port_of_this_machine_is_somebodys_only_while_it_is_registered(sim, session):
    sim.proxied(4711, LAPTOP)
    assert (await whois(session, addr="127.0.0.1:4711", proto="tcp"))["Node"]["StableID"] == "nLaptop"
    for query in ({"addr": "127.0.0.1:4712"}, {"addr": "127.0.0.1:4711", "proto": "udp"}, {"addr": "127.0.0.2:4711"}):
        assert (await answer_to(session, **query))[0] == 404, query
    sim.proxied(4711, BUILDER)
    assert (await whois(session, addr="127.0.0.1:4711"))["Node"]["Name"] == "builder.example.ts.net."
    sim.unproxied(4711)
    assert (await answer_to(session, addr="127.0.0.1:4711"))[0] == 404


async def test_a_node_that_left_is_nobody_and_one_that_changed_is_new(sim, session):
    sim.proxied(4711, LAPTOP)
    sim.remove(LAPTOP)
    for address in (*LAPTOP.addresses, LAPTOP.key, "127.0.0.1:4711"):
        assert (await answer_to(session, addr=address))[0] == 404, address
    sim.add(Node("laptop.example.ts.net", ("100.64.0.17",), ALICE, stable_id="nLaptop"))
    sim.add(Node("laptop.example.ts.net", ("100.64.0.7",), User("eve@example.com"), stable_id="nLaptop"))
    assert (await whois(session, addr="100.64.0.7"))["UserProfile"]["LoginName"] == "eve@example.com"
    assert (await answer_to(session, addr="100.64.0.17"))[0] == 404


@pytest.mark.parametrize(
    "answer", [(200, b"\x00\xff"), (200, b"<html>"), (500, b"boom"), (200, b'{"Node": {'), (200, b"{}"), (200, b" " * 8_000_000)]
)  # fmt: skip
async def test_it_answers_wrongly_as_it_is_told_and_counts_the_question(sim, session, answer):
    sim.answer = answer
    async with session.get(WHOIS, params={"addr": "100.64.0.7"}) as reply:
        assert (reply.status, await reply.read()) == answer
    assert sim.asked == [{"addr": "100.64.0.7"}]
    sim.answer = None
    await whois(session, addr="100.64.0.7")


async def test_it_is_slow_when_told_so(sim, session):
    sim.delay = 0.05
    began = time.monotonic()
    await whois(session, addr="100.64.0.7")
    assert time.monotonic() - began >= 0.05


async def test_a_dead_one_leaves_its_socket_behind_and_a_new_one_takes_its_place(sim, session):
    await whois(session, addr="100.64.0.7")
    await sim.stop()
    assert sim.path.is_socket()
    with pytest.raises(aiohttp.ClientConnectionError):
        await answer_to(session, addr="100.64.0.7")
    await sim.start()
    assert (await whois(session, addr="100.64.0.7"))["Node"]["StableID"] == "nLaptop"


async def test_a_question_in_flight_breaks_when_it_dies(sim, session):
    sim.late_seconds = 60
    question = asyncio.create_task(answer_to(session, addr="127.0.0.1:9", proto="tcp"))
    await eventually(lambda: sim.asked)
    await sim.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await asyncio.wait_for(question, 30)


async def test_thousands_of_questions_at_once_are_answered_each(sim, session):
    for port in range(1, 1001):
        sim.proxied(port, LAPTOP if port % 2 else BUILDER)
    replies = await asyncio.gather(*(whois(session, addr=f"127.0.0.1:{port}") for port in range(1, 1001)))
    names = [reply["Node"]["ComputedName"] for reply in replies]
    assert names == ["laptop", "builder"] * 500
    assert len(sim.asked) == 1000
