"""Tests of the reports of the API: whose calls a reader sees in each report, and figures that need several queries."""

from datetime import UTC, datetime

import pytest
from multidict import MultiDict

from gateway.contract.flag import Usage
from gateway.store.reports.values import OTHERS
from gateway.web.admin.reports import Reports, dimension_of
from gateway.web.admin.sessions import Denied
from gateway.web.header_terms import HeaderRights
from gateway.web.query_parameters import BadQuery
from gateway.web.reports.page_filter import parse_filter
from tests.helpers.records import NOON, Kept, record

ADA, BOB = "ada@example.com", "bob@example.com"
DAY = 86_400
NOW = NOON + 60


def wanted(**parameters):
    return parse_filter(MultiDict(parameters), now=NOW)


CALLS = [
    record(id="a1", identity=ADA, session_id="sa", model="opus", cost=10, at=NOON, tools=("Bash",)),
    record(id="a2", identity=ADA, session_id="sa", model="opus", cost=5, at=NOON - 7 * DAY),
    record(
        id="a3", identity=ADA, session_id="sa", outcome="failed", status=500, error="upstream", error_message="ada's",
        cost=0, at=NOON - DAY,
    ),
    record(id="b1", identity=BOB, session_id="sb", agent="codex", cost=100, at=NOON, usage=Usage(cache_read=9)),
    record(
        id="b2", identity=BOB, session_id="sb", outcome="failed", status=500, error="upstream", error_message="bob's",
        cost=0, cache_saved=-50, at=NOON,
    ),
]  # fmt: skip


ALL = HeaderRights(("x-team", "x-project"), lambda _: True)


@pytest.fixture
async def store(tmp_path):
    store = Kept(tmp_path / "irisgate.db")
    for call in CALLS:
        store.put(call)
    await store.flush()
    yield store
    await store.close()


@pytest.fixture
def everybody(store):
    return Reports(store, "root@example.com", admin=True, headers=ALL)


@pytest.fixture
def adas(store):
    return Reports(store, ADA, admin=False, headers=ALL)


REPORTS = {
    "totals": lambda reports, asked: reports.totals(asked),
    "trend": lambda reports, asked: reports.trend(asked),
    "chart": lambda reports, asked: reports.chart(asked, "user", "cost"),
    "table": lambda reports, asked: reports.table(asked, "user"),
    "errors": lambda reports, asked: reports.errors(asked),
    "models": lambda reports, asked: reports.models(asked),
    "activity": lambda reports, asked: reports.activity(asked),
    "tools": lambda reports, asked: reports.tools(asked),
    "names": lambda reports, _: reports.names(),
    "sessions": lambda reports, asked: reports.sessions(asked, limit=10),
    "timeline": lambda reports, asked: reports.timeline(asked, "sa"),
    "health": lambda reports, _: reports.health(),
}


@pytest.mark.parametrize("report", REPORTS)
async def test_a_user_sees_nothing_of_others(adas, report):
    """Check that a user's report is about the user's own calls only, and names nothing of other users' calls."""
    mine = await REPORTS[report](adas, wanted(range="30d", compare="1"))
    assert mine == await REPORTS[report](adas, wanted(range="30d", compare="1", user=ADA))
    for foreign in ("bob", "b1", "b2", "codex", "sb"):
        assert f"{foreign}'" not in repr(mine)
        assert f"'{foreign}" not in repr(mine)


@pytest.mark.parametrize("report", sorted(set(REPORTS) - {"names", "health"}))
async def test_a_user_may_not_ask_for_somebody_else(adas, report):
    with pytest.raises(Denied):
        await REPORTS[report](adas, wanted(user=BOB))
    with pytest.raises(Denied):
        await REPORTS[report](adas, wanted(user="root@example.com"))


async def test_a_users_totals_are_of_own_calls(adas, everybody):
    mine, all_of_it = await adas.totals(wanted()), await everybody.totals(wanted())
    assert (mine.now.figures.calls, mine.now.figures.known_cost, mine.now.people) == (2, 10, 1)
    assert (all_of_it.now.figures.calls, all_of_it.now.figures.known_cost, all_of_it.now.people) == (4, 110, 2)
    assert await everybody.totals(wanted(user=ADA)) == mine


async def test_totals_are_compared_with_the_range_before(everybody):
    both = await everybody.totals(wanted(compare="1"))
    assert (both.now.figures.calls, both.before.figures.calls) == (4, 1)
    assert (await everybody.totals(wanted())).before is None


async def test_a_chart_has_the_largest_lines_and_one_of_the_rest(everybody):
    chart = await everybody.chart(wanted(compare="1"), "user", "cost", lines=1)
    assert [(line.name, line.total) for line in chart.lines] == [(BOB, 100), (OTHERS, 10)]
    assert len(chart.before) == len(chart.buckets) == 7
    assert sum(chart.before) == 5


async def test_a_table_is_sorted_and_cut(everybody):
    table = await everybody.table(wanted(), "user", sort="wasted", limit=1)
    assert ([row.name for row in table.rows], table.size) == ([BOB], 2)
    assert table.rows[0].figures.cache_saved == -50
    following = await everybody.table(wanted(), "user", sort="name", limit=1, offset=1)
    assert [row.name for row in following.rows] == [BOB]
    with pytest.raises(BadQuery, match=r"^sort:"):
        await everybody.table(wanted(), "user", sort="luck")


async def test_a_session_is_listed_in_each_range_in_which_it_was_active(everybody):
    assert [row.id for row in (await everybody.sessions(wanted(range="today"), limit=9)).rows] == ["sb", "sa"]
    earlier = wanted(**{"from": "2026-11-15", "to": "2026-11-16"})
    assert [row.id for row in (await everybody.sessions(earlier, limit=9)).rows] == ["sa"]
    assert [row.id for row in (await everybody.sessions(wanted(status="5xx", agent="codex"), limit=9)).rows] == []
    assert [row.id for row in (await everybody.sessions(wanted(session="sb"), limit=9)).rows] == ["sb"]
    assert [call.id for call in await everybody.timeline(wanted(), "sa")] == ["a2", "a3", "a1"]


async def test_health_names_the_last_error_to_admins_alone(adas, everybody):
    (all_of_it,) = [row for row in await everybody.health() if row.last_error]
    assert (all_of_it.last_error, all_of_it.last_error_message, all_of_it.last_error_call) == (
        "upstream",
        "bob's",
        "b2",
    )
    (mine,) = [row for row in await adas.health() if row.last_error]
    assert (mine.last_error, mine.last_error_message, mine.last_error_call) == ("upstream", "", "")


async def test_people_are_active_by_day_week_and_on_four_of_seven_days(tmp_path):
    store = Kept(tmp_path / "people.db")
    monday = datetime(2026, 11, 16, 9, tzinfo=UTC).timestamp()
    for day in range(4):
        store.put(record(id=f"a{day}", identity=ADA, at=monday + day * DAY))
    store.put(record(id="b", identity=BOB, at=monday))
    await store.flush()
    activity = await Reports(store, ADA, admin=True, headers=ALL).activity(
        wanted(**{"from": "2026-11-16", "to": "2026-11-22"})
    )
    await store.close()
    assert [people for _, people in activity.days] == [2, 1, 1, 1, 0, 0, 0]
    assert [people for _, people in activity.weeks] == [2]
    assert [people for _, people in activity.four_of_seven] == [0, 0, 0, 1, 1, 1, 1]


def test_a_dimension_that_does_not_exist_is_named():
    assert dimension_of("status") == "status"
    with pytest.raises(BadQuery, match=r"^by:"):
        dimension_of("identity")
