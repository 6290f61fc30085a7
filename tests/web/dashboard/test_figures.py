"""Tests of the pages with figures: whose calls a reader sees, sums with unknown costs, and CSV files.

A filter must be kept when the reader goes to another page.
"""

import re
from html import unescape
from time import time

import pytest

from gateway.call.context import GATEWAY
from gateway.contract.flag import Usage
from tests.helpers.records import HAIKU, NOON, YEAR, record
from tests.web.dashboard.application import ADMIN, USER

EVE = "eve@example.com"
FIGURES = ("/ui/", "/ui/sessions", "/ui/errors", "/ui/people", "/ui/cache", "/ui/providers")


@pytest.fixture
async def calls(store):
    now = time()
    store.put(record(id="a", at=now - 60, identity=USER, cost=2_000_000_000))
    store.put(record(id="b", at=now - 50, identity=USER, cost=None, model="a-model-without-price"))
    store.put(
        record(
            id="c", at=now - 40, identity=EVE, session_id="s2", cost=0, outcome="failed", status=429, error="rate_limit",
            error_native="ThrottlingException", error_message="Too many tokens, please wait",
        )
    )  # fmt: skip
    await store.flush()


@pytest.fixture
def text(get):
    async def text(path, login=ADMIN, status=200):
        code, html = await get(path, login)
        assert code == status, html
        return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())

    return text


@pytest.mark.usefixtures("calls")
async def test_the_overview_shows_a_sum_with_unknown_costs_as_a_lower_bound(text):
    page = await text("/ui/")
    assert "≥ $2.00" in page
    assert "+ 1 unpriced" in page
    assert "Calls with an unknown cost" in page
    assert "no known cost" in page


@pytest.mark.parametrize(
    ("earlier", "now", "shown", "change"),
    [(1, 2, "≤ 50 ms", ""), (1, 80, "86 ms", "▲ 73%"), (600_000, 700_000, "≥ 500.0 s", "")],
)
async def test_times_outside_the_histogram_are_shown_as_limits(store, text, earlier, now, shown, change):
    """Check that a very short time is shown as `≤ 50 ms`, and a very long one as `≥ 500.0 s`.

    If the time of the preceding range is also beyond this limit, no change is shown.
    """
    at = time()
    store.put(record(id="a", at=at - 60, first_event_ms=now, stream=True))
    store.put(record(id="b", at=at - 7 * 86_400 - 60, first_event_ms=earlier, stream=True))
    await store.flush()
    page = await text("/ui/?range=7d")
    (tile,) = re.findall(r"First event, p95 (.*?) Input from cache", page)
    assert tile.startswith(shown)
    assert re.findall(r"[▲▼±] ?\d+%", tile) == ([change] if change else [])


@pytest.mark.usefixtures("calls")
async def test_a_user_sees_own_figures_and_an_admin_everybodys(text):
    for path in FIGURES:
        if path != "/ui/people":
            assert EVE not in await text(path, USER), path
    assert EVE in await text("/ui/people")
    await text("/ui/people", USER, 403)
    await text(f"/ui/?user={EVE}", USER, 403)
    assert "Your quota" in await text("/ui/", USER)


@pytest.mark.usefixtures("calls")
async def test_errors_have_their_message_an_example_and_advice(text, get):
    page = await text("/ui/errors")
    assert "1 of 3 calls" in page
    for part in ("rate_limit", "ThrottlingException", "Too many tokens, please wait", "Ask the provider for more"):
        assert part in page
    assert "/ui/calls?id=c" in (await get("/ui/errors", ADMIN))[1]


@pytest.mark.usefixtures("calls")
async def test_a_filter_is_a_chip_and_stays_on_the_way_to_other_pages(get):
    _, html = await get(f"/ui/?range=30d&model={HAIKU}", ADMIN)
    assert f'href="/ui/cache?range=30d&amp;model={HAIKU.replace(":", "%3A")}"' in html
    assert f"Model: {HAIKU}" in html
    assert 'href="/ui/?range=30d" aria-label="Remove the filter Model"' in html


@pytest.mark.usefixtures("calls")
async def test_people_are_a_table_in_any_order_and_a_file(text, client):
    assert (await text("/ui/people?sort=name")).index(USER) < (await text("/ui/people?sort=name")).index(EVE)
    headers = {"x-test-login": ADMIN}
    async with client.get("/ui/people?format=csv", headers=headers) as reply:
        head, *rows = (await reply.text()).splitlines()
    assert head.startswith("login,calls,errors,")
    assert [row.split(",")[:3] for row in rows] == [[USER, "2", "0"], [EVE, "1", "1"]]


@pytest.mark.parametrize(
    "path", ["/ui/?measure=x", "/ui/?by=x", "/ui/?range=x", "/ui/people?sort=x", "/ui/cache?by=x", "/ui/errors?x=1"]
)
async def test_a_wrong_parameter_is_told_on_a_page(text, path):
    assert "The URL has a wrong parameter" in await text(path, ADMIN, 400)


async def test_empty_pages_say_what_to_do_next(text):
    assert "Point a coding tool at this gateway" in await text("/ui/")
    assert "Choose a longer time" in await text("/ui/errors")
    assert "Nobody called in this time" in await text("/ui/people")
    assert "No input in this time" in await text("/ui/cache")
    assert "No call is in flight" in await text("/ui/now")


@pytest.mark.usefixtures("calls")
async def test_the_overview_says_whether_all_is_well(text, client):
    assert "all is well What the calls cost" in await text("/ui/")
    gateway = client.server.app[GATEWAY]
    bedrock = gateway.runtime.config.providers["bedrock"]
    gateway.keys.refused(bedrock)
    page = await text("/ui/")
    assert "needs attention" in page
    assert "bedrock refuses the gateway's key. Models and providers" in page
    assert "refuses" not in await text("/ui/", USER)
    gateway.keys.accepted(bedrock)
    for _ in range(20):
        gateway.metrics.recent.observe(record(at=time(), outcome="failed"))
    assert "20 of 20 calls of the last five minutes failed. Errors" in await text("/ui/")


async def test_a_model_that_rests_is_a_trouble(text, client):
    gateway = client.server.app[GATEWAY]
    for _ in range(50):
        gateway.health.ended("lab", "tiny", failed=True, seconds=None)
    assert "1 model of lab rests." in await text("/ui/")


async def test_the_cache_page_names_who_saves_least(store, text):
    now = time() - 60
    for login, fresh, saved in ((USER, 900, 0), (EVE, 4000, 0), (ADMIN, 10, 70)):
        usage = Usage(input=fresh, cache_read=saved)
        store.put(record(id=login, at=now, identity=login, usage=usage, cache_saved=saved))
    await store.flush()
    page = await text("/ui/cache")
    assert f"The least was saved for {EVE} : 0% of 4,000 input tokens came from a cache." in page
    assert "least was saved" not in await text("/ui/cache?sort=saved")


async def test_a_refused_call_says_why_and_leads_to_the_missing_grant(store, text, get):
    refused = {"outcome": "refused", "status": 403, "error": "permission", "error_message": "no grant allows it"}
    store.put(record(id="r", at=time() - 60, identity=USER, model="o3 & more", provider="", **refused))
    await store.flush()
    page = await text("/ui/calls?id=r")
    assert "Refused by the gateway: permission no grant allows it No grant covers the caller or the model." in page
    _, html = await get("/ui/calls?id=r", ADMIN)
    assert f'href="/ui/access?as={USER.replace("@", "%40")}&amp;model=o3+%26+more"' in html
    _, html = await get("/ui/calls?id=r", USER)
    assert 'href="/ui/access?model=o3+%26+more"' in html


async def test_the_page_now_says_whether_a_restart_interrupts_anybody(text):
    assert "You can restart now: no call is in flight." in await text("/ui/now")


@pytest.mark.parametrize("path", ["/ui/sessions?{range}", "/ui/sessions/s1", "/ui/calls?id=a"])
async def test_times_are_those_of_the_readers_zone(store, client, path):
    store.put(record(id="a", at=NOON, identity=USER))
    await store.flush()
    headers = {"x-test-login": USER, "Cookie": "zone=Asia%2FKolkata"}
    async with client.get(path.format(range=YEAR), headers=headers) as reply:
        html = await reply.text()
    assert "2026-11-23 17:30:00 IST" in html or "2026-11-23 17:30:01 IST" in html
    assert not re.search(r"\d UTC\b", html)


async def test_a_provider_says_whether_the_last_calls_of_its_models_were_served(store, text):
    assert "last call" not in await text("/ui/providers")
    at = time() - 60
    failed = {"outcome": "failed", "status": 503, "error": "overloaded", "error_message": "no room"}
    store.put(record(id="a", at=at, **failed))
    await store.flush()
    assert "Amazon Bedrock bedrock the last call failed at 1 of 2 models" in await text("/ui/providers")
    store.put(record(id="b", at=at + 10))
    await store.flush()
    assert "Amazon Bedrock bedrock the last call of every model was served" in await text("/ui/providers")


async def test_kinds_of_input_have_the_same_colours_whatever_their_amounts(store, get):
    for number, (fresh, read) in enumerate(((10, 500), (700, 20))):
        usage = Usage(input=fresh, cache_read=read, cache_write_5m=100)
        store.put(record(id=str(number), at=time() - 60, identity=(USER, EVE)[number], usage=usage))
    await store.flush()
    legends = []
    for login in (USER, EVE):
        _, html = await get(f"/ui/cache?by=user&user={login.replace('@', '%40')}", ADMIN)
        legends.append(re.findall(r'<rect class="(s\d)" width="11".*?title="([^"]+)">', html))
    colours = [("s0", "Read from cache"), ("s1", "Fresh input"), ("s2", "Written to cache")]
    assert legends == [colours, colours]


async def test_a_cost_that_is_unknown_stands_before_none_at_all(store, text):
    at = time() - 60
    store.put(record(id="a", at=at, provider="", cost=0, outcome="refused", status=403, error="permission"))
    store.put(record(id="b", at=at, provider="lab", cost=None))
    await store.flush()
    assert "Providers by cost lab unknown + 1 unpriced No provider was reached $0.00" in await text("/ui/")
