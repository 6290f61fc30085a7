"""Tests that reports equal a recount of the calls, also in time zones with half-hour offsets and when clocks change."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from random import Random
from zoneinfo import ZoneInfo

import pytest

from gateway.contract.flag import Usage
from gateway.store.histogram import count, unpacked
from gateway.store.reports.pieces import parts_within, shares
from gateway.store.reports.values import Selection, Span
from gateway.store.units import DAY, QUARTER, UNITS
from gateway.web.reports.ranges import preset_range
from tests.helpers.postgres import kept_in_postgres
from tests.helpers.records import Kept, record

NOW = datetime(2026, 11, 10, 13, 7, tzinfo=UTC).timestamp()
"""The time at which reports are read: 10 November 2026, a few weeks after the clocks changed in Europe, in America and
on Lord Howe Island.
"""
ZONES = ("UTC", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe")
USERS = ("ada@example.com", "bob@example.com", "")
MODELS = ("opus", "haiku")


def one(number, chance):
    outcome = chance.choice(["ok"] * 6 + ["failed", "refused", "cancelled"])
    is_failed = outcome in {"failed", "refused"}
    return record(
        id=f"req_{number}",
        at=NOW - chance.random() * 60 * 86_400,
        identity=chance.choice(USERS),
        session_id=f"s{number % 40}",
        provider="" if outcome == "refused" else chance.choice(["bedrock", "openai"]),
        model=chance.choice(MODELS),
        agent=chance.choice(["curl", "codex"]),
        api=chance.choice(["openai_chat", "anthropic_messages"]),
        status=chance.choice([429, 500]) if is_failed else 200,
        outcome=outcome,
        error=chance.choice(["rate_limit", "upstream"]) if is_failed else "",
        error_message=f"too many tokens: {number}" if is_failed else "",
        usage=Usage(input=number, output=2, cache_read=chance.randint(0, 9)),
        cost=None if number % 10 == 0 else number,
        cache_saved=chance.randint(-5, 50),
        tools=tuple(chance.choices(["Bash", "Read"], k=number % 3)),
        duration_ms=chance.uniform(10, 90_000),
        first_event_ms=chance.choice([None, 400.0, 4_000.0]),
    )


@pytest.fixture(scope="module")
def calls():
    chance = Random(7)
    return [one(number, chance) for number in range(1_500)]


@pytest.fixture
async def reports(filled):
    store = filled()
    yield store.reports
    await store.close()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def filled(request, tmp_path_factory, calls):
    """Store the calls. Return a function that opens the store."""
    path = tmp_path_factory.mktemp("reports") / "irisgate.db"
    opening = kept_in_postgres() if request.param == "postgres" else lambda: Kept(path)

    async def fill():
        store = opening()
        for call in calls:
            store.put(call)
        await store.flush()
        await store.close()

    asyncio.run(fill())
    return opening


def within(calls, span, **equal):
    """Return the calls that begin in a range of time and whose fields have the values in `equal`."""
    # the store keeps milliseconds
    chosen = [call for call in calls if span.since <= round(call.at * 1000) / 1000 < span.until]
    return [call for call in chosen if all(getattr(call, name) == value for name, value in equal.items())]


def model_of(call):
    return call.model if call.provider else ""


SELECTIONS = [
    ({}, {}),
    ({"user": "ada@example.com"}, {"identity": "ada@example.com"}),
    ({"user": ""}, {"identity": ""}),
    ({"agent": "codex", "outcome": "failed"}, {"agent": "codex", "outcome": "failed"}),
    ({"provider": "openai", "api": "openai_chat"}, {"provider": "openai", "api": "openai_chat"}),
    ({"status": (429, 429)}, {"status": 429}),
]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("preset", ["24h", "30d", "12m"])
async def test_figures_of_each_bucket_equal_a_recount(reports, calls, zone, preset):
    wanted = preset_range(preset, ZoneInfo(zone), NOW)
    buckets = wanted.buckets()
    for selected, equal in SELECTIONS:
        summaries = await reports.summaries(Selection(span=wanted.span, **selected), buckets)
        for span, summary in zip(buckets, summaries, strict=True):
            right = within(calls, span, **equal)
            figures = summary.figures
            assert figures.calls == len(right)
            assert figures.failed == sum(call.outcome != "ok" for call in right)
            assert (figures.errors, figures.cancelled) == (
                sum(call.outcome in {"failed", "refused"} for call in right),
                sum(call.outcome == "cancelled" for call in right),
            )
            assert figures.usage.input == sum(call.usage.input for call in right)
            assert figures.known_cost == sum(call.cost or 0 for call in right)
            assert figures.cost_unknown_calls == sum(call.cost is None for call in right)
            assert figures.cache_saved == sum(call.cache_saved for call in right)
            assert summary.people == len({call.identity for call in right} - {""})
            durations = [call.duration_ms for call in right if call.outcome == "ok"]
            assert summary.duration.counts == unpacked(count(durations))
            first_events = [call.first_event_ms for call in right if call.first_event_ms is not None]
            assert summary.first_event.counts == unpacked(count(first_events))


@pytest.mark.parametrize("zone", ZONES)
async def test_stacks_and_tables_equal_a_recount(reports, calls, zone):
    wanted = preset_range("30d", ZoneInfo(zone), NOW)
    buckets = wanted.buckets()
    selection = Selection(span=wanted.span)
    for by, name_of in (("model", model_of), ("user", lambda call: call.identity), ("agent", lambda call: call.agent)):
        stack = await reports.stack(selection, buckets, by, "cost")
        costs = [Counter() for _ in buckets]
        for cost, span in zip(costs, buckets, strict=True):
            for call in within(calls, span):
                cost[name_of(call)] += call.cost or 0
        assert stack.amounts == {name: tuple(cost[name] for cost in costs) for name in stack.amounts}
        assert set(stack.amounts) == {name for cost in costs for name in cost}
        rows = await reports.rows(selection, by)
        assert {row.name: row.figures.calls for row in rows} == Counter(
            name_of(call) for call in within(calls, wanted.span)
        )
        ranking = await reports.ranking(selection, by, "cost")
        assert {row.name: (row.amount, row.unknown_cost) for row in ranking} == {
            row.name: (row.figures.known_cost, row.figures.cost_unknown_calls) for row in rows
        }
        assert [row.amount for row in ranking] == sorted((row.amount for row in ranking), reverse=True)


@pytest.mark.parametrize("preset", ["7d", "12m"])
@pytest.mark.parametrize("latencies", [True, False])
async def test_a_row_has_the_quarter_hour_of_its_last_call(reports, calls, preset, latencies):
    wanted = preset_range(preset, ZoneInfo("Asia/Kathmandu"), NOW)
    for by, field in (("user", "identity"), ("agent", "agent"), ("model", "model")):
        chosen = [call for call in within(calls, wanted.span, outcome="failed") if model_of(call)]
        last = {}
        for call in chosen:
            name = getattr(call, field)
            last[name] = max(last.get(name, 0), call.at // 900 * 900)
        rows = await reports.rows(Selection(span=wanted.span, outcome="failed"), by, latencies=latencies)
        assert {row.name: row.last_at for row in rows} == last
        assert all((row.duration.calls, row.first_event.calls) == (0, 0) for row in rows if not latencies)


@pytest.mark.parametrize("zone", ZONES)
async def test_errors_and_tools_equal_a_recount(reports, calls, zone):
    wanted = preset_range("30d", ZoneInfo(zone), NOW)
    errors = await reports.errors(Selection(span=wanted.span), wanted.buckets(), 100)
    right = [call for call in within(calls, wanted.span) if call.error]
    assert {(row.code, row.provider): row.calls for row in errors.rows} == Counter(
        (call.error, call.provider) for call in right
    )
    assert sum(row.calls for row in errors.messages) == len(right)
    tools = await reports.tools(Selection(span=wanted.span), 10)
    uses = Counter(tool for call in within(calls, wanted.span) for tool in call.tools)
    assert {row.name: row.calls for row in tools} == uses


async def test_messages_of_one_kind_have_the_last_call_as_an_example(reports, calls):
    span = Span(NOW - 60 * 86_400 // 900 * 900, NOW + 900)
    span = Span(span.since // 900 * 900, span.until // 900 * 900)
    errors = await reports.errors(Selection(span=span), [span], 100)
    for row in errors.messages:
        same = [call for call in calls if (call.error, call.provider) == (row.code, row.provider)]
        last = max(same, key=lambda call: call.at)
        assert (row.example, row.message) == (last.id, last.error_message)


async def test_a_callers_errors_have_only_own_examples(reports, calls):
    """Check that a caller's list of errors has only messages and example calls of this caller. Another caller may have
    had the same error more recently.
    """
    span = Span((NOW - 60 * 86_400) // 900 * 900, (NOW + 900) // 900 * 900)
    for user in USERS:
        errors = await reports.errors(Selection(span=span, user=user), [span], 100)
        own = {call.id: call.error_message for call in calls if call.identity == user}
        assert errors.messages
        assert all(own[row.example] == row.message for row in errors.messages)


async def test_names_of_a_caller_are_those_of_own_calls(reports, calls):
    names = await reports.names("ada@example.com")
    own = [call for call in calls if call.identity == "ada@example.com"]
    assert names["user"] == ("ada@example.com",)
    assert set(names["agent"]) == {call.agent for call in own}
    assert set(names["model"]) == {model_of(call) for call in own} - {""}


@pytest.mark.parametrize("zone", ZONES)
def test_shares_cover_each_bucket_once(zone):
    """Check how a report composes its buckets, such as days, from stored sums of months, days, hours and quarter hours.

    A bucket adds some sums and subtracts others. In total, each quarter hour of the bucket must count exactly once, and
    no other quarter hour may count.
    """
    for preset in ("24h", "30d", "90d", "12m", "month"):
        buckets = preset_range(preset, ZoneInfo(zone), NOW).buckets()
        counts = [Counter() for _ in buckets]
        for table, parts in shares(buckets, UNITS).items():
            for (since, until), given in parts.items():
                assert all(UNITS[table].start(bound) == bound for bound in (since, until))
                for bucket, sign in given:
                    counts[bucket].update(dict.fromkeys(range(since, until, QUARTER), sign))
        for span, number in zip(buckets, counts, strict=True):
            quarters = range(round(span.since * 1000), round(span.until * 1000), QUARTER)
            assert {at: times for at, times in number.items() if times} == dict.fromkeys(quarters, 1)


def test_a_month_of_another_zone_needs_few_ranges():
    """Check that a report about a month in India reads the stored sum of the UTC month, and corrects it by hours and
    quarter hours, instead of reading the sums of all days.
    """
    months = preset_range("12m", ZoneInfo("Asia/Kolkata"), NOW).buckets()[:-1]
    parts = shares(months, UNITS)
    assert [(since, given) for (since, _), given in parts["month"].items()] == [
        (UNITS["month"].start(round(month.until * 1000) - DAY), [(number, 1)]) for number, month in enumerate(months)
    ]
    assert parts.keys() == {"month", "hour", "quarter"}
    # the hours between the months in UTC and in India are read once for both of their neighbours
    assert {len(given) for given in parts["hour"].values()} == {1, 2}
    assert len(parts["hour"]) == len(months) + 1


def test_parts_within_a_bucket_cover_it_once():
    zone = ZoneInfo("Asia/Kathmandu")
    for preset in ("24h", "30d", "12m"):
        buckets = preset_range(preset, zone, NOW).buckets()
        parts = parts_within(buckets, UNITS)
        for number, bucket in enumerate(buckets):
            own = sorted(part for each in parts.values() for part in each if part.bucket == number)
            assert own[0].since == round(bucket.since * 1000)
            assert own[-1].until == round(bucket.until * 1000)
            assert all(one.until == other.since for one, other in pairwise(own))


async def test_a_name_that_has_calls_only_beside_the_range_has_no_row(tmp_path):
    """Check that a caller without calls in the range of a report has no row in the report.

    A report about a month in India reads the sums of the UTC month, and subtracts the hours outside the Indian month.
    For this caller, the difference is zero.
    """
    zone = ZoneInfo("Asia/Kolkata")
    wanted = preset_range("last-month", zone, NOW)
    store = Kept(tmp_path / "irisgate.db")
    store.put(record(id="within", at=wanted.span.since + 86_400, identity="ada@example.com"))
    store.put(record(id="after", at=wanted.span.until + 60, identity="bob@example.com", model="other"))
    await store.flush()
    selection, reports = Selection(span=wanted.span), store.reports
    assert {row.name for row in await reports.rows(selection, "user")} == {"ada@example.com"}
    assert set((await reports.stack(selection, [wanted.span], "user", "cost")).amounts) == {"ada@example.com"}
    assert [row.name for row in await reports.ranking(selection, "user", "calls")] == ["ada@example.com"]
    assert await reports.people(selection, [wanted.span]) == [{"ada@example.com"}]
    assert len((await reports.models(selection, [wanted.span])).rows) == 1
    await store.close()
