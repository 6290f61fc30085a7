"""Tests of the API's lists of calls and sessions with a filter by a recorded request header: what is found, and who may
use the filter.
"""

from urllib.parse import quote

import pytest

from gateway.contract.http_headers import header_value
from tests.helpers.records import NOON, record
from tests.web.dashboard.application import ADMIN, NOBODY, POOR, USER

BOB = "bob@example.com"


@pytest.fixture
async def filled(store):
    calls = [
        record(id="a", at=NOON, session_id="s1", headers={"x-team": "alpha"}),
        record(id="b", at=NOON + 1, session_id="s2", headers={"x-team": "beta", "x-project": "p1"}),
        record(id="c", at=NOON + 2, session_id="s3", headers={"x-team": "alpha"}, identity=BOB),
        record(id="d", at=NOON + 3, session_id="s4"),
        record(id="e", at=NOON + 4, session_id="s5", headers={"x-team": ""}),
    ]
    for call in calls:
        store.put(call)
    await store.flush()


@pytest.mark.parametrize(
    ("term", "login", "ids"),
    [
        ("x-team", ADMIN, "ecba"),
        ("X-Team: alpha ", ADMIN, "ca"),
        ("x-team:alpha", USER, "a"),
        ("x-team", USER, "eba"),
        ("x-team:", ADMIN, "e"),
        ("x-project:p1", ADMIN, "b"),
        ("x-team:ALPHA", ADMIN, ""),
        ("", ADMIN, "edcba"),
    ],
)
async def test_lists_have_the_calls_and_sessions_with_the_header(filled, get, term, login, ids):
    _, calls = await get(f"/api/calls?header={quote(term)}", login)
    _, sessions = await get(f"/api/sessions?header={quote(term)}", login)
    assert "".join(call["id"] for call in calls["calls"]) == ids
    assert [session["id"] for session in sessions["sessions"]] == [f"s{'abcde'.index(name) + 1}" for name in ids]


async def test_the_calls_of_a_session_are_filtered_too(filled, get):
    found = [
        (await get(f"/api/sessions/s1/calls?header={term}"))[1]["calls"] for term in ("x-team:alpha", "x-team:beta")
    ]
    assert [len(calls) for calls in found] == [1, 0]
    assert found[0][0]["headers"] == {"x-team": "alpha"}


@pytest.mark.parametrize(
    ("term", "login", "users"),
    [
        ("X-Team: alpha ", ADMIN, {USER: 1, BOB: 1}),
        ("x-team:alpha", USER, {USER: 1}),
        ("x-team", ADMIN, {USER: 3, BOB: 1}),
        ("x-team:gamma", ADMIN, {}),
        ("", ADMIN, {USER: 4, BOB: 1}),
    ],
)
async def test_usage_sums_the_calls_with_the_header(filled, get, term, login, users):
    status, body = await get(f"/api/usage?by=user&header={quote(term)}", login)
    assert (status, {row["user"]: row["calls"] for row in body["usage"]}) == (200, users)


GRANTED = 'access denied: no grant lets you filter by the header "{}" (filterable_headers)'


@pytest.mark.parametrize(
    ("term", "login", "status", "error"),
    [
        # whether a header is recorded is not told to those who may not filter by it
        ("x-project", USER, 403, GRANTED.format("x-project")),
        ("x-unknown", USER, 403, GRANTED.format("x-unknown")),
        ("x-team", POOR, 403, GRANTED.format("x-team")),
        ("x-team", NOBODY, 403, "access denied: no role granted"),
        ("x-former:a", USER, 400, 'header: "x-former" is not recorded; the headers to filter by are: x-team'),
        (
            "x-unknown",
            ADMIN,
            400,
            'header: "x-unknown" is not recorded; the headers to filter by are: x-team, x-project',
        ),
        ("a b", ADMIN, 400, 'header: "a b" names no header; write "x-team" or "x-team:alpha"'),
        (":alpha", ADMIN, 400, 'header: ":alpha" names no header; write "x-team" or "x-team:alpha"'),
    ],
)
@pytest.mark.parametrize("path", ["/api/calls", "/api/sessions", "/api/sessions/s1/calls", "/api/usage"])
async def test_a_filter_that_is_not_granted_or_not_recorded_is_refused(filled, get, path, term, login, status, error):
    seen, body = await get(f"{path}?header={quote(term)}", login)
    assert seen == status
    assert body["error"] in (error, {"message": error})


async def test_somebody_elses_calls_stay_hidden_behind_a_granted_header(filled, get):
    assert (await get(f"/api/calls?header=x-team&identity={BOB}", USER))[0] == 403
    _, body = await get("/api/calls?header=x-team:alpha", USER)
    assert {call["identity"] for call in body["calls"]} == {USER}


NASTY = "<img src=x onerror=alert(1)>\u202e"


@pytest.mark.parametrize("value", ["é" * 300, "\x00", NASTY, "a" * 5000, "שלום", "a  b", "100%", "a:b"])
async def test_any_value_is_asked_as_it_would_be_recorded(store, get, value):
    store.put(record(headers={"x-team": header_value(value)}))
    await store.flush()
    _, body = await get(f"/api/calls?header=x-team:{quote(value)}")
    assert [call["headers"]["x-team"] for call in body["calls"]] == [header_value(value)]


async def test_bytes_that_are_no_text_find_nothing(filled, get):
    assert await get("/api/calls?header=x-team:%ED%B2%80%FF", ADMIN) == (200, {"calls": [], "next": None})
