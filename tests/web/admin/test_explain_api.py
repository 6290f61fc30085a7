"""Tests of GET /api/explain and /api/whoami. Callers may ask about themselves, and admins also about others."""

import asyncio
import time

import aiohttp
import pytest

from gateway.access.identity.caller import user
from gateway.call.explain.explain import explain
from tests.helpers.gateway import CAP, HAIKU, NOVA, SONNET, bedrock, gate

ALICE, BOB, BOSS = "alice@example.com", "bob@example.com", "boss@example.com"
GRANTS = [
    {"src": [ALICE], "app": {CAP: [{"role": "user"}, {"models": f"bedrock/{HAIKU}"}]}},
    {"src": [BOSS], "app": {CAP: [{"role": "admin"}, {"models": "**"}]}},
    {"src": ["group:secret-team"], "app": {CAP: [{"role": "user"}, {"models": "bedrock/**"}]}},
]


def listener(login):
    return {"listeners": [{"listen": "127.0.0.1:0", "identity": "static", "login": login, "groups": ["eng"]}]}


async def answers_to(tmp_path, login, *paths):
    """Return the status and the JSON of each reply to one caller."""
    async with gate(
        tmp_path, {"bedrock": bedrock("http://127.0.0.1:9")}, grants=GRANTS, server=listener(login)
    ) as here:
        replies = [await here.get(path) for path in paths]
        return [(reply.status, await reply.json()) for reply in replies]


async def test_a_caller_is_told_why_they_may(tmp_path):
    [(status, body)] = await answers_to(tmp_path, ALICE, f"/api/explain?model={HAIKU}")
    assert (status, body["allowed"], body["role"], body["login"]) == (200, True, "user", ALICE)
    assert body["offers"][0]["by"][0]["models"] == f"bedrock/{HAIKU}"


async def test_a_caller_without_a_role_is_answered_too(tmp_path):
    [(status, body)] = await answers_to(tmp_path, BOB, f"/api/explain?model={HAIKU}")
    assert (status, body["allowed"], body["reason"], body["role"]) == (200, False, "no_role", None)
    assert body["offers"] == body["near_misses"] == body["near"] == []
    assert body["grant"] == body["policy"] == ""
    assert "administrator" in body["note"]


async def test_a_caller_learns_nothing_of_others(tmp_path):
    (_, denied), (_, unknown) = await answers_to(
        tmp_path, ALICE, f"/api/explain?model={NOVA}", "/api/explain?model=nothing"
    )
    assert denied["reason"] == unknown["reason"] == "not_found"
    assert denied["offers"] == []
    assert "secret-team" not in str(denied)
    assert SONNET not in str(denied)


@pytest.mark.parametrize("query", [f"as={BOB}", "group=secret-team", "tag=tag:ci", f"as={ALICE}&group=secret-team"])
async def test_a_caller_without_admin_may_not_ask_about_others(tmp_path, query):
    [(status, body)] = await answers_to(tmp_path, ALICE, f"/api/explain?model={HAIKU}&{query}")
    assert (status, list(body)) == (403, ["error"])


async def test_while_an_admin_asks_about_thousands_of_grants_others_are_served(tmp_path):
    capability = [{"role": "user"}, {"models": "bedrock/**"}]
    others = [{"src": [f"u{number}@example.com"], "app": {CAP: capability}} for number in range(4_000)]
    async with gate(
        tmp_path, {"bedrock": bedrock("http://127.0.0.1:9")}, grants=[*GRANTS, *others], server=listener(BOSS)
    ) as here:
        begun = time.thread_time()
        explain(here.running.gateway.runtime, user(BOB), NOVA)
        takes = time.thread_time() - begun
        longest = await longest_pause(here.get(f"/api/explain?model={NOVA}&as={BOB}"))
    assert takes > 0.02
    assert longest < takes / 2


async def longest_pause(asking):
    """Return the longest CPU time in seconds for which a request blocks the event loop. `asking` is the coroutine that
    makes the request.
    """
    task = asyncio.create_task(asking)
    longest, last = 0.0, time.thread_time()
    while not task.done():
        await asyncio.sleep(0)
        longest, last = max(longest, (now := time.thread_time()) - last), now
    assert (await task).status == 200
    return longest


async def test_asking_about_oneself_by_name_is_asking_about_oneself(tmp_path):
    named, plain = await answers_to(
        tmp_path, ALICE, f"/api/explain?model={HAIKU}&as={ALICE}", f"/api/explain?model={HAIKU}"
    )
    assert named == plain
    assert plain[1]["groups"] == ["eng"]


async def test_an_admin_is_told_all_about_others(tmp_path):
    path = f"/api/explain?model={NOVA}"
    others = (f"{path}&as={ALICE}", f"{path}&as={BOB}&group=secret-team", f"{path}&tag=tag:b&tag=tag:a")
    alice, bob, node = await answers_to(tmp_path, BOSS, *others)
    assert (alice[1]["reason"], alice[1]["offers"][0]["state"]) == ("not_granted", "not_granted")
    assert "secret-team" in str(alice[1]["near_misses"])
    assert "tailnet policy" in alice[1]["note"]
    assert (bob[1]["allowed"], bob[1]["groups"]) == (True, ["secret-team"])
    assert (node[1]["login"], node[1]["tags"]) == ("tag:a,tag:b", ["tag:a", "tag:b"])


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("", "model"),
        (f"?as={ALICE}", "model"),
        ("?model=", "model"),
        ("?model=m&as=*", "as"),
        ("?model=m&who=a", "who"),
    ],
)
async def test_a_wrong_question_is_a_400_that_names_the_parameter(tmp_path, query, named):
    [(status, body)] = await answers_to(tmp_path, BOSS, f"/api/explain{query}")
    assert status == 400
    assert body["error"].startswith(f"{named}: ")


async def test_whoami_says_who_the_gateway_takes_the_caller_for(tmp_path):
    alice, bob = [(await answers_to(tmp_path / login, login, "/api/whoami"))[0] for login in (ALICE, BOB)]
    same = {"groups": ["eng"], "tags": [], "node": "", "mode": "static", "policy_grants": 0}
    assert alice == (200, {"login": ALICE, "role": "user", "models": 1, **same})
    assert bob == (200, {"login": BOB, "role": None, "models": 0, **same})


async def test_capabilities_of_the_tailnet_policy_count_for_oneself(tmp_path):
    server = {"listeners": [{"listen": f"unix:{tmp_path}/s", "identity": "serve-headers"}, {"listen": "127.0.0.1:0"}]}
    headers = {
        "Tailscale-User-Login": BOB,
        "Tailscale-App-Capabilities": f'{{"{CAP}": [{{"role": "user"}}, {{"models": "bedrock/**"}}]}}',
    }
    async with (
        gate(tmp_path, {"bedrock": bedrock("http://127.0.0.1:9")}, grants=GRANTS, server=server),
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(f"{tmp_path}/s"), headers=headers) as client,
    ):
        body = await (await client.get(f"http://localhost/api/explain?model={NOVA}")).json()
        me = await (await client.get("http://localhost/api/whoami")).json()
    assert body["allowed"]
    assert body["role_by"] == [f"tailnet policy, {CAP}[0]"]
    assert (me["mode"], me["policy_grants"], me["role"], me["models"]) == ("serve-headers", 2, "user", 3)


async def test_the_records_of_refused_calls_are_no_list_of_what_exists(tmp_path):
    """Check that the record of a refused call has the model's name as the caller wrote it, whether or not a model has
    this name.
    """
    names = [f"bedrock/{NOVA}", "bedrock/nothing", "bedrock/", NOVA, "fast", f"bedrock/{HAIKU}"]
    aliases = {"model_aliases": {"models": {"fast": {"dst": [f"bedrock/{NOVA}"]}}}}
    async with gate(
        tmp_path, {"bedrock": bedrock("http://127.0.0.1:9")}, grants=GRANTS, server=listener(ALICE), more=aliases
    ) as here:
        for name in names:
            await here.post("/v1/chat/completions", {"model": name, "messages": [{"role": "user", "content": "hi"}]})
        await here.running.gateway.follower.flush()
        calls = (await (await here.get("/api/calls")).json())["calls"]
    outcomes = [(call["model"], call["outcome"]) for call in reversed(calls)]
    assert outcomes == [*((name, "refused") for name in names[:-1]), (HAIKU, "failed")]
