"""Tests of headers with a false identity. They have no effect in any mode, and are never sent to a provider."""

import itertools
import json
from contextlib import asynccontextmanager

import pytest

from gateway.access.identity.loopback import forwarding_header
from gateway.testkit.localapi import LocalApiSim
from gateway.testkit.tailnet_nodes import Node, User
from tests.helpers.gateway import CAP, HAIKU, NOVA, bedrock, gate
from tests.helpers.hostile_http import (
    CHAT,
    CONVERSE,
    CONVERSE_PATH,
    OUR_HEADERS,
    connected,
    post,
    request,
)
from tests.helpers.raw_http import Raw

ALICE = Node("laptop.example.ts.net", ("100.64.0.7",), User("alice@example.com"))
BOB = Node("phone.example.ts.net", ("100.64.0.8",), User("bob@example.com"))
GRANTS = [
    {"src": ["*"], "app": {CAP: [{"role": "user"}, {"models": "**"}]}},
    {"src": ["bob@example.com", "tag:admin"], "app": {CAP: [{"role": "admin"}]}},
]
ADMIN = f'{{"{CAP}":[{{"role":"admin"}}]}}'
LOGINS = [
    "Tailscale-User-Login: bob@example.com",
    "TAILSCALE-USER-LOGIN: bob@example.com",
    "tailscale-user-login:bob@example.com",
    "Tailscale_User_Login: bob@example.com",
    "Tailscale-User_Login: bob@example.com",
    "tailscale_User-login: bob@example.com",
    "Tailscale-User-Login: bob@example.com\r\nTailscale-User-Login: bob@example.com",
    "Tailscale-User-Login: =?utf-8?q?bob=40example.com?=",
    "Tailscale-User-Login: tag:admin",
    "Tailscale-App-Capabilities: " + ADMIN,
    "Tailscale_App_Capabilities: " + ADMIN,
]
"""Identity headers of `tailscale serve` with a false identity. Some software treats these spellings of the name as
equal.

An honest request has at most one header of each name."""
BROKEN = [
    "Tailscale-User-Login : bob@example.com",
    "Tailscale-User-Login\t: bob@example.com",
    "Tailscale-User-Login\x00: bob@example.com",
    "X-Harmless: yes\r\n Tailscale-User-Login: bob@example.com",
    "X-Harmless: yes\rTailscale-User-Login: bob@example.com",
    "X-Harmless: yes\nTailscale-User-Login: bob@example.com",
    "Tailscale-User-Login",
    ": bob@example.com",
    "Täilscale-User-Login: bob@example.com",
]
"""Lines that are not valid headers. The gateway answers 400 and closes the connection."""
OTHERS = [
    "Tailscale%2DUser-Login: bob@example.com",
    "Tailscale.User.Login: bob@example.com",
    "X-Tailscale-User-Login: bob@example.com",
    "Tailscale-User-Name: Bob",
    "Tailscale-User-Profile-Pic: https://pictures.example.com/bob",
    "Tailscale-Headers-Info: https://tailscale.com/s/serve-headers",
    "Tailscale-Caps: " + ADMIN,
    "X-Forwarded-For: 100.64.0.8",
    "X-Forwarded-For: 127.0.0.1, 100.64.0.8",
    "X-Forwarded-Host: ai",
    "X-Forwarded-Proto: https",
    "X-Forwarded-User: bob@example.com",
    "X-Forwarded-Email: bob@example.com",
    "Forwarded: for=100.64.0.8;by=127.0.0.1",
    "X-Real-IP: 100.64.0.8",
    "X-Client-IP: 100.64.0.8",
    "True-Client-IP: 100.64.0.8",
    "CF-Connecting-IP: 100.64.0.8",
    "X-Webauth-User: bob@example.com",
    "X-Webauth-Login: bob@example.com",
    "Remote-User: bob@example.com",
    "X-Remote-User: bob@example.com",
    "X-Auth-Request-Email: bob@example.com",
    "X-Original-URL: /healthz",
    "X-Rewrite-URL: /healthz",
    "X-Irisgate-Identity: bob@example.com",
]
MODES = ["loopback", "static", "whois", "proxy-protocol", "serve-headers"]
HONEST = {"loopback": "(loopback)", "static": "robot"}
"""Login of a caller whose request has no false header, by identity mode. In every mode that is not listed, the caller
is Alice."""


@pytest.fixture
async def sim(tmp_path):
    async with LocalApiSim(tmp_path / "tailscaled.sock") as running:
        running.add(ALICE)
        running.add(BOB)
        yield running


@pytest.fixture
async def gated(tmp_path, sim, bedrock_sim):
    options = {"tailscaled": str(sim.path)}
    listeners = [
        {"listen": "127.0.0.1:0"},
        {"listen": "127.0.0.2:0", "identity": "static", "login": "robot"},
        {"listen": "127.0.0.3:0", "identity": "whois", **options},
        {"listen": "127.0.0.4:0", "identity": "proxy-protocol", **options},
        {"listen": f"unix:{tmp_path}/serve.sock", "identity": "serve-headers"},
    ]
    provider = bedrock(bedrock_sim.url, models=(HAIKU, NOVA))
    server = {"listeners": listeners, "hosts": ["ai"]}
    async with gate(tmp_path, {"b": provider}, grants=GRANTS, server=server) as running:
        yield running


@asynccontextmanager
async def caller(gated, sim, mode):
    """Yield a connection, and the headers that every honest request on this connection has."""
    if mode == "serve-headers":
        raw = await Raw.unix(sim.path.with_name("serve.sock"))
    else:
        first = b"PROXY TCP4 100.64.0.7 127.0.0.1 4711 80\r\n" if mode == "proxy-protocol" else b""
        raw = await connected(gated, at=MODES.index(mode), first=first)
    if mode == "whois":
        sim.proxied(raw.port, ALICE)
    yield raw, ["Tailscale-User-Login: alice@example.com"] if mode == "serve-headers" else []
    await raw.close()


async def whoami(raw, *lines):
    """Return the status of a request, and the login that the gateway sees. The login is None if the request is refused."""
    raw.writer.write(request("GET /api/whoami HTTP/1.1", *lines))
    status, _, body = await raw.reply()
    return status, json.loads(body) if status == 200 else None


def is_forwarding(line):
    """Return whether a header line is one that only proxies send. A loopback listener must refuse a request with such a
    header.
    """
    name = line.partition(":")[0]
    return bool(forwarding_header([(name, "")]))


async def test_no_header_makes_a_caller_somebody_else(gated, sim):
    for mode in MODES:
        async with caller(gated, sim, mode) as (raw, honest):
            status, before = await whoami(raw, *honest)
            assert (status, before["login"], before["role"]) == (200, HONEST.get(mode, "alice@example.com"), "user")
            for line in [*OTHERS, *([] if mode == "serve-headers" else LOGINS)]:
                refused = mode == "loopback" and is_forwarding(line)
                answer = (403, None) if refused else (200, before)
                assert await whoami(raw, *honest, line) == answer, (mode, line)
            assert await whoami(raw, *honest) == (200, before)


async def test_what_is_no_header_ends_the_connection(gated, sim):
    for mode, line in itertools.product(MODES, BROKEN):
        async with caller(gated, sim, mode) as (raw, honest):
            assert await whoami(raw, *honest, line) == (400, None), (mode, line)
            assert await raw.ended()


async def test_beside_the_login_that_serve_gives_no_other_spelling_of_it_passes(gated, sim):
    async with caller(gated, sim, "serve-headers") as (raw, honest):
        doubled = [line for line in LOGINS if not line.startswith("Tailscale-App-Capabilities")]
        for line in doubled:
            assert (await whoami(raw, *honest, line))[0] == 403, line
            assert (await whoami(raw, line, *honest))[0] == 403, line
        for line in LOGINS:
            if "_" in line.partition(":")[0] or line.startswith("Tailscale-App"):
                assert (await whoami(raw, line))[0] == 403, line
        assert (await whoami(raw, *honest))[1]["role"] == "user"


async def test_nothing_that_claims_an_identity_goes_on_to_a_provider(gated, sim, bedrock_sim):
    for mode in MODES:
        async with caller(gated, sim, mode) as (raw, honest):
            lines = [*honest, *OTHERS, *([] if mode == "serve-headers" else LOGINS)]
            if mode == "loopback":
                lines = [line for line in lines if not is_forwarding(line)]
            for path, body in (("/v1/chat/completions", CHAT), (CONVERSE_PATH, CONVERSE)):
                raw.writer.write(post(path, body, *lines))
                assert (await raw.reply())[0] == 200
    assert len(bedrock_sim.requests) == 2 * len(MODES)
    for seen in bedrock_sim.requests:
        assert set(seen.headers) <= OUR_HEADERS
        assert "example.com" not in str(seen.headers)
        assert "100.64." not in str(seen.headers)


@pytest.mark.parametrize("mode", ["whois", "proxy-protocol"])
@pytest.mark.parametrize("address", ["100.64.9.9", "100.127.255.254", "fd7a:115c:a1e0::99"])
async def test_a_tailnet_address_unknown_to_tailscaled_is_nobody(gated, sim, mode, address):
    """Check that an address in the tailnet's range has no identity if tailscaled does not know it.

    Network carriers use 100.64.0.0/10 too. A test cannot connect from such an address, so the address is in headers or
    in the PROXY header.
    """
    version = 6 if ":" in address else 4
    ends = "::1" if version == 6 else "127.0.0.1"
    first = f"PROXY TCP{version} {address} {ends} 4711 80\r\n".encode() if mode == "proxy-protocol" else b""
    raw = await connected(gated, at=MODES.index(mode), first=first)
    claims = [f"X-Forwarded-For: {address}", f"Forwarded: for={address}", f"X-Real-IP: {address}"]
    assert await whoami(raw, *claims) == (403, None)
    own = f"127.0.0.1:{raw.port}"
    assert len([query for query in sim.asked if query["addr"] != own]) == (mode == "proxy-protocol")


async def test_a_node_that_left_is_nobody_whatever_its_address_still_says(gated, sim):
    sim.remove(ALICE)
    raw = await connected(gated, at=3, first=b"PROXY TCP4 100.64.0.7 127.0.0.1 4711 80\r\n")
    assert await whoami(raw, "X-Forwarded-For: 100.64.0.8") == (403, None)
