"""Tests of GET /api/sessions and the other lists of sessions and calls: which rows a caller sees, and the fields of a
row.
"""

import pytest

from tests.helpers.records import HAIKU, NOON, record
from tests.web.dashboard.application import ADMIN, NOBODY, USER, Broken, application

BOB = "bob@example.com"


async def test_a_session_is_listed_as_documented(store, get):
    store.put(record())
    await store.flush()
    assert await get("/api/sessions") == (
        200,
        {
            "sessions": [
                {
                    "id": "s1",
                    "identity": USER,
                    "agent": "OpenAI/Python",
                    "provider": "bedrock",
                    "providers": ["bedrock"],
                    "models": [HAIKU],
                    "calls": 1,
                    "failed": 0,
                    "tokens": {
                        "input": 100,
                        "output": 20,
                        "cache_read": 7,
                        "cache_write_5m": 5,
                        "cache_write_1h": 3,
                        "reasoning": 2,
                    },
                    "cost_usd": 0.001234567,
                    "cost_unknown_calls": 0,
                    "estimated_calls": 0,
                    "cache_saved_usd": 0.0,
                    "started_at": "2026-11-23T12:00:00.000Z",
                    "last_at": "2026-11-23T12:00:01.500Z",
                    "duration_ms": 1500,
                    "tools": {"get_weather": 1},
                }
            ],
            "next": None,
        },
    )


async def test_one_session_looks_as_it_does_in_the_list(store, get):
    store.put(record())
    await store.flush()
    _, listed = await get("/api/sessions")
    assert await get("/api/sessions/s1") == (200, listed["sessions"][0])


async def test_an_unknown_cost_is_null(store, get):
    store.put(record(cost=None))
    await store.flush()
    _, session = await get("/api/sessions/s1")
    assert (session["cost_usd"], session["cost_unknown_calls"]) == (None, 1)


async def test_calls_of_a_session_have_their_time_in_text(store, get):
    store.put(record())
    await store.flush()
    status, listed = await get("/api/sessions/s1/calls")
    assert (status, listed["next"]) == (200, None)
    assert listed["calls"] == [{**record().as_dict(), "at": "2026-11-23T12:00:00.000Z"}]
    assert (await get("/api/calls"))[1] == listed


async def test_a_user_sees_own_rows_and_an_admin_all(store, get):
    store.put(record(id="a"))
    store.put(record(id="b", identity=BOB, session_id="s2", at=NOON + 1))
    await store.flush()

    async def ids(path, login):
        return [row["id"] for row in (await get(path, login))[1]["sessions"]]

    assert await ids("/api/sessions", USER) == ["s1"]
    assert await ids("/api/sessions", ADMIN) == ["s2", "s1"]
    assert await ids(f"/api/sessions?identity={BOB}", ADMIN) == ["s2"]


@pytest.mark.parametrize("path", ["/api/sessions/s2", "/api/sessions/unheard-of"])
async def test_a_session_of_somebody_else_looks_like_none(store, get, path):
    store.put(record(identity=BOB, session_id="s2"))
    await store.flush()
    status, body = await get(path)
    assert status == 404
    assert body["error"]["message"].startswith('session "')


@pytest.mark.parametrize("path", ["/api/sessions", "/api/sessions/s2", "/api/sessions/s2/calls", "/api/calls"])
async def test_a_user_who_asks_for_somebody_else_is_refused(get, path):
    status, body = await get(f"{path}?identity={BOB}")
    assert (status, body) == (403, {"error": "access denied: only an admin may read what others called"})


@pytest.mark.parametrize("login", [NOBODY, ""])
@pytest.mark.parametrize("path", ["/api/sessions", "/api/sessions/s1", "/api/sessions/s1/calls", "/api/calls"])
async def test_a_caller_without_a_role_is_refused(get, path, login):
    assert await get(path, login) == (403, {"error": "access denied: no role granted"})


async def test_an_admin_names_the_caller_where_an_id_is_used_by_two(store, get):
    store.put(record(id="a"))
    store.put(record(id="b", identity=BOB, at=NOON + 1))
    await store.flush()
    status, body = await get("/api/sessions/s1", ADMIN)
    assert (status, body["error"]["identities"]) == (409, [BOB, USER])
    status, body = await get(f"/api/sessions/s1?identity={BOB}", ADMIN)
    assert (status, body["identity"]) == (200, BOB)


@pytest.mark.parametrize("path", ["/api/sessions", "/api/calls"])
@pytest.mark.parametrize("limit", ["0", "-1", "201", "x", "", "1.5", "٣", "9" * 50])
async def test_a_bad_limit_is_refused_by_name(get, path, limit):
    status, body = await get(f"{path}?limit={limit}")
    assert status == 400
    assert body["error"]["message"].startswith("limit: ")


@pytest.mark.parametrize("path", ["/api/sessions", "/api/calls"])
async def test_a_bad_cursor_is_refused_by_name(get, path):
    status, body = await get(f"{path}?cursor=nonsense")
    assert status == 400
    assert body["error"]["message"].startswith("cursor: ")


async def test_pages_are_walked_with_the_cursor(store, get):
    for number in range(5):
        store.put(record(id=str(number), session_id=f"s{number}", at=NOON + number))
    await store.flush()
    seen, path = [], "/api/sessions?limit=2"
    while path:
        _, body = await get(path)
        seen += [row["id"] for row in body["sessions"]]
        path = body["next"] and f"/api/sessions?limit=2&cursor={body['next']}"
    assert seen == ["s4", "s3", "s2", "s1", "s0"]


async def test_a_store_that_cannot_be_read_is_a_503_without_its_path(aiohttp_client):
    client = await aiohttp_client(application(Broken()))
    async with client.get("/api/sessions", headers={"x-test-login": USER}) as response:
        assert response.status == 503
        assert "/var/lib" not in await response.text()
