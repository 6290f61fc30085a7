"""Tests that a caller cannot see sessions, calls and rights of other people, and cannot even find out whether they
exist.

A caller without a role sees nothing.
"""

import json
import re

import pytest

from gateway.testkit.localapi import LocalApiSim
from gateway.testkit.tailnet_nodes import Node, User
from tests.helpers.gateway import CAP, HAIKU, NOVA, bedrock, gate
from tests.helpers.hostile_http import CHAT, connected

PEOPLE = {
    name: Node(f"{name}.example.ts.net", (f"100.64.0.{number}",), User(f"{name}@example.com"))
    for number, name in enumerate(("alice", "bob", "admin", "nobody", "meter"), 10)
}
GRANTS = [
    {"src": ["alice@example.com", "bob@example.com"], "app": {CAP: [{"role": "user"}, {"models": f"b/{HAIKU}"}]}},
    {"src": ["admin@example.com"], "app": {CAP: [{"role": "admin"}, {"models": f"b/{NOVA}"}]}},
    {"src": ["nobody@example.com"], "app": {CAP: [{"models": "**"}]}},
    {"src": ["meter@example.com"], "app": {CAP: [{"read_metrics": True}]}},
]
SESSION = "a-session-of-hers"


@pytest.fixture
async def gated(tmp_path, bedrock_sim):
    async with LocalApiSim(tmp_path / "tailscaled.sock") as sim:
        # nobody registers late here
        sim.late_seconds = 0
        for node in PEOPLE.values():
            sim.add(node)
        listeners = [{"listen": "127.0.0.1:0", "identity": "proxy-protocol", "tailscaled": str(sim.path)}]
        provider = bedrock(bedrock_sim.url, models=(HAIKU, NOVA))
        async with gate(tmp_path, {"b": provider}, grants=GRANTS, server={"listeners": listeners}) as running:
            alice = await asking(running, "alice")
            body = {**CHAT, "messages": [{"role": "user", "content": "the secret of alice"}]}
            status, _, _ = await alice.ask("/v1/chat/completions", body, headers=[("X-Session-Id", SESSION)])
            assert status == 200
            await running.running.gateway.follower.flush()
            yield running


async def asking(running, name):
    (address,) = PEOPLE[name].addresses
    return await connected(running, first=f"PROXY TCP4 {address} 127.0.0.1 4711 80\r\n".encode())


async def heard_by(gated, name, path, **options):
    raw = await asking(gated, name)
    status, _, body = await raw.ask(path, **options)
    await raw.close()
    return status, body


async def test_alice_sees_her_own_and_an_admin_all(gated):
    for name in ("alice", "admin"):
        for path in (f"/api/sessions/{SESSION}", f"/ui/sessions/{SESSION}", "/api/sessions", "/api/calls"):
            status, body = await heard_by(gated, name, path)
            assert status == 200, (name, path)
            assert SESSION.encode() in body, (name, path)


@pytest.mark.parametrize("what", ["/api/sessions/{}", "/ui/sessions/{}"])
async def test_somebody_elses_session_looks_like_none(gated, what):
    absent = "the-session-of-nobody"
    for query in ("", "?limit=1"):
        reply = await heard_by(gated, "bob", what.format(SESSION) + query)
        missing = await heard_by(gated, "bob", what.format(absent) + query)
        assert reply[0] == missing[0] == 404
        bodies = (reply[1].replace(SESSION.encode(), b""), missing[1].replace(absent.encode(), b""))
        # the nonce of a page's script is another one in every reply
        assert len({re.sub(rb'nonce="[^"]+"', b"", body) for body in bodies}) == 1


async def test_the_calls_of_somebody_elses_session_look_like_those_of_none(gated):
    reply = await heard_by(gated, "bob", f"/api/sessions/{SESSION}/calls")
    missing = await heard_by(gated, "bob", "/api/sessions/the-session-of-nobody/calls")
    assert reply == missing
    assert b"alice" not in reply[1]


async def test_lists_hold_nothing_of_others_whatever_is_asked_for(gated):
    for path in ("/api/sessions", "/api/calls"):
        for query in ("", "?limit=200", "?identity=bob@example.com", "?session=" + SESSION, "?role=admin"):
            status, body = await heard_by(gated, "bob", path + query)
            assert status == (400 if query.startswith(("?session", "?role")) else 200), (path, query)
            assert b"alice" not in body, (path, query)
            assert SESSION.encode() not in body, (path, query)


@pytest.mark.parametrize("page", ["", "sessions", "cache", "errors", "providers", "now", "quotas", "find"])
async def test_pages_hold_nothing_of_others_whatever_is_asked_for(gated, page):
    queries = {"": 200}
    if page in {"", "sessions", "cache", "errors", "providers"}:
        queries |= {"?range=12m": 200, "?user=bob@example.com": 200, "?role=admin": 400, "?user=alice@example.com": 403}
        queries |= {f"?session={SESSION}&range=12m": 200}
    for query, expected in queries.items():
        status, body = await heard_by(gated, "bob", f"/ui/{page}{query}")
        assert status == expected, query
        if expected != 403:
            assert b"alice" not in body, query
        assert f'href="/ui/sessions/{SESSION}'.encode() not in body, query


async def test_the_page_of_people_is_for_admins_alone(gated):
    assert (await heard_by(gated, "bob", "/ui/people?format=csv"))[0] == 403
    status, body = await heard_by(gated, "admin", "/ui/people")
    assert (status, b"alice" in body) == (200, True)


async def test_a_query_for_another_person_never_shows_if_they_exist(gated):
    """Check that a query about another person is refused with the same reply, whether or not that person exists."""
    for path in (
        "/api/sessions",
        "/api/calls",
        f"/api/sessions/{SESSION}",
        f"/api/sessions/{SESSION}/calls",
    ):
        answers = {
            await heard_by(gated, "bob", f"{path}?identity={who}@example.com") for who in ("alice", "nobody", "noone")
        }
        assert len(answers) == 1, path
        assert {status for status, _ in answers} == {403}, path


async def test_a_cursor_of_an_admin_opens_nothing_to_a_user(gated):
    for _ in range(2):
        alice = await asking(gated, "alice")
        await alice.ask("/v1/chat/completions", CHAT, headers=[("X-Session-Id", f"{SESSION}-2")])
    await gated.running.gateway.follower.flush()
    for path in ("/api/sessions", "/api/calls"):
        _, body = await heard_by(gated, "admin", f"{path}?limit=1")
        cursor = json.loads(body)["next"]
        assert cursor
        status, body = await heard_by(gated, "bob", f"{path}?cursor={cursor}")
        assert status in {200, 400}
        assert b"alice" not in body


async def test_a_session_id_that_bob_takes_over_is_his_own(gated):
    bob = await asking(gated, "bob")
    assert (await bob.ask("/v1/chat/completions", CHAT, headers=[("X-Session-Id", SESSION)]))[0] == 200
    await gated.running.gateway.follower.flush()
    status, body = await heard_by(gated, "bob", f"/api/sessions/{SESSION}")
    assert (status, b"alice" in body) == (200, False)
    status, body = await heard_by(gated, "bob", f"/api/sessions/{SESSION}/calls")
    assert (status, b"alice" in body, len(json.loads(body)["calls"])) == (200, False, 1)


PAGES = (
    "/api/sessions", "/api/calls", f"/api/sessions/{SESSION}", f"/api/sessions/{SESSION}/calls", "/api/providers",
    "/v1/models", f"/v1/models/{HAIKU}", "/inference-profiles", "/ui/", "/ui/sessions", f"/ui/sessions/{SESSION}",
    "/aperture/config",
)  # fmt: skip


@pytest.mark.parametrize("who", ["nobody", "meter"])
async def test_without_a_role_nothing_is_shown(gated, who):
    for path in PAGES:
        status, body = await heard_by(gated, who, path)
        assert status == 403, path
        assert b"alice" not in body
        assert HAIKU.encode() not in body
    for path in ("/api/sessions", "/ui/sessions"):
        assert (await heard_by(gated, who, f"{path}?identity={who}@example.com"))[0] == 403


async def test_a_user_can_neither_read_nor_change_the_configuration(gated):
    for method, path, body in (
        ("GET", "/aperture/config", None), ("PUT", "/aperture/config", {"config": "{}"}),
        ("POST", "/aperture/config:validate", {"config": "{}"}),
    ):  # fmt: skip
        headers = [("Content-Type", "application/json"), ("If-Match", "*")]
        status, answer = await heard_by(gated, "bob", path, body=body, method=method, headers=headers)
        assert status == 403, (method, path)
        assert b"b/" not in answer


async def test_metrics_are_for_those_who_are_granted_them_alone(gated):
    assert {who: (await heard_by(gated, who, "/metrics"))[0] for who in PEOPLE} == {
        "alice": 403, "bob": 403, "admin": 403, "nobody": 403, "meter": 200,
    }  # fmt: skip


async def test_a_user_is_told_of_nobody_elses_rights(gated):
    for query in ("as=alice@example.com", "as=admin@example.com", "as=noone@example.com", "group=group:x", "tag=tag:x"):
        status, body = await heard_by(gated, "bob", f"/api/explain?model={NOVA}&{query}")
        assert (status, b"admin@" in body) == (403, False), query
    hidden = await heard_by(gated, "bob", f"/api/explain?model={NOVA}")
    absent = await heard_by(gated, "bob", "/api/explain?model=nothing-like-it")
    assert hidden[0] == absent[0] == 200
    assert b"admin@" not in hidden[1]
    assert hidden[1].replace(NOVA.encode(), b"") == absent[1].replace(b"nothing-like-it", b"")
