"""Tests of the filter that selects calls by a recorded request header.

The filter is used on the pages, in the files that users download from the pages, and in /api/reports. The tests check
the figures of the selected calls, the buttons that show and remove the filter, and who may use the filter.
"""

import csv
import io
import re
from html import unescape
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from gateway.contract.flag import Usage
from gateway.contract.http_headers import header_value
from gateway.store import few_calls, header_index
from tests.helpers.records import HAIKU, NOON, record
from tests.web.dashboard.application import ADMIN, POOR, USER

DAY = "range=custom&from=2026-11-23&to=2026-11-23"
BOB = "bob@example.com"
PAGES = ("/ui/", "/ui/sessions", "/ui/people", "/ui/cache", "/ui/errors", "/ui/providers")
REPORTS = ("totals", "chart", "table", "errors")
NASTY = "<img src=x onerror=alert(1)>\"'&"


def made(key, headers, **more):
    usage = Usage(input=100, output=20, cache_read=700)
    fixed = {
        "provider": "bedrock",
        "model": HAIKU,
        "usage": usage,
        "cost": 1_000_000_000,
        "session_id": f"session-{key}",
    }
    return record(id=key, headers=headers, **{**fixed, **more})


@pytest.fixture
async def calls(store):
    failed = {"outcome": "failed", "status": 503, "error": "overloaded", "error_message": "no room"}
    for call in (
        made("a", {"x-team": "alpha"}),
        made("b", {"x-team": "alpha"}, identity=BOB, **failed),
        made("c", {"x-team": "beta", "x-project": "p1"}, identity=BOB),
        made("d", {}),
        made("e", {"x-team": "alpha"}, at=NOON - 86_400),
    ):
        store.put(call)
    await store.flush()


@pytest.fixture
def page(client):
    async def page(path, login=ADMIN, status=200):
        async with client.get(path, headers={"x-test-login": login}) as reply:
            text = await reply.text()
            assert reply.status == status, text
            return text

    return page


def chips(html):
    return [unescape(chip) for chip in re.findall(r'<li class="picked"><span class="name"[^>]*>([^<]*)</span>', html)]


@pytest.mark.parametrize(
    ("term", "login", "counts"),
    [
        ("x-team", ADMIN, 3),
        ("x-team:alpha", ADMIN, 2),
        ("x-team:beta", ADMIN, 1),
        ("x-project:p1", ADMIN, 1),
        ("x-team:none", ADMIN, 0),
        ("x-team:alpha", USER, 1),
        ("x-team:beta", USER, 0),
    ],
)
async def test_figures_are_those_of_the_calls_with_the_header(calls, get, term, login, counts):
    query = f"{DAY}&header={quote(term)}"
    _, totals = await get(f"/api/reports/totals?{query}", login)
    _, table = await get(f"/api/reports/table?{query}&by=model", login)
    _, chart = await get(f"/api/reports/chart?{query}&measure=calls", login)
    _, errors = await get(f"/api/reports/errors?{query}", login)
    assert totals["now"]["calls"] == counts
    assert sum(row["calls"] for row in table["rows"]) == counts
    assert sum(sum(line["amounts"]) for line in chart["lines"]) == counts
    assert sum(line["calls"] for line in errors["lines"]) == (login == ADMIN and term in {"x-team", "x-team:alpha"})


async def test_the_range_before_is_filtered_too(calls, get):
    _, totals = await get(f"/api/reports/totals?{DAY}&header=x-team:alpha&compare=1", ADMIN)
    assert (totals["now"]["calls"], totals["before"]["calls"]) == (2, 1)


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_has_a_chip_and_keeps_the_header_on_the_way(calls, page, path):
    html = await page(f"{path}?{DAY}&header=X-Team:alpha&model={HAIKU}")
    assert chips(html) == [f"Model: {HAIKU}", "Header: x-team:alpha"]
    links = [urlsplit(unescape(link)) for link in re.findall(r'href="([^"]+)"', html)]
    for other in PAGES:
        kept = [parse_qs(link.query) for link in links if link.path == other and "header" in link.query]
        assert kept, other
        # the link in the navigation repeats the address as it was written
        assert {value.lower() for query in kept for value in query["header"]} == {"x-team:alpha"}
    without = re.search(r'href="([^"]*)" aria-label="Remove the filter Header"', html)[1]
    assert parse_qs(urlsplit(unescape(without)).query).keys() == {"range", "from", "to", "model"}
    # forms send the header again
    assert html.count('name="header"') == 2


async def test_sessions_and_files_are_filtered(calls, page):
    html = await page(f"/ui/sessions?{DAY}&header=x-team:alpha")
    assert sorted(set(re.findall(r"session-\w", html))) == ["session-a", "session-b"]
    text = await page(f"/ui/sessions?{DAY}&header=x-team:alpha&format=csv")
    assert sorted(row["session"] for row in csv.DictReader(io.StringIO(text))) == ["session-a", "session-b"]
    text = await page(f"/ui/people?{DAY}&header=x-team:beta&format=csv")
    assert [(row["login"], row["calls"]) for row in csv.DictReader(io.StringIO(text))] == [(BOB, "1")]


@pytest.mark.parametrize("path", [*PAGES[:2], *PAGES[3:], *(f"/api/reports/{name}" for name in REPORTS)])
@pytest.mark.parametrize(
    ("term", "login", "status"),
    [("x-project", USER, 403), ("x-team", POOR, 403), ("x-former", USER, 400), ("a b", ADMIN, 400)],
)
async def test_a_filter_that_is_not_granted_or_not_recorded_is_refused(calls, page, path, term, login, status):
    text = unescape(await page(f"{path}?header={quote(term)}", login, status))
    expected = {403: "no grant lets you filter by the header", 400: "header: "}
    assert expected[status] in text


def suggested(html):
    names = re.search(r'<datalist id="names-header">(.*?)</datalist>', html)
    return [unescape(value) for value in re.findall(r'value="([^"]*)"', names[1])] if names else None


async def test_a_field_suggests_the_values_that_its_reader_may_see(calls, page):
    everybody = ["x-team", "x-project", "x-team:alpha", "x-team:beta", "x-project:p1"]
    assert suggested(await page(f"/ui/?{DAY}")) == everybody
    # Bob's value "beta" and the header that is not granted stay hidden
    assert suggested(await page(f"/ui/?{DAY}", USER)) == ["x-team", "x-team:alpha"]
    assert suggested(await page(f"/ui/?{DAY}", POOR)) is None
    assert 'name="header"' not in await page(f"/ui/?{DAY}", POOR)


@pytest.mark.parametrize(
    "value", [NASTY, "שלום \u202e txt.exe", "é" * 10_000, "100%", "a&b=c#d", "'; DROP TABLE calls"]
)
async def test_any_value_is_text_on_every_page(store, page, value):
    recorded = header_value(value)
    store.put(made("a", {"x-team": recorded}))
    await store.flush()
    for path in PAGES:
        html = await page(f"{path}?{DAY}&header={quote(f'x-team:{recorded}')}")
        assert "<img" not in html
        (chip,) = chips(html)
        assert chip.startswith("Header: x-team:")
        assert suggested(html)[-1] == f"x-team:{recorded}"
    assert f">{HAIKU}<" in html
    assert recorded in unescape(await page("/ui/calls?id=a"))


@pytest.fixture
async def many(store, monkeypatch):
    """Store calls in which the header x-team has 10,000 values. The value t09999 has more calls than a report may read."""
    monkeypatch.setattr(few_calls, "MAX_CALLS", 3)
    for number in range(10_000):
        store.put(made(f"c{number}", {"x-team": f"t{number:05}"}, at=NOON + number % 3600))
    for number in range(3):
        store.put(made(f"d{number}", {"x-team": "t09999"}))
    await store.flush()
    assert header_index.MAX_VALUES < 10_000


async def test_ten_thousand_values_are_bounded_and_each_is_found(many, page, get):
    for value in ("t00001", "t09998"):
        _, totals = await get(f"/api/reports/totals?{DAY}&header=x-team:{value}", ADMIN)
        assert (totals["now"]["calls"], totals["now"]["cost_usd"]) == (1, 1.0)
        assert (await page(f"/ui/?{DAY}&header=x-team:{value}")).count("$1.00") >= 1
    assert len(suggested(await page(f"/ui/?{DAY}"))) == 202
    said = (
        '"x-team:t09999" has more than 3 calls in this range, and no sums, which only the first 1000 values of x-team '
        "have; choose a shorter range, or read its calls"
    )
    status, body = await get(f"/api/reports/totals?{DAY}&header=x-team:t09999", ADMIN)
    assert (status, body) == (400, {"error": {"message": f"header: {said}"}})
    assert said in unescape(await page(f"/ui/?{DAY}&header=x-team:t09999", status=400))
    _, listed = await get("/api/calls?header=x-team:t09999", ADMIN)
    assert [call["id"] for call in listed["calls"]][-3:] == ["d2", "d1", "d0"]
