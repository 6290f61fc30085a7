"""Tests of the pages in a browser: with the script and without it, by keyboard alone, and by the rules of axe-core."""

from types import SimpleNamespace

import pytest

from gateway.call.context import GATEWAY
from gateway.store.base import JournalOffset
from tests.helpers.browser import browser_tab
from tests.helpers.records import NOON, YEAR, record
from tests.helpers.waiting import eventually
from tests.web.dashboard.application import ADMIN, USER, application, chat_bodies

NASTY = "<img src=x onerror=alert(1)>\u202e\"'&"
CALLS = 4
PAGES = (
    f"/ui/?{YEAR}", f"/ui/?{YEAR}&measure=tokens&by=user&hide=0", f"/ui/errors?{YEAR}", f"/ui/people?{YEAR}",
    f"/ui/cache?{YEAR}&by=model", f"/ui/providers?{YEAR}", f"/ui/sessions?{YEAR}", "/ui/now", "/ui/quotas", "/ui/connect", "/ui/access", f"/ui/access?as={USER}&model=tiny", "/ui/sessions", "/ui/sessions/s1", "/ui/calls?id=c1", "/ui/calls?id=c1&bodies=1", "/ui/find?q=s", "/ui/sessions/none", "/ui/calls",
)  # fmt: skip
MISSING = "the server responded with a status of 40"
"""The browser's message for a page with a status such as 404. The tests open such pages on purpose."""


@pytest.fixture
async def app(store):
    for number in range(CALLS):
        name = NASTY if number == 2 else f"tool-{number}"
        store.put(
            record(id=f"c{number}", at=NOON + 400 * number, identity=USER, tools=(name,), agent=name, stream=False)
        )
    store.put(record(id="other", session_id="s2", identity="eve@example.com", cost=None))
    await store.flush()
    app = application(store)
    app[GATEWAY].bodies.calls["c1"] = chat_bodies("c1", USER, NASTY)
    return app


@pytest.fixture
async def pages(app, aiohttp_client):
    """Return the address of the pages, a tab of a browser, and the application."""
    client = await aiohttp_client(app)
    async with browser_tab() as tab:
        await tab.screen(1280)
        await tab.watch()
        yield SimpleNamespace(tab=tab, app=app, url=lambda path: str(client.make_url("/")).rstrip("/") + path)


async def open_page(pages, path, login=ADMIN):
    await pages.tab.open(pages.url(path), {"x-test-login": login})


def seen(tab):
    return tab.evaluate("document.querySelector('main').innerText")


async def test_no_page_has_an_error_or_breaks_a_rule_of_axe(pages, violations):
    wrong = {}
    for path in PAGES:
        await pages.tab.prefer("light")
        await open_page(pages, path)
        if found := await violations(pages.tab):
            wrong[path, "light"] = found
        await pages.tab.prefer("dark")
        if found := await violations(pages.tab, colours=True):
            wrong[path, "dark"] = found
    assert wrong == {}
    assert [error for error in pages.tab.errors if MISSING not in str(error)] == []


async def test_pages_are_complete_without_a_script(pages):
    texts = {}
    for allowed in (True, False):
        await pages.tab.scripts(allowed=allowed)
        for path in PAGES:
            await open_page(pages, path)
            assert await pages.tab.evaluate("document.querySelectorAll('nav a').length > 1")
            shown = await pages.tab.evaluate(
                "[...document.querySelectorAll('main :is(h1, h2, td, th, dt, dd, .legend li)')]"
                ".map(part => part.textContent.trim()).filter(Boolean)"
            )
            texts.setdefault(path, []).append([line for line in shown if " ago" not in line])
    assert {path: with_script == without for path, (with_script, without) in texts.items()} == dict.fromkeys(
        PAGES, True
    )


async def test_the_palette_opens_and_jumps_by_keyboard(pages):
    tab = pages.tab
    await open_page(pages, "/ui/sessions")
    await tab.press("k", control=True)
    await eventually(lambda: tab.evaluate("document.querySelectorAll('#finds li[data-at]').length > 1"))
    await tab.command("Input.insertText", text="s1")
    await eventually(lambda: tab.evaluate("document.querySelector('#finds')?.innerText.startsWith('s1')"))
    await tab.press("Enter")
    await eventually(lambda: tab.evaluate("location.pathname === '/ui/sessions/s1' && document.title.includes('s1')"))
    assert "Timeline" in await seen(tab)
    await tab.evaluate("history.back()")
    await eventually(lambda: tab.evaluate("document.querySelector('h1').textContent === 'Sessions'"))
    assert tab.errors == []


async def test_a_chart_is_read_and_followed_by_keyboard(pages):
    tab = pages.tab
    await open_page(pages, "/ui/sessions/s1")
    await tab.evaluate("document.querySelector('.handle').focus()")
    text = await tab.evaluate("document.querySelector('.handle').getAttribute('aria-valuetext')")
    assert text.startswith("Call at 2026-11-23 12:20:00 UTC")
    await tab.press("ArrowLeft")
    await tab.press("Home")
    text = await tab.evaluate("document.querySelector('[data-readout]').textContent")
    assert text.startswith("Call at 2026-11-23 12:00:00 UTC")
    assert "Fresh input: 100" in text
    await tab.press("ArrowRight")
    await tab.press("Enter")
    await eventually(lambda: tab.evaluate("location.search === '?id=c1'"))
    await eventually(lambda: tab.evaluate("document.querySelector('h1').textContent.includes('c1')"))


async def places(tab):
    """Return the coordinates of the middle of each column in the chart, in CSS pixels."""
    return await tab.evaluate(
        "[...document.querySelectorAll('.slot .hit')].map(hit => hit.getBoundingClientRect())"
        ".map(box => [box.x + box.width / 2, box.y + box.height / 2])"
    )


async def drag(tab, begin, end):
    """Drag the mouse from the point `begin` to the point `end`."""
    await tab.mouse("mouseMoved", *begin)
    await tab.mouse("mousePressed", *begin)
    for step in (0.5, 1):
        x, y = (one + (other - one) * step for one, other in zip(begin, end, strict=True))
        # a mouse that moves with its button pressed
        await tab.command("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, button="left", buttons=1)
    await tab.mouse("mouseReleased", *end)


async def test_days_and_hours_are_chosen_by_dragging_over_the_chart(pages):
    tab = pages.tab
    await open_page(pages, "/ui/?range=custom&from=2026-11-17&to=2026-11-26")
    columns = await places(tab)
    assert len(columns) == 10
    await drag(tab, columns[7], columns[4])
    await eventually(lambda: tab.evaluate("location.search.includes('from=2026-11-21&to=2026-11-24')"))
    await eventually(lambda: tab.evaluate("document.querySelectorAll('.slot').length === 4"))
    # hours of a day
    await open_page(pages, "/ui/?range=custom&from=2026-11-23&to=2026-11-23&zone=Asia/Kolkata")
    columns = await places(tab)
    assert len(columns) == 24
    await drag(tab, columns[15], columns[18])
    await eventually(lambda: tab.evaluate("document.querySelectorAll('.slot').length === 4"))
    address = await tab.evaluate(
        "new URLSearchParams(location.search).getAll('from') + ' ' + new URLSearchParams(location.search).get('to')"
    )
    assert address == "2026-11-23T15:00+05:30 2026-11-23T19:00+05:30"
    assert "23 Nov 2026, 15:00 – 19:00" in await seen(tab)
    assert tab.errors == []


async def test_a_chart_without_times_offers_no_range(pages):
    tab = pages.tab
    await open_page(pages, "/ui/sessions/s1")
    hint = await tab.evaluate("document.querySelector('[data-readout]').textContent")
    assert hint == "Point at a column, or use the arrow keys. Enter opens what the column stands for."
    columns = await places(tab)
    await drag(tab, columns[0], columns[2])
    assert await tab.evaluate("document.querySelectorAll('.slot.chosen').length") == 0
    assert await tab.evaluate("location.pathname") == "/ui/sessions/s1"


async def test_a_page_follows_what_is_recorded(pages, store):
    tab = pages.tab
    await open_page(pages, "/ui/sessions/s1")
    await eventually(lambda: tab.evaluate("document.querySelector('.live').textContent === 'Live'"))
    store.put(record(id="new", at=NOON + 5000, identity=USER, model="a-new-model"))
    await store.flush()
    pages.app[GATEWAY].follower.applied = JournalOffset(0, 1)
    await eventually(lambda: tab.evaluate("document.querySelector('main').innerText.includes('a-new-model')"))
    assert tab.errors == []


async def test_the_first_page_soon_has_the_times_of_the_readers_zone(pages):
    tab = pages.tab
    await tab.command("Emulation.setTimezoneOverride", timezoneId="Asia/Kolkata")
    await open_page(pages, "/ui/sessions/s1")
    await eventually(lambda: tab.evaluate("document.querySelector('main').innerText.includes('17:30:00 IST')"))
    assert tab.errors == []


async def test_tab_reaches_the_skip_link_first_and_then_the_navigation(pages):
    tab = pages.tab
    await open_page(pages, "/ui/sessions")
    order = []
    for _ in range(4):
        await tab.press("Tab")
        order.append(await tab.evaluate("document.activeElement.textContent.trim()"))
    assert order[0] == "Skip to the content"
    assert order[1] == "Irisgate"
    assert order[2].startswith("Jump to")
    await open_page(pages, "/ui/sessions")
    await tab.press("Tab")
    await tab.press("Enter")
    assert await tab.evaluate("document.activeElement.id") == "main"


async def test_the_menu_of_a_narrow_screen_needs_no_script(pages):
    tab = pages.tab
    await tab.screen(360)
    await tab.scripts(allowed=False)
    await open_page(pages, "/ui/sessions")
    visible = "document.querySelector('nav').checkVisibility()"
    assert not await tab.evaluate(visible)
    await tab.evaluate("document.querySelector('.mobile .button').click()")
    await eventually(lambda: tab.evaluate(visible))
