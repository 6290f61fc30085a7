"""Tests of the CSV files of the pages Errors, Models, Cache and Sessions.

A file has the rows of the page's table, with the page's filter.
"""

import csv
import io
import re

import pytest

from gateway.contract.flag import Usage
from gateway.web.dashboard import sessions
from tests.helpers.records import HAIKU, NOON, record
from tests.web.dashboard.application import ADMIN, USER

DAYS = "range=custom&from=2026-11-23&to=2026-11-23"
FORMULA = "=cmd|' /C calc'!A0"


@pytest.fixture
def table(client):
    """Return a function that gets a page as a CSV file, and returns the file's name and its rows as dicts."""

    async def table(path, login=ADMIN):
        async with client.get(
            f"{path}{'&' if '?' in path else '?'}{DAYS}&format=csv", headers={"x-test-login": login}
        ) as reply:
            text = await reply.text()
            assert (reply.status, reply.content_type) == (200, "text/csv"), text
            name = re.search(r'filename="(.*)"', reply.headers["content-disposition"])[1]
        return name, list(csv.DictReader(io.StringIO(text)))

    return table


@pytest.fixture
async def calls(store):
    usage = Usage(input=100, output=20, cache_read=700, cache_write_5m=200)
    failed = {"outcome": "failed", "status": 503, "error": "overloaded", "error_message": FORMULA}
    made = {"identity": USER, "provider": "bedrock", "model": HAIKU, "usage": usage, "cache_saved": 50_000}
    store.put(record(id="a", **made))
    store.put(record(id="b", **{**made, **failed, "at": NOON + 60}))
    store.put(record(id="c", **{**made, "identity": "eve@example.com", "session_id": "s2", "cost": None}))
    await store.flush()


@pytest.mark.usefixtures("calls")
async def test_errors_are_a_file(table):
    name, rows = await table("/ui/errors")
    assert name == "irisgate-errors-2026-11-23-2026-11-23.csv"
    (row,) = rows
    assert (row["code"], row["provider"], row["calls"], row["example"]) == ("overloaded", "bedrock", "1", "b")
    # a spreadsheet computes nothing from it
    assert row["message"] == f"'{FORMULA}"


@pytest.mark.usefixtures("calls")
async def test_models_are_a_file_with_what_is_configured_and_what_happened(table):
    _, rows = await table("/ui/providers")
    by_name = {(row["provider"], row["model"]): row for row in rows}
    assert set(by_name) >= {("bedrock", HAIKU), ("lab", "tiny"), ("old", "x'y")}
    row = by_name["bedrock", HAIKU]
    assert (row["calls"], row["errors"], row["last_error"]) == ("3", "1", "overloaded")
    assert row["last_error_at"].startswith("2026-11-23T12:01:")
    assert by_name["lab", "tiny"]["calls"] == "0"


@pytest.mark.usefixtures("calls")
async def test_the_cache_is_a_file_by_the_chosen_split(table):
    name, rows = await table("/ui/cache?by=user")
    assert name.startswith("irisgate-cache-by-user-")
    assert {row["user"]: row["cache_read"] for row in rows} == {USER: "1400", "eve@example.com": "700"}
    _, rows = await table("/ui/cache?by=model")
    assert [(row["model"], row["cache_read"]) for row in rows] == [(HAIKU, "2100")]


@pytest.mark.usefixtures("calls")
async def test_sessions_are_a_file_with_the_filter_of_the_page(table):
    _, rows = await table("/ui/sessions")
    assert {row["session"]: (row["login"], row["calls"], row["failed"]) for row in rows} == {
        "s1": (USER, "2", "1"), "s2": ("eve@example.com", "1", "0"),
    }  # fmt: skip
    assert {row["session"]: row["cost_usd"] == "" for row in rows} == {"s1": False, "s2": True}
    _, rows = await table(f"/ui/sessions?user={USER}")
    assert [row["session"] for row in rows] == ["s1"]


@pytest.mark.usefixtures("calls")
async def test_a_user_gets_own_rows_alone(table, get):
    _, rows = await table("/ui/sessions", USER)
    assert [row["login"] for row in rows] == [USER]
    _, rows = await table("/ui/providers", USER)
    assert {row["model"] for row in rows} == {HAIKU}
    # the messages of errors are for admins
    assert {row["last_error_message"] for row in rows} == {""}
    for path in ("/ui/errors", "/ui/sessions", "/ui/cache", "/ui/providers"):
        assert f"{path}?" in (await get(path))[1]
        assert "format=csv" in (await get(path))[1]
        assert (await get(f"{path}?format=xml"))[0] == 400


async def test_a_cancelled_call_does_not_look_like_a_failed_one(store, get):
    for outcome in ("ok", "cancelled", "failed"):
        store.put(record(id=outcome, outcome=outcome, identity=USER))
    await store.flush()
    chips = {outcome: re.search(r'<span class="(chip \w+)">\d+ ', (await get(f"/ui/calls?id={outcome}"))[1])[1]
             for outcome in ("ok", "cancelled", "failed")}  # fmt: skip
    assert chips == {"ok": "chip good", "cancelled": "chip ended", "failed": "chip off"}


@pytest.mark.usefixtures("calls")
async def test_a_file_of_sessions_has_all_steps(table, monkeypatch):
    """Check that the CSV file of the page Sessions has all sessions, even if they are read one at a time, but at most
    `MOST` of them.
    """
    _, whole = await table("/ui/sessions")
    assert len(whole) > 1
    monkeypatch.setattr(sessions, "STEP", 1)
    assert (await table("/ui/sessions"))[1] == whole
    monkeypatch.setattr(sessions, "MOST", 1)
    assert (await table("/ui/sessions"))[1] == whole[:1]
