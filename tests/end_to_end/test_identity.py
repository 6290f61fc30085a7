"""Tests of callers' identities over real connections: every mode, several modes at once, and a missing tailscaled."""

import asyncio
import json
import os
import struct
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from gateway.access.identity import localapi, proxy_protocol, whois
from gateway.testkit.localapi import LocalApiSim
from gateway.testkit.tailnet_nodes import ME, Node, User
from tests.helpers.gateway import CAP, HAIKU, NOVA, bedrock, gate
from tests.helpers.raw_http import Raw
from tests.helpers.waiting import eventually

ALICE = Node("laptop.example.ts.net", ("100.64.0.7",), User("alice@example.com"))
BOB = Node("phone.example.ts.net", ("100.64.0.8",), User("bob@example.com"))
ROBOT = Node("ci.example.ts.net", ("100.64.0.9",), tags=("tag:ci",))
GRANTS = [
    {"src": ["*"], "app": {CAP: [{"role": "user"}]}},
    {"src": ["alice@example.com"], "app": {CAP: [{"models": f"b/{HAIKU}"}]}},
    {"src": ["bob@example.com"], "app": {CAP: [{"models": f"b/{NOVA}"}]}},
]
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def chat(model):
    return {"model": model, "messages": [{"role": "user", "content": "hello"}]}


def version_1(address, port=4711):
    return f"PROXY TCP4 {address} 127.0.0.1 {port} 80\r\n".encode()


def version_2(address, port=4711):
    ends = struct.pack("!4s4sHH", bytes(map(int, address.split("."))), bytes([127, 0, 0, 1]), port, 80)
    return SIGNATURE + struct.pack("!BBH", 0x21, 0x11, len(ends)) + ends


@pytest.fixture
async def sim(tmp_path):
    async with LocalApiSim(tmp_path / "tailscaled.sock") as running:
        for node in (ALICE, BOB, ROBOT):
            running.add(node)
        yield running


@asynccontextmanager
async def gated(state, sim, upstream, *modes, **options):
    listeners = [
        {"listen": f"127.0.0.{number}:0", "identity": mode, "tailscaled": str(sim.path)}
        for number, mode in enumerate(modes, 1)
    ]
    provider = bedrock(upstream.url, models=(HAIKU, NOVA))
    async with gate(state, {"b": provider}, grants=GRANTS, server={"listeners": listeners}, **options) as running:
        yield running


@pytest.fixture
async def asking(tmp_path, sim, bedrock_sim):
    """Yield a gateway with two listeners that ask tailscaled who the caller is.

    The first listener asks about the address of the connection, and the second about the address in the PROXY header.
    """
    async with gated(tmp_path, sim, bedrock_sim, "whois", "proxy-protocol") as running:
        yield running


async def connected(running, sim=None, node=None, *, at=0, **options):
    """Return a connection to the listener number `at`. If `sim` is given, tailscaled says that the connection comes
    from `node`.
    """
    place = urlsplit(running.running.urls[at])
    raw = await Raw.open(place.hostname, place.port, **options)
    if sim is not None:
        sim.proxied(raw.port, node)
    return raw


async def login(raw, **options):
    status, _, body = await raw.ask("/api/whoami", **options)
    return json.loads(body)["login"] if status == 200 else status


async def test_a_caller_is_who_tailscaled_says_with_those_grants(asking, sim):
    """Check that a caller is the person that tailscaled names, and may use this person's models."""
    alice, bob = await connected(asking, sim, ALICE), await connected(asking, sim, BOB)
    assert [(await raw.ask("/v1/chat/completions", chat(HAIKU)))[0] for raw in (alice, bob)] == [200, 404]
    assert [(await raw.ask("/v1/chat/completions", chat(NOVA)))[0] for raw in (alice, bob)] == [404, 200]
    recorded = [call["identity"] for call in await asking.calls(4)]
    assert recorded == ["alice@example.com", "bob@example.com"] * 2


async def test_a_process_of_this_machine_is_nobody_where_tailscaled_is_asked(asking):
    raw = await connected(asking)
    status, _, body = await raw.ask("/v1/chat/completions", chat(HAIKU))
    assert (status, b"nobody's on the tailnet" in body) == (403, True)


@pytest.mark.parametrize("header", [version_1, version_2])
async def test_a_proxys_word_is_taken_for_where_a_connection_comes_from(asking, header):
    raw = await connected(asking, at=1, first=header("100.64.0.7"))
    assert await login(raw) == "alice@example.com"
    assert await login(raw) == "alice@example.com"


async def test_a_header_and_a_request_may_come_in_one_piece_or_byte_by_byte(asking):
    request = b"GET /api/whoami HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    for pieces in ([version_2("100.64.0.8") + request], [bytes([byte]) for byte in version_1("100.64.0.8") + request]):
        raw = await connected(asking, at=1)
        for piece in pieces:
            raw.writer.write(piece)
            await asyncio.sleep(0)
        assert json.loads((await raw.reply())[2])["login"] == "bob@example.com"


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", b"PROXY nonsense\r\n", SIGNATURE + b"\xff\xff\xff\xff"])
async def test_a_connection_without_a_proxys_header_is_broken_off(asking, first):
    assert await (await connected(asking, at=1, first=first)).ended()


async def test_a_proxy_that_says_nothing_is_not_waited_for_for_ever(asking, monkeypatch):
    monkeypatch.setattr(proxy_protocol, "HEADER_SECONDS", 0.1)
    assert await (await connected(asking, at=1)).ended()


async def test_a_proxy_that_speaks_for_itself_is_nobody(asking):
    raw = await connected(asking, at=1, first=b"PROXY UNKNOWN\r\n")
    assert await login(raw) == 403
    assert (await raw.ask("/healthz"))[0] == 200


async def test_a_header_on_a_listener_that_has_no_proxy_is_a_bad_request(asking):
    raw = await connected(asking, at=0, first=version_1("100.64.0.7"))
    raw.writer.write(b"GET /api/whoami HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert (await raw.reply())[0] == 400


async def test_where_proxies_are_named_this_machine_speaks_for_nobody(tmp_path, sim, bedrock_sim):
    listener = {"listen": "127.0.0.1:0", "identity": "proxy-protocol", "tailscaled": str(sim.path)}
    server = {"listeners": [{**listener, "proxies": ["10.0.0.7"]}, {**listener, "listen": "127.0.0.2:0"}]}
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, grants=GRANTS, server=server) as running:
        assert await (await connected(running, at=0, first=version_2("100.64.0.7"))).ended()
        assert await login(await connected(running, at=1, first=version_2("100.64.0.7"))) == "alice@example.com"


async def test_every_listener_has_its_own_mode(tmp_path, sim, bedrock_sim):
    path = tmp_path / "serve.sock"
    server = {
        "listeners": [
            {"listen": "127.0.0.1:0"},
            {"listen": f"unix:{path}", "identity": "serve-headers"},
            {"listen": f"unix:{tmp_path}/static.sock", "identity": "static", "login": "robot"},
            {"listen": "[::1]:0", "identity": "whois", "tailscaled": str(sim.path)},
        ]
    }
    headers = [("Tailscale-User-Login", "alice@example.com")]
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, grants=GRANTS, server=server) as running:
        loopback, serve = await connected(running), await Raw.unix(path)
        static = await Raw.unix(tmp_path / "static.sock")
        place = urlsplit(running.running.urls[3])
        asked = await Raw.open(place.hostname, place.port)
        callers = [await login(raw, headers=headers) for raw in (loopback, serve, static, asked)]
        assert callers == [403, "alice@example.com", "robot", 403]
        assert [await login(raw) for raw in (loopback, serve)] == ["(loopback)", 403]


async def test_an_absent_tailscaled_gives_temporary_refusals(asking, sim):
    """Check that callers get a temporary refusal while tailscaled is not running, and are served again afterwards."""
    raw = await connected(asking, sim, ALICE)
    await sim.stop()
    for path, body, error in (
        ("/v1/chat/completions", chat(HAIKU), ("error", "message")),
        ("/v1/messages", chat(HAIKU), ("error", "message")),
        (f"/bedrock/model/{HAIKU}/converse", {"messages": []}, ("message",)),
        ("/v1/models", None, ("error",)),
        ("/ui/", None, ()),
    ):
        status, headers, data = await raw.ask(path, body)
        assert (status, headers["retry-after"]) == (503, "2"), path
        answer = json.loads(data)
        for step in error:
            answer = answer[step]
        assert not error or "try again" in answer
    assert (await raw.ask("/healthz"))[0] == 200
    await sim.start()
    assert (await raw.ask("/v1/chat/completions", chat(HAIKU)))[0] == 200
    assert {call["outcome"] for call in (await asking.calls(4))[:3]} == {"refused"}


async def test_a_slow_tailscaled_holds_up_nobody_else(asking, sim, monkeypatch):
    """Check that other callers are not delayed by a tailscaled that takes five seconds to answer."""
    monkeypatch.setattr(localapi, "ANSWER_SECONDS", 0.3)
    known, late = await connected(asking, sim, ALICE), await connected(asking, sim, BOB)
    assert await login(known) == "alice@example.com"
    sim.delay = 5
    waiting = asyncio.create_task(login(late))
    for _ in range(5):
        assert await login(known) == "alice@example.com"
    assert not waiting.done()
    assert await waiting == 503
    sim.delay = 0
    assert await login(late) == "bob@example.com"


async def test_after_a_reconnect_a_port_is_its_new_callers(asking, sim):
    raw = await connected(asking, sim, ALICE)
    port = raw.port
    assert await login(raw) == "alice@example.com"
    await raw.close()
    again = await connected(asking, local=port)
    sim.proxied(port, BOB)
    assert await login(again) == "bob@example.com"


async def test_a_changed_identity_counts_after_the_cached_one_expires(asking, sim, monkeypatch):
    """Check that a changed identity on an open connection takes effect after the cached answer has expired."""
    now = 1000.0
    monkeypatch.setattr(whois, "monotonic", lambda: now)
    raw = await connected(asking, sim, ALICE)
    assert await login(raw) == "alice@example.com"
    sim.proxied(raw.port, ROBOT)
    now += whois.LIFE_SECONDS - 1
    assert await login(raw) == "alice@example.com"
    now += 1
    assert await login(raw) == "tag:ci"


async def test_policy_grants_count_beside_those_of_the_configuration(asking, sim):
    """Check that grants of the tailnet policy are added to the grants of the configuration."""
    caps = {CAP: [{"models": f"b/{NOVA}"}, {"read_metrics": True}]}
    sim.add(Node("laptop.example.ts.net", ("100.64.0.7",), User("alice@example.com"), caps=caps))
    raw = await connected(asking, at=1, first=version_2("100.64.0.7"))
    assert (await raw.ask("/v1/chat/completions", chat(NOVA)))[0] == 200
    assert (await raw.ask("/v1/chat/completions", chat(HAIKU)))[0] == 200
    assert (await raw.ask("/metrics"))[0] == 200


async def test_a_policy_alone_lets_a_caller_in(tmp_path, sim, bedrock_sim):
    sim.add(Node("pc.example.ts.net", ("100.64.0.10",), User("carol@example.com"), caps={CAP: [{"role": "admin"}]}))
    sim.add(Node("tv.example.ts.net", ("100.64.0.11",), User("dave@example.com"), caps={"other/cap": [{}]}))
    listeners = [{"listen": "127.0.0.1:0", "identity": "proxy-protocol", "tailscaled": str(sim.path)}]
    provider = {"b": bedrock(bedrock_sim.url)}
    async with gate(tmp_path, provider, grants=[], server={"listeners": listeners}) as running:
        carol = await connected(running, first=version_2("100.64.0.10"))
        dave = await connected(running, first=version_2("100.64.0.11"))
        assert [(await raw.ask("/v1/models"))[0] for raw in (carol, dave)] == [200, 403]


async def test_a_node_cannot_send_a_proxy_header_of_its_own(asking, sim):
    """Check that a PROXY header that a tailnet node sends is refused.

    Tailscaled forwards the node's connection from 127.0.0.1, where a real proxy may run too.
    """
    for header in (version_1("100.64.0.7"), version_2("100.64.0.7"), b"PROXY UNKNOWN\r\n"):
        raw = await connected(asking, sim, BOB, at=1, first=header)
        status, _, body = await raw.ask("/v1/chat/completions", chat(HAIKU))
        assert (status, b"only a proxy may send one" in body) == (403, True)
        assert await login(raw) == 403
    assert {call["identity"] for call in await asking.calls(3)} == {""}


async def test_with_a_network_device_a_proxy_is_not_asked_for(asking, sim):
    sim.tun = True
    raw = await connected(asking, at=1, first=version_2("100.64.0.7"))
    assert await login(raw) == "alice@example.com"
    assert not [query for query in sim.asked if query["addr"].startswith("127.")]


@asynccontextmanager
async def local(state, sim, upstream, *, grants=GRANTS, **more):
    """Yield a gateway with a loopback listener, and a listener that asks `sim` who is calling."""
    listeners = [
        {"listen": "127.0.0.1:0"},
        {"listen": "127.0.0.2:0", "identity": "whois", "tailscaled": str(sim.path)},
    ]
    provider = {"b": bedrock(upstream.url, models=(HAIKU, NOVA))}
    async with gate(state, provider, grants=grants, server={"listeners": listeners}, **more) as running:
        yield running


async def test_the_tailnet_is_not_this_machine_without_a_network_device(tmp_path, sim, bedrock_sim):
    """Check that a tailnet node is not treated as a local process, although its connection comes from 127.0.0.1. The
    node can neither make calls nor read metrics.

    Without a tailnet network device, tailscaled forwards each node's connection to 127.0.0.1.
    """
    metrics = {"metrics": {"listen": "127.0.0.1:0"}}
    async with local(tmp_path, sim, bedrock_sim, more=metrics) as running:
        raw = await connected(running, sim, ALICE)
        status, _, body = await raw.ask("/v1/chat/completions", chat(HAIKU))
        assert (status, b"from the tailnet" in body) == (403, True)
        assert await login(await connected(running)) == "(loopback)"
        place = urlsplit(running.running.metrics_url)
        for node, answer in ((ALICE, 403), (None, 200)):
            scraper = await Raw.open(place.hostname, place.port)
            if node is not None:
                sim.proxied(scraper.port, node)
            assert (await scraper.ask("/metrics"))[0] == answer
            assert (await scraper.ask("/healthz"))[0] == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Tailscale-User-Login", "Tailscale-Funnel-Request"])
async def test_tailscale_serve_in_front_of_a_loopback_listener_is_refused(tmp_path, sim, bedrock_sim, header):
    async with local(tmp_path, sim, bedrock_sim, more={"metrics": {"listen": "127.0.0.1:0"}}) as running:
        raw = await connected(running)
        status, _, body = await raw.ask("/v1/chat/completions", chat(HAIKU), headers=[(header, "x")])
        assert (status, b"serve-headers" in body) == (403, True)
        place = urlsplit(running.running.metrics_url)
        scraper = await Raw.open(place.hostname, place.port)
        assert (await scraper.ask("/metrics", headers=[(header, "x")]))[0] == 403


SERVE = [("X-Forwarded-For", "100.64.0.7"), ("Tailscale-User-Login", "alice@example.com")]
FUNNEL = [("X-Forwarded-For", "203.0.113.7"), ("Tailscale-Funnel-Request", "?1")]
HEADER = version_2("100.64.0.7")
GONE = "closed"
WAYS = {
    # the way: (node that tailscaled registers, first bytes, headers), then the login or status by mode
    "a process of this machine": ((None, b"", []), ("(loopback)", 403, GONE, "robot")),
    "a process that sends a header": ((None, HEADER, []), (400, 400, "alice@example.com", 400)),
    "a node without a device": ((BOB, b"", []), (403, "bob@example.com", GONE, "robot")),
    "a node that sends a header": ((BOB, HEADER, []), (400, 400, 403, 400)),
    "a node that pretends to be serve": ((BOB, b"", SERVE), (403, "bob@example.com", GONE, "robot")),
    "serve": ((None, b"", SERVE), (403, 403, GONE, "robot")),
    "serve --tcp": ((None, HEADER, []), (400, 400, "alice@example.com", 400)),
    "funnel": ((None, b"", FUNNEL), (403, 403, GONE, "robot")),
    "funnel --tcp": ((None, version_2("203.0.113.7"), []), (400, 400, 403, 400)),
}


@pytest.mark.parametrize("way", WAYS)
async def test_who_the_caller_is_by_the_way_and_the_mode(tmp_path, sim, bedrock_sim, way):
    """Check the caller's identity for each way to reach the gateway and each identity mode. The expected identities are
    those of a table in `deploy/README.md`.
    """
    (node, first, headers), expected = WAYS[way]
    modes = ({}, {"identity": "whois"}, {"identity": "proxy-protocol"}, {"identity": "static", "login": "robot"})
    listeners = [
        {"listen": f"127.0.0.{number}:0", **mode, **({"tailscaled": str(sim.path)} if number in {2, 3} else {})}
        for number, mode in enumerate(modes, 1)
    ]
    provider = {"b": bedrock(bedrock_sim.url)}
    async with gate(tmp_path, provider, grants=GRANTS, server={"listeners": listeners}) as running:
        for at, result in enumerate(expected):
            raw = await connected(running, at=at, first=first)
            if node is not None:
                sim.proxied(raw.port, node)
            try:
                assert await login(raw, headers=headers) == result, modes[at]
            except (asyncio.IncompleteReadError, ConnectionError):
                assert result == GONE, modes[at]


@pytest.mark.parametrize(("tun", "role", "warned"), [(True, "admin", 1), (True, "user", 0), (False, "admin", 0)])
async def test_a_machine_whose_owner_is_admin_is_warned_of(tmp_path, sim, bedrock_sim, tun, role, warned):
    """Check that the gateway warns if its machine has a tailnet network device and the machine's owner has the role
    admin. In other cases, it does not warn.

    With such a device, every process of the machine is treated as the owner.
    """
    sim.tun = tun
    grants = [{"src": [ME.user.login], "app": {CAP: [{"role": role}, {"models": "**"}]}}]
    async with local(tmp_path, sim, bedrock_sim, grants=grants) as running:
        await eventually(lambda: tun is False or len(sim.asked) == 1)
        await running.log_is_written()
        entries = running.lines.entries("identity.machine_is_admin")
        assert [entry["login"] for entry in entries] == [ME.user.login] * warned


async def test_the_origin_behind_tailscale_serve_is_the_forwarded_host(tmp_path, bedrock_sim):
    """Check that behind `tailscale serve`, the forwarded host name is an allowed `Origin`, and any other origin is
    refused.
    """
    path = tmp_path / "serve.sock"
    server = {"listeners": [{"listen": f"unix:{path}", "identity": "serve-headers"}]}
    served = [("Tailscale-User-Login", "alice@example.com"), ("X-Forwarded-Host", "ai.example.ts.net")]
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, grants=GRANTS, server=server):
        for origin, status in (
            ("https://ai.example.ts.net", 200),
            ("http://ai.example.ts.net", 200),
            ("https://ai.example.ts.net:8443", 403),
            ("https://evil.example", 403),
            ("https://localhost", 403),
            ("null", 403),
        ):
            raw = await Raw.unix(path)
            assert (await raw.ask("/api/whoami", host="localhost", headers=[*served, ("Origin", origin)]))[0] == status


async def test_a_forwarded_host_counts_behind_tailscale_serve_only(tmp_path, sim, bedrock_sim):
    async with local(tmp_path, sim, bedrock_sim) as running:
        raw = await connected(running, sim, ALICE, at=1)
        headers = [("X-Forwarded-Host", "evil.example"), ("Origin", "https://evil.example")]
        assert (await raw.ask("/api/whoami", headers=headers))[0] == 403


async def test_grants_of_a_long_policy_come_by_tailscale_serve(tmp_path, bedrock_sim):
    path = tmp_path / "serve.sock"
    server = {"listeners": [{"listen": f"unix:{path}", "identity": "serve-headers"}]}
    grants = json.dumps({CAP: [{"models": f"provider-{number}/**"} for number in range(3000)] + [{"role": "admin"}]})
    headers = [("Tailscale-User-Login", "alice@example.com"), ("Tailscale-App-Capabilities", grants)]
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, grants=[], server=server):
        raw = await Raw.unix(path)
        status, _, body = await raw.ask("/api/whoami", headers=headers)
        assert (status, json.loads(body)["role"], len(grants) > 64_000) == (200, "admin", True)


async def test_a_crowd_of_local_processes_does_not_lock_tailnet_callers_out(asking, sim):
    """Check that tailnet callers are served while 16 local processes continuously open connections.

    The local processes are refused: with 403, or with 503 if tailscaled is too slow. The tailnet callers come through
    tailscaled at the first listener, and through a proxy at the second one.
    """
    over = False
    refused = set()
    sim.late_seconds = 0.03

    async def loop():
        while not over:
            raw = await connected(asking)
            refused.add(await login(raw))
            await raw.close()
            Raw.opened.remove(raw)

    loops = [asyncio.create_task(loop()) for _ in range(16)]
    for node in (ALICE, BOB, ALICE):
        assert await login(await connected(asking, sim, node)) == node.user.login
        assert await login(await connected(asking, at=1, first=version_2(node.addresses[0]))) == node.user.login
    over = True
    await asyncio.gather(*loops)
    assert 403 in refused <= {403, 503}


CALLS = int(os.environ.get("IRISGATE_CALLS", "2400"))
"""Total number of requests of both callers."""
TOGETHER = 6
EACH = 50
"""Number of requests of one caller on one connection. Then the other caller connects from the same port."""


async def test_two_callers_that_share_an_address_are_never_mixed_up(asking, sim):
    """Check that two callers that both come from 127.0.0.1, as with userspace networking, are never confused.

    One request in ten is a model call that only one of the callers may make.
    """
    people = {"alice@example.com": (ALICE, HAIKU), "bob@example.com": (BOB, NOVA)}
    names = list(people)
    wrong = []

    async def take_turns(first):
        port = None
        for turn in range(CALLS // TOGETHER // EACH + 1):
            name = names[(first + turn) % 2]
            node, model = people[name]
            raw = await connected(asking, local=port)
            port = raw.port
            sim.proxied(port, node)
            for number in range(EACH):
                if number % 10:
                    user = await login(raw)
                else:
                    user = name if (await raw.ask("/v1/chat/completions", chat(model)))[0] == 200 else "nobody"
                if user != name:
                    wrong.append((turn, number, name, user))
            await raw.close()
            Raw.opened.remove(raw)

    await asyncio.gather(*(take_turns(number) for number in range(TOGETHER)))
    assert wrong == []
    recorded = {(call["identity"], call["model"]) for call in await asking.calls(CALLS // 10)}
    assert recorded == {(name, model) for name, (_, model) in people.items()}
