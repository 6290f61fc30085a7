"""Tests of the query parameters of the lists of calls and sessions: valid ones filter the list, others are refused."""

import pytest

from tests.helpers.gateway import HAIKU, NOVA, bedrock, gate


@pytest.fixture
async def gw(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as running:
        for model, agent in ((HAIKU, "curl/8"), (NOVA, "OpenAI/Python 2"), ("nope", "curl/8")):
            body = {"model": model, "messages": [{"role": "user", "content": f"hello {model}"}]}
            await running.post("/v1/chat/completions", body, headers={"user-agent": agent})
        await running.sessions()
        yield running


async def calls(gw, query):
    return [call["model"] for call in (await (await gw.get(f"/api/calls?{query}")).json())["calls"]]


@pytest.mark.parametrize(
    ("query", "models"),
    [
        ("status=200", [NOVA, HAIKU]),
        ("status=404", ["nope"]),
        ("status=500", []),
        ("outcome=refused", ["nope"]),
        ("error=not_found", ["nope"]),
        (f"model={HAIKU}", [HAIKU]),
        ("agent=curl", ["nope", HAIKU]),
        ("agent=curl&status=200", [HAIKU]),
        ("provider=b&limit=1", [NOVA]),
        ("api=openai_chat&operation=generate&model=", ["nope", NOVA, HAIKU]),
    ],
)
async def test_calls_are_those_that_have_the_values(gw, query, models):
    assert await calls(gw, query) == models


@pytest.mark.parametrize(
    ("query", "count"), [(f"model={HAIKU}", 1), ("model=x", 0), ("agent=curl", 2), ("provider=b", 2)]
)
async def test_sessions_are_those_that_have_the_values(gw, query, count):
    assert len((await (await gw.get(f"/api/sessions?{query}")).json())["sessions"]) == count
    page = await (await gw.get(f"/ui/sessions?{query}")).text()
    assert page.count('<th scope="row"') == count


async def test_one_call_of_a_session_has_all_the_values(gw):
    """Check that a session is found only if a single call of it has all the wanted values."""
    for model, agent in ((HAIKU, "curl/8"), (NOVA, "OpenAI/Python 2")):
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        await gw.post("/v1/chat/completions", body, headers={"user-agent": agent, "x-session-id": "both"})
    await gw.sessions()

    async def found(query):
        sessions = (await (await gw.get(f"/api/sessions?{query}")).json())["sessions"]
        return "both" in {session["id"] for session in sessions}

    for query in (f"model={HAIKU}", f"model={NOVA}", "agent=curl", "agent=OpenAI/Python", "provider=b"):
        assert await found(query), query
    for model, own, other in ((HAIKU, "curl", "OpenAI/Python"), (NOVA, "OpenAI/Python", "curl")):
        assert await found(f"model={model}&agent={own}&provider=b")
        assert not await found(f"model={model}&agent={other}&provider=b")
        assert not await found(f"model={model}&agent={other}")
    assert not await found(f"model={HAIKU}&provider=x")


@pytest.mark.parametrize(
    "path", ["sessions?identity=", "calls?identity=", "sessions/x?identity=", "explain?model=m&as="]
)
async def test_an_empty_login_is_refused(gw, path):
    reply = await gw.get(f"/api/{path}")
    assert reply.status == 400
    assert "is empty; name a login" in await reply.text()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/api/calls?stauts=500", "stauts: is no parameter; there are limit, cursor, identity, provider, model, agent"),
        ("/api/calls?status=5xx", 'status: "5xx" is no status of HTTP'),
        ("/api/calls?model=a&model=b", "model: stands there more than once"),
        (
            "/api/sessions?status=500",
            "status: is no parameter; there are limit, cursor, identity, provider, model, agent",
        ),
        ("/api/sessions/x/calls?x=1", "x: is no parameter"),
        ("/ui/sessions?stauts=500", "stauts: is no parameter"),
        ("/ui/sessions?status=5x", "status: "),
    ],
)
async def test_what_is_no_parameter_is_refused_and_those_that_are_are_named(gw, path, message):
    answer = await gw.get(path)
    assert answer.status == 400
    assert message in (await answer.text()).replace("&#34;", '"').replace('\\"', '"')


async def test_a_filter_goes_on_over_pages(gw):
    page = await (await gw.get("/api/calls?agent=curl&limit=1")).json()
    assert [call["model"] for call in page["calls"]] == ["nope"]
    assert await calls(gw, f"agent=curl&limit=1&cursor={page['next']}") == [HAIKU]
