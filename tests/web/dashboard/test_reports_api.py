"""Tests of GET /api/reports/...: the pages' figures as JSON, whose calls a caller may see, and the errors for wrong
queries.
"""

import pytest

from gateway.contract.flag import Usage
from tests.helpers.records import HAIKU, NOON, record
from tests.web.dashboard.application import ADMIN, NOBODY, USER, Broken, application

DAY = "range=custom&from=2026-11-23&to=2026-11-23"
EVE = "eve@example.com"


@pytest.fixture
async def calls(store):
    made = {"provider": "bedrock", "model": HAIKU, "usage": Usage(input=100, output=20), "cost": 2_000_000_000}
    store.put(record(id="a", identity=USER, **made))
    store.put(record(id="b", identity=EVE, **{**made, "cost": None, "model": "other"}))
    failed = {"outcome": "failed", "status": 503, "error": "overloaded", "error_message": "no room", "cost": 0}
    store.put(record(id="c", identity=EVE, at=NOON + 3600, **{**made, **failed}))
    store.put(record(id="d", identity=EVE, at=NOON - 86_400, **made))
    await store.flush()


@pytest.mark.usefixtures("calls")
async def test_totals_are_sums_with_latencies_and_the_range_before(get):
    status, body = await get(f"/api/reports/totals?{DAY}&compare=1", ADMIN)
    assert status == 200
    assert body["range"] == {
        "preset": "custom", "since": "2026-11-23T00:00:00.000Z", "until": "2026-11-24T00:00:00.000Z", "zone": "UTC",
    }  # fmt: skip
    now, before = body["now"], body["before"]
    assert (now["calls"], now["failed"], now["errors"], now["people"]) == (3, 1, 1, 2)
    assert (now["cost_usd"], now["cost_unknown_calls"], now["tokens"]["input"]) == (2.0, 1, 300)
    assert 0 < now["duration"]["p50_ms"] <= now["duration"]["p95_ms"]
    assert (before["calls"], before["cost_usd"]) == (1, 2.0)
    assert (await get(f"/api/reports/totals?{DAY}", ADMIN))[1]["before"] is None


@pytest.mark.usefixtures("calls")
async def test_a_chart_has_amounts_in_dollars_or_counts_by_bucket(get):
    _, body = await get(f"/api/reports/chart?{DAY}&by=model", ADMIN)
    assert (body["unit"], len(body["buckets"]), body["measure"]) == ("hour", 24, "cost")
    assert body["buckets"][12] == {"since": "2026-11-23T12:00:00.000Z", "until": "2026-11-23T13:00:00.000Z"}
    amounts = {line["name"]: line["amounts"] for line in body["lines"]}
    assert (amounts[HAIKU][12], amounts[HAIKU][13], sum(amounts["other"])) == (2.0, 0.0, 0.0)
    assert (body["cost_unknown_calls"][12], body["before"]) == (1, None)
    _, body = await get(f"/api/reports/chart?{DAY}&by=user&measure=calls&compare=1", ADMIN)
    assert {line["name"]: sum(line["amounts"]) for line in body["lines"]} == {USER: 1, EVE: 2}
    assert sum(body["before"]) == 1


@pytest.mark.usefixtures("calls")
async def test_a_table_is_sorted_and_limited(get):
    _, body = await get(f"/api/reports/table?{DAY}&by=user&sort=calls&limit=1", ADMIN)
    assert ([row["name"] for row in body["rows"]], body["size"]) == ([EVE], 2)
    assert body["rows"][0]["cancelled"] == 0
    _, body = await get(f"/api/reports/table?{DAY}&model=other", ADMIN)
    assert [(row["name"], row["cost_usd"], row["cost_unknown_calls"]) for row in body["rows"]] == [("other", None, 1)]


@pytest.mark.usefixtures("calls")
async def test_errors_have_lines_and_messages_with_an_example(get):
    _, body = await get(f"/api/reports/errors?{DAY}", ADMIN)
    (line,), (message,) = body["lines"], body["messages"]
    assert (line["code"], line["provider"], line["calls"], line["amounts"][13]) == ("overloaded", "bedrock", 1, 1)
    assert (message["message"], message["calls"], message["example"]) == ("no room", 1, "c")


@pytest.mark.usefixtures("calls")
async def test_a_user_reads_own_figures_alone(get):
    assert (await get(f"/api/reports/totals?{DAY}"))[1]["now"]["calls"] == 1
    assert [row["name"] for row in (await get(f"/api/reports/table?{DAY}&by=user"))[1]["rows"]] == [USER]
    assert (await get(f"/api/reports/errors?{DAY}"))[1]["messages"] == []
    for name in ("totals", "chart", "table", "errors"):
        assert (await get(f"/api/reports/{name}?user={EVE}"))[0] == 403
        assert (await get(f"/api/reports/{name}", NOBODY))[0] == 403


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("totals?range=8d", "range:"),
        ("totals?by=model", "by: is no parameter"),
        ("totals?session=s1", "session: sums are not kept by session"),
        ("chart?by=session", "by:"),
        ("chart?measure=joy", 'measure: "joy" is none of cost, tokens'),
        ("table?sort=joy", "sort:"),
        ("table?limit=0", "limit:"),
        ("errors?limit=1000", "limit:"),
    ],
)
async def test_a_wrong_query_is_named(get, path, message):
    status, body = await get(f"/api/reports/{path}")
    assert (status, message in body["error"]["message"]) == (400, True), body


async def test_a_store_that_cannot_be_read_is_a_503(aiohttp_client):
    client = await aiohttp_client(application(Broken()))
    async with client.get("/api/reports/totals", headers={"x-test-login": ADMIN}) as response:
        assert response.status == 503
