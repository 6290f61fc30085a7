"""Tests that no page is wider than the screen, and that no text is cut off, overflows its box or is too small to read.

A browser renders every page for several screens: with long names and many rows, and without any rows.
"""

from pathlib import Path

import pytest

from gateway.call.context import GATEWAY
from gateway.config.model import Capability, Config, Grant, Provider
from gateway.contract.flag import Usage
from gateway.money.quotas.definitions import Quota
from tests.helpers.browser import FOREIGN_HOST, browser_tab
from tests.helpers.gateway import bedrock, gate
from tests.helpers.records import HAIKU, NOON, YEAR, Kept, record
from tests.web.dashboard.application import CONFIG, NOBODY, POOR, USER, application, chat_bodies

PHONE, TABLET, DESK = 360, 768, 1440
"""Widths of screens in CSS pixels."""
FAULTS = (Path(__file__).parent / "layout.js").read_text()

UNSTYLED = {"wrong host"}
"""Pages without a style sheet. Under a foreign host name, the gateway refuses every path, including that of the style
sheet.
"""
LOGIN = f"{'grace.brewster.murray.hopper.' * 4}@a-long-name-of-a-company.example.com"
UNBROKEN = "abcdefghij" * 12
MODEL = f"arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/{UNBROKEN}"
SESSION = f"{UNBROKEN}{UNBROKEN[:80]}"
HUGE = 98_765_432_109
ROWS = 50

LONG = Provider(
    id=f"provider-{UNBROKEN}",
    name=UNBROKEN,
    description=f"{'A description of several words. ' * 10}{UNBROKEN}",
    baseurl=f"https://{'a' * 60}.{'b' * 60}.us-gov-east-1.example.com",
    models=(MODEL, HAIKU),
    flags=("bedrock_model_invoke", "bedrock_converse", "anthropic_messages", "openai_chat", f"flag_{UNBROKEN}"),
    cost_basis=f"basis-{UNBROKEN}",
)
CROWDED = Config(
    providers={**CONFIG.providers, LONG.id: LONG},
    grants=(
        Grant((LOGIN,), (Capability("admin", (f"{LONG.id}/**",), filterable_headers=("*",)),)),
        Grant((USER, POOR), (Capability("user", ()),)),
    ),
    quotas={UNBROKEN: Quota(UNBROKEN, HUGE * 1_000_000, rate=UNBROKEN)},
    filterable_headers=(f"x-{UNBROKEN}",),
)


def crowd(store):
    """Store sessions and calls whose names and numbers have the maximum length."""
    large = Usage(input=HUGE, output=HUGE, cache_read=HUGE, cache_write_5m=HUGE, cache_write_1h=HUGE, reasoning=HUGE)
    long = {
        "session_id": SESSION, "identity": LOGIN, "provider": LONG.id, "model": MODEL, "agent": UNBROKEN,
        "usage": large, "cost": HUGE * 1_000_000, "duration_ms": 98_765_432.0, "first_event_ms": 87_654_321.0,
        "api": "openai_chat", "upstream_api": "bedrock_model_invoke", "stream": False,
        "headers": {f"x-{UNBROKEN}": UNBROKEN * 2},
    }  # fmt: skip
    endings = (
        {"stop": f"stop_{UNBROKEN}"},
        {"outcome": "failed", "status": 503, "error": "overloaded", "error_native": UNBROKEN},
        {"cost": None, "dropped": (f"/{UNBROKEN}",) * 9},
    )
    for number in range(ROWS):
        ending = endings[number % len(endings)]
        store.put(record(**{**long, **ending, "id": f"a{number}", "at": NOON + number}))
        store.put(record(**{**long, **ending, "id": f"b{number}", "session_id": f"{number}-{SESSION}"}))
    store.put(record(id="twice", session_id="s2", identity=LOGIN))
    store.put(record(id="again", session_id="s2", identity=f"other.{LOGIN}"))


def pages(crowded, empty, wrong):
    """Return a dict from the label of each page to its URL and its caller.

    The arguments are functions that return the URL of a path. Their gateways differ: that of `crowded` has many rows,
    that of `empty` has none, and that of `wrong` answers the paths here with error pages.
    """
    return {
        "providers": (crowded(f"/ui/providers?{YEAR}"), LOGIN),
        "providers without a grant": (crowded("/ui/providers"), POOR),
        "providers, none configured": (empty("/ui/providers"), LOGIN),
        "sessions": (crowded(f"/ui/sessions?limit=40&{YEAR}&user={LOGIN}"), LOGIN),
        "sessions, none yet": (empty("/ui/sessions"), LOGIN),
        "sessions, none with a value": (crowded(f"/ui/sessions?model={UNBROKEN}"), LOGIN),
        "sessions, none of a caller": (crowded(f"/ui/sessions?user={UNBROKEN}"), LOGIN),
        "session": (crowded(f"/ui/sessions/{SESSION}?limit=40"), LOGIN),
        "call": (crowded("/ui/calls?id=a1"), LOGIN),
        "call whose cost is unknown": (crowded("/ui/calls?id=a2"), LOGIN),
        "overview": (crowded(f"/ui/?{YEAR}&agent={UNBROKEN}"), LOGIN),
        "overview of a header": (crowded(f"/ui/?{YEAR}&header=x-{UNBROKEN}:{UNBROKEN}{UNBROKEN}"), LOGIN),
        "sessions with a header": (crowded(f"/ui/sessions?{YEAR}&header=x-{UNBROKEN}"), LOGIN),
        "overview of a person": (crowded(f"/ui/?{YEAR}&measure=tokens&by=agent"), LOGIN),
        "overview, no calls": (empty("/ui/"), LOGIN),
        "errors": (crowded(f"/ui/errors?{YEAR}"), LOGIN),
        "errors, none": (empty("/ui/errors"), LOGIN),
        "people": (crowded(f"/ui/people?{YEAR}"), LOGIN),
        "people, none": (empty("/ui/people"), LOGIN),
        "cache": (crowded(f"/ui/cache?{YEAR}"), LOGIN),
        "cache, none": (empty("/ui/cache"), LOGIN),
        "now": (crowded("/ui/now"), LOGIN),
        "quotas": (crowded("/ui/quotas"), LOGIN),
        "quotas, none configured": (empty("/ui/quotas"), LOGIN),
        "connect": (crowded("/ui/connect?client=curl"), LOGIN),
        "connect, no model": (crowded("/ui/connect"), POOR),
        "access": (crowded(f"/ui/access?as={USER}&model={MODEL}"), LOGIN),
        "access, nothing asked": (empty("/ui/access"), LOGIN),
        "found": (crowded("/ui/find?q=a"), LOGIN),
        "session of two callers": (crowded("/ui/sessions/s2"), LOGIN),
        "session that is missing": (crowded(f"/ui/sessions/x{SESSION}"), LOGIN),
        "no access": (crowded("/ui/"), f"{NOBODY}.{LOGIN}"),
        "wrong address": (crowded(f"/ui/sessions?{UNBROKEN}=1"), LOGIN),
        "wrong path": (wrong(f"/ui/{UNBROKEN}{UNBROKEN}"), ""),
        "wrong host": (wrong("/ui/").replace("127.0.0.1", FOREIGN_HOST), ""),
    }


BREAKS = [
    # a style sheet's fault, the page that shows it on a phone, and the kind of fault
    (".lead { width: 500px }", "sessions", "wide"),
    (".lead h1 { margin-left: -40px }", "sessions", "off the screen"),
    ("td code, td span { white-space: nowrap }", "sessions", "outside its box"),
    (".lead p { overflow: hidden; text-overflow: ellipsis; white-space: nowrap }", "session", "cut"),
    (".tiles > div { height: 20px; overflow: clip }", "session", "cut"),
    (".note { font-size: 10px }", "sessions", "small"),
]


@pytest.fixture
async def every_page(store, aiohttp_client, tmp_path, bedrock_sim):
    crowd(store)
    await store.flush()
    full = application(store, CROWDED)
    full[GATEWAY].config_error = f"line 3: unknown member {UNBROKEN}"
    refusing = next(iter(full[GATEWAY].runtime.config.providers.values()))
    full[GATEWAY].keys.refused(refusing)
    full[GATEWAY].bodies.calls["a1"] = chat_bodies("a1", LOGIN, f"{UNBROKEN} {'words and more words ' * 200}")
    crowded = await aiohttp_client(full)
    vacant = Kept(tmp_path / "vacant.db")
    empty = await aiohttp_client(application(vacant, Config(grants=CROWDED.grants)))
    async with gate(tmp_path / "gateway", {"b": bedrock(bedrock_sim.url)}) as gw:
        yield pages(lambda path: str(crowded.make_url(path)), lambda path: str(empty.make_url(path)), gw.url.__add__)
    await vacant.close()


@pytest.fixture
async def tab(every_page):
    # the browser ends before the servers of `every_page`, because these wait until their connections have ended
    async with browser_tab() as tab:
        yield tab


async def faults(tab, width):
    return await tab.evaluate(FAULTS.replace("SCREEN", str(width)))


async def test_every_page_fits_the_screen_and_no_text_is_cut(tab, every_page):
    """Check that each page fits the width of three screens, in both colour schemes, and that no text is cut off.

    Each page is loaded only once for all widths, because its scripts do not use the width.
    """
    wrong, grounds = {}, set()
    for name, (url, login) in every_page.items():
        await tab.screen(PHONE)
        await tab.open(url, {"x-test-login": login})
        for width in (PHONE, TABLET, DESK):
            await tab.screen(width)
            for scheme in ("light", "dark"):
                await tab.prefer(scheme)
                if name not in UNSTYLED:
                    grounds.add(await tab.evaluate("getComputedStyle(document.body).backgroundColor"))
                if lines := await faults(tab, width):
                    wrong[name, width, scheme] = lines
    assert wrong == {}
    assert len(grounds) == 2


async def test_the_forms_of_the_filter_open_within_the_screen(tab, every_page):
    url, login = every_page["overview of a header"]
    await tab.open(url, {"x-test-login": login})
    for width in (PHONE, TABLET, 1000, 1280, DESK):
        await tab.screen(width)
        for panel in ("custom", "more-filters"):
            await tab.evaluate(f"document.getElementById('{panel}').open = true")
            box = f"document.querySelector('#{panel} form').getBoundingClientRect()"
            left, right = await tab.evaluate(f"[{box}.left, {box}.right]")
            assert 0 <= left < right <= width
            assert await tab.evaluate("document.documentElement.scrollWidth") <= width
            await tab.evaluate(f"document.getElementById('{panel}').open = false")


async def test_each_kind_of_fault_is_seen(tab, every_page):
    await tab.screen(PHONE)
    for css, name, kind in BREAKS:
        url, login = every_page[name]
        await tab.open(url, {"x-test-login": login})
        await tab.add_style(css)
        assert kind in {line.partition(":")[0] for line in await faults(tab, PHONE)}, css
