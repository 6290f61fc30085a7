"""Tests of GET /api/usage and GET /api/calls/{id}: whose calls a caller sees, the errors for wrong queries, and the
formats JSON and CSV.
"""

import csv
import io

import pytest

from gateway.contract.flag import Usage
from gateway.store.base import UsageRow
from gateway.web.admin import usage as usage_route
from gateway.web.usage import formats
from gateway.web.usage.parameters import BadUsage, parse_parameters
from tests.helpers.records import HAIKU, NOON, Kept, record
from tests.web.dashboard.application import ADMIN, NOBODY, USER, application

BOB = "bob@example.com"
DAY = 86_400


@pytest.fixture
async def store(tmp_path):
    store = Kept(tmp_path / "irisgate.db")
    yield store
    await store.close()


@pytest.fixture
async def get(store, aiohttp_client):
    app = application(store)
    app.add_routes(usage_route.routes())
    client = await aiohttp_client(app)

    async def get(path, login=USER):
        async with client.get(path, headers={"x-test-login": login} if login else {}) as response:
            is_json = response.content_type == "application/json"
            return response.status, await response.json() if is_json else (response.headers, await response.read())

    return get


async def store_records(store, *records):
    for number, one in enumerate(records):
        store.put(record(**({"id": f"req_{number}"} | one)))
    await store.flush()


async def test_usage_is_summed_as_documented(store, get):
    await store_records(store, {}, {"cost": None}, {"outcome": "failed", "at": NOON + DAY})
    assert await get("/api/usage?by=user,day&from=2026-11-23&to=2026-11-23") == (
        200,
        {
            "usage": [
                {
                    "user": USER,
                    "day": "2026-11-23",
                    "calls": 2,
                    "failed": 0,
                    "tokens": {
                        "input": 200,
                        "output": 40,
                        "cache_read": 14,
                        "cache_write_5m": 10,
                        "cache_write_1h": 6,
                        "reasoning": 4,
                    },
                    "cost_usd": 0.001234567,
                    "cost_unknown_calls": 1,
                    "estimated_calls": 0,
                    "cache_saved_usd": 0.0,
                    "duration_ms": 3000,
                }
            ],
            "next": None,
            "truncated": False,
            "by": ["user", "day"],
            "from": "2026-11-23",
            "to": "2026-11-23",
        },
    )


async def test_both_ends_are_included(store, get):
    await store_records(store, *({"at": NOON + days * DAY} for days in range(4)))
    _, body = await get("/api/usage?by=day&from=2026-11-24&to=2026-11-25")
    assert [row["day"] for row in body["usage"]] == ["2026-11-24", "2026-11-25"]


async def test_hours_may_bound_what_is_grouped_by_hours(store, get):
    await store_records(store, *({"at": NOON + hours * 3600} for hours in range(4)))
    _, body = await get("/api/usage?by=hour&from=2026-11-23T13:00Z&to=2026-11-23T14")
    assert [row["hour"] for row in body["usage"]] == ["2026-11-23T13:00Z", "2026-11-23T14:00Z"]
    assert (body["from"], body["to"]) == ("2026-11-23T13:00Z", "2026-11-23T14:00Z")


async def test_without_groups_there_is_one_row(store, get):
    await store_records(store, {}, {"model": "opus"})
    _, body = await get("/api/usage")
    assert [row["calls"] for row in body["usage"]] == [2]


async def test_filters_narrow_what_is_summed(store, get):
    await store_records(store, {}, {"model": "opus"}, {"agent": "curl"}, {"provider": "lab"})
    for name, value, calls in [("model", "opus", 1), ("agent", "curl", 1), ("provider", "lab", 1), ("model", HAIKU, 3)]:
        _, body = await get(f"/api/usage?{name}={value}")
        assert (name, body["usage"][0]["calls"]) == (name, calls)


async def test_a_user_gets_their_own_usage_and_an_admin_everybodys(store, get):
    await store_records(store, {}, {"identity": BOB})

    async def users(path, login):
        return [row["user"] for row in (await get(path, login))[1]["usage"]]

    assert await users("/api/usage?by=user", USER) == [USER]
    assert await users(f"/api/usage?by=user&user={USER}", USER) == [USER]
    assert await users("/api/usage?by=user", ADMIN) == [USER, BOB]
    assert await users(f"/api/usage?by=user&user={BOB}", ADMIN) == [BOB]


@pytest.mark.parametrize("other", [BOB, "unheard-of@example.com"])
async def test_a_user_who_asks_for_somebody_else_is_refused_without_a_hint(store, get, other):
    await store_records(store, {"identity": BOB})
    refused = (403, {"error": "access denied: only an admin may read what others called"})
    assert await get(f"/api/usage?user={other}") == refused


@pytest.mark.parametrize("login", [NOBODY, ""])
async def test_a_caller_without_a_role_is_refused(get, login):
    assert await get("/api/usage", login) == (403, {"error": "access denied: no role granted"})


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("by=colour", 'by: "colour" is none of user, provider, model, agent, day, hour; '),
        ("by=user,", 'by: "" is none of '),
        ("from=yesterday", 'from: "yesterday" is no day; write one such as 2026-11-23'),
        ("from=2026-02-30", 'from: "2026-02-30" is in no calendar'),
        ("to=20261123", 'to: "20261123" is no day'),
        ("to=2026-11-23T24&by=hour", 'to: "2026-11-23T24" is in no calendar'),
        (
            "from=2026-11-23T12:30Z&by=hour",
            'from: "2026-11-23T12:30Z" is no day; write one such as 2026-11-23, or an h',
        ),
        ("from=2026-11-23T12", 'from: "2026-11-23T12" is an hour, which needs "hour" in "by"'),
        ("from=2026-11-24&to=2026-11-23", 'from: "2026-11-24" is later than "to"'),
        ("from=٢٠٢٦-11-23", "from: "),
        ("format=xml", 'format: "xml" is none of json, csv'),
        ("group=user", "group: is no parameter; there are by, from, to, "),
        ("by=user&by=model", "by: stands there more than once; keep one of them"),
    ],
)
async def test_a_wrong_parameter_is_named_with_what_would_be_right(get, query, message):
    status, body = await get(f"/api/usage?{query}")
    assert status == 400
    assert body["error"]["message"].startswith(message)


async def test_bytes_that_are_no_text_are_a_name_that_nobody_has(store, get):
    await store_records(store, {})
    status, body = await get("/api/usage?model=%ED%A0%80%FF")
    assert (status, body["usage"][0]["calls"]) == (200, 0)


async def test_csv_has_a_line_of_names_and_exact_money(store, get):
    await store_records(store, {"cost": 1}, {"cost": None, "model": "opus"})
    status, (headers, body) = await get("/api/usage?by=model&from=2026-11-01&to=2026-11-30&format=csv")
    assert status == 200
    assert headers["content-type"] == "text/csv; charset=utf-8"
    assert headers["content-disposition"] == 'attachment; filename="irisgate-usage-2026-11-01-2026-11-30.csv"'
    assert "x-irisgate-truncated" not in headers
    assert body.decode().split("\r\n") == [
        ",".join(["model", *formats.SUMS]),
        "opus,1,0,100,20,7,5,3,2,,1,0,0.000000000,1500",
        f"{HAIKU},1,0,100,20,7,5,3,2,0.000000001,0,0,0.000000000,1500",
        "",
    ]


@pytest.mark.parametrize(
    "name", ["=1+1", "+cmd", "-2", "@SUM(A1)", "\tx", '=HYPERLINK("http://evil")', "\n=1", "\uff1d1"]
)
async def test_a_cell_of_the_csv_is_never_a_formula(store, get, name):
    await store_records(store, {"model": name})
    _, (_, body) = await get("/api/usage?by=model&format=csv")
    row = list(csv.reader(io.StringIO(body.decode(), newline="")))[1]
    assert row[0] == f"'{name}"


async def test_quotes_commas_and_line_ends_in_names_stay_in_their_cell(store, get):
    name = 'a,"b"\r\nc'
    await store_records(store, {"agent": name})
    _, (_, body) = await get("/api/usage?by=agent&format=csv")
    assert [row[0] for row in csv.reader(io.StringIO(body.decode(), newline=""))] == ["agent", name]


async def test_an_answer_that_was_cut_says_so(store, get, monkeypatch):
    monkeypatch.setattr(formats, "MAX_ROWS", 2)
    await store_records(store, {}, {"model": "opus"})
    assert (await get("/api/usage?by=model"))[1]["truncated"] is True
    assert (await get("/api/usage?by=model&format=csv"))[1][0]["x-irisgate-truncated"] == "true"
    assert (await get("/api/usage?by=user"))[1]["truncated"] is False


def test_money_that_no_float_could_hold_is_exact_in_csv():
    sums = {"calls": 1, "failed": 0, "cost_unknown_calls": 0, "estimated_calls": 0, "cache_saved": 0, "duration_ms": 0}
    row = UsageRow(group={}, usage=Usage(), known_cost=123_456_789_012_345_678, **sums)
    assert b",123456789.012345678," in formats.as_csv(parse_parameters({}), [row])


def test_a_day_is_utcs_from_its_first_moment_to_its_last():
    query = parse_parameters({"from": "2026-11-23", "to": "2026-11-23"}).query
    assert (query.since, query.until) == (NOON - DAY / 2, NOON + DAY / 2)


def test_the_last_day_of_the_calendar_has_an_end():
    assert parse_parameters({"to": "9999-12-31"}).query.until == 253_402_300_800


def test_a_long_wrong_value_is_not_repeated_whole():
    with pytest.raises(BadUsage) as caught:
        parse_parameters({"from": "x" * 10_000})
    assert len(str(caught.value)) < 200


async def test_one_call_is_shown_with_everything(store, get):
    await store_records(store, {"id": "req_x", "node": "n1", "tier": "flex", "extra": {"web_search": 2}})
    status, call = await get("/api/calls/req_x")
    assert status == 200
    assert call == record(id="req_x", node="n1", tier="flex", extra={"web_search": 2}).as_dict() | {
        "at": "2026-11-23T12:00:00.000Z"
    }


async def test_an_admin_may_read_any_call(store, get):
    await store_records(store, {"id": "req_x", "identity": BOB})
    assert (await get("/api/calls/req_x", ADMIN))[1]["identity"] == BOB


async def test_a_call_of_somebody_else_looks_like_none(store, get):
    await store_records(store, {"id": "req_x", "identity": BOB})
    for name in ("req_x", "req_y"):
        assert await get(f"/api/calls/{name}") == (404, {"error": {"message": f'call "{name}" not found'}})


@pytest.mark.parametrize("login", [NOBODY, ""])
async def test_a_call_is_nothing_for_a_caller_without_a_role(get, login):
    assert await get("/api/calls/req_x", login) == (403, {"error": "access denied: no role granted"})


def test_hours_without_a_first_one_are_those_of_the_last_week():
    now = 1_795_435_200.0  # 2026-11-23 12:00 UTC
    wanted = parse_parameters({"by": "hour"}, now=now)
    assert (wanted.first, wanted.query.since) == ("2026-11-16", now - 7.5 * 86_400)
    assert parse_parameters({"by": "hour", "to": "2026-03-10"}, now=now).first == "2026-03-04"
    assert parse_parameters({"by": "hour", "from": "2026-01-01"}, now=now).first == "2026-01-01"
    assert parse_parameters({"by": "day"}, now=now).first is None


def test_hours_without_a_first_one_begin_with_the_calendar_at_the_earliest():
    assert parse_parameters({"by": "hour", "to": "0001-01-02"}, now=0.0).first == "0001-01-01"
    assert parse_parameters({"by": "hour", "to": "0100-01-02"}, now=0.0).first == "0099-12-27"
