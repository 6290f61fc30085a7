"""Tests of the dashboard's pages: what each caller sees, the escaping of text, and the advice on empty pages."""

import re
import threading
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from gateway.config.model import Config
from gateway.web.dashboard import pages
from gateway.web.dashboard.frame import ASSETS
from gateway.web.dashboard.links import session_href
from tests.helpers.records import HAIKU, NOON, record
from tests.web.dashboard.application import ADMIN, CONFIG, KEY, NOBODY, POOR, USER, Broken, application

BOB = "bob@example.com"
ON_DAY = "from=2026-11-23&to=2026-11-23"
"""Query parameters that select the day of `NOON`. Without them, a page shows the days before today."""
HOSTILE_IDS = ("a/b", "/", "..", "a?b=c&d", "a#b", "100%", "a%2Fb", "a b+c", "<i>\"'&", "é\u202e", "s:1")
NASTY = "<img src=x onerror=alert(1)>\"'&"


class Page(HTMLParser):
    """A parser that checks that elements are closed, and collects tags, attributes and text."""

    EMPTY = frozenset({"meta", "link", "input", "br"})

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.links, self.parts = [], set(), set(), [], []
        self.scripts = []
        """Text of scripts in the page."""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value for name, value in attrs if name == "href"]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.parts.append(data)
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.parts).split())


@pytest.fixture
def page(get):
    async def page(path, login=USER, status=200):
        code, html = await get(path, login)
        assert code == status
        return Page(html)

    return page


async def test_the_providers_page_lists_what_the_caller_may_use(page):
    html = (await page("/ui/providers")).text
    assert HAIKU in html
    assert "us-east-1" in html
    assert "bedrock-us" in html
    assert "bedrock_converse" in html
    assert "opus" not in html
    assert "disabled" not in html


async def test_an_admin_sees_every_provider_and_which_models_are_not_granted(page):
    html = (await page("/ui/providers", ADMIN)).text
    assert "disabled" in html
    assert "tiny not granted to you" in html


async def test_no_page_shows_a_key(get, store):
    store.put(record())
    await store.flush()
    for path in ("/ui/", "/ui/sessions", "/ui/sessions/s1"):
        status, html = await get(path, ADMIN)
        assert (status, KEY in html) == (200, False), path


async def test_the_call_to_try_names_this_gateway_and_a_granted_model(page, client):
    html = (await page("/ui/providers")).text
    assert f"curl http://127.0.0.1:{client.port}/v1/chat/completions" in html
    assert f'"model":"{HAIKU}"' in html


async def test_the_session_list_shows_model_tokens_and_time(store, page):
    store.put(record())
    await store.flush()
    html = (await page(f"/ui/sessions?{ON_DAY}")).text
    for part in (HAIKU, "100", "20", "2026-11-23 12:00:01 UTC", "$0.0012"):
        assert part in html


async def test_an_unknown_cost_is_never_shown_as_nothing(store, page):
    store.put(record(cost=None))
    await store.flush()
    for path in (f"/ui/sessions?{ON_DAY}", "/ui/sessions/s1"):
        html = (await page(path)).text
        assert "unknown" in html
        assert "$0" not in html


async def test_a_cost_that_is_known_in_part_says_so(store, page):
    store.put(record(id="a", cost=2_000_000_000))
    store.put(record(id="b", cost=None))
    await store.flush()
    assert "≥ $2.00 + 1 unpriced" in (await page(f"/ui/sessions?{ON_DAY}")).text


async def test_a_user_sees_own_sessions_and_an_admin_everybodys(store, page):
    store.put(record(id="a"))
    store.put(record(id="b", identity=BOB, session_id="s2"))
    await store.flush()
    assert BOB not in (await page(f"/ui/sessions?{ON_DAY}")).text
    assert BOB in (await page(f"/ui/sessions?{ON_DAY}", ADMIN)).text
    assert USER not in (await page(f"/ui/sessions?{ON_DAY}&user={BOB}", ADMIN)).text
    assert USER in (await page(f"/ui/sessions?{ON_DAY}&user=", ADMIN)).text


async def test_the_page_of_a_session_lists_its_calls(store, page):
    store.put(record(id="a"))
    store.put(record(id="b", outcome="failed", status=503, error="overloaded", error_native="ServiceUnavailable"))
    await store.flush()
    html = (await page("/ui/sessions/s1")).text
    assert "503 failed" in html
    assert "ServiceUnavailable" in html
    assert "openai_chat → bedrock_converse" in html


def names_of(path):
    """Return a set of pairs for an address: (path, "") and, for each query parameter, (path, the parameter's name).

    A test that follows links opens an address only if it has a new pair, because there are too many combinations of
    parameters.
    """
    parts = urlsplit(path)
    return {(parts.path, name) for name in ("", *dict(parse_qsl(parts.query)))}


async def test_every_link_of_a_page_leads_somewhere(store, get, page):
    for number in range(3):
        store.put(record(id=str(number), session_id=f"s:{number}", at=NOON + number, identity="tag:a,tag:b"))
    await store.flush()
    todo, seen, names = [f"/ui/?{ON_DAY}", f"/ui/sessions?{ON_DAY}&limit=1"], set(), set()
    while todo:
        path = todo.pop()
        if names_of(path) <= names:
            continue
        names |= names_of(path)
        seen.add(path)
        status, body = await get(path, ADMIN)
        # this gateway has no configuration file
        assert status == (409 if path == "/ui/config" else 200), path
        if "/static/" not in path:
            todo += [link for link in Page(body).links if link.startswith("/")]
    assert any("cursor=" in path for path in seen)
    assert any(path.startswith("/ui/sessions/s") for path in seen)


@pytest.mark.parametrize("name", HOSTILE_IDS)
async def test_an_id_of_any_characters_has_links_that_lead_to_its_page(store, get, page, name):
    """Check that links to sessions and calls lead to their pages, whatever characters the ids have.

    The links are on the pages Sessions, Jump to, Errors and Models, and on the session's own pages.
    """
    failed = {"outcome": "failed", "status": 503, "error": "overloaded", "error_message": "no room"}
    for number in range(2):
        store.put(record(id=f"{number}{name}", session_id=name, at=NOON + number, **failed))
    store.put(record(id="b", session_id=name, identity=BOB))
    await store.flush()
    lists = [f"/ui/sessions?{ON_DAY}", f"/ui/find?q={quote(name, safe='')}", f"/ui/errors?{ON_DAY}", "/ui/providers"]
    links = {
        link for path in lists for link in (await page(path, ADMIN)).links if "/ui/session" in link or "id=" in link
    }
    sessions = {link for link in links if "identity=" in link}
    assert len(sessions) == 2
    calls = {link for link in links if link.startswith("/ui/calls?")}
    for link in sessions:
        status, html = await get(link, ADMIN)
        assert (status, f"Session {name}") == (200, unescape(re.search(r"<title>(.*?) ·", html)[1])), link
        calls |= {link for link in Page(html).links if link.startswith("/ui/calls?")}
    assert {dict(parse_qsl(urlsplit(link).query))["id"] for link in calls} == {f"0{name}", f"1{name}", "b"}
    for link in calls:
        back = [href for href in (await page(link, ADMIN)).links if "identity=" in href]
        assert set(back) <= sessions
        assert back
    first = await page(f"{session_href(name, USER)}&limit=1", ADMIN)
    older = await page(next(link for link in first.links if "cursor=" in link), ADMIN)
    assert session_href(name, USER) in older.links
    owners = await page(session_href(name), ADMIN, 409)
    assert sessions <= set(owners.links)


async def test_what_clients_make_up_is_shown_and_not_run(store, get):
    store.put(
        record(model=NASTY, identity=USER, agent=NASTY, stop=NASTY, error=NASTY, dropped=(NASTY,), provider=NASTY)
    )
    await store.flush()
    statuses = {
        "/ui/sessions": 200,
        "/ui/sessions/s1": 200,
        "/ui/sessions/%3Cimg%20src=x%3E": 404,
        "/ui/sessions?cursor=<img>": 400,
    }
    for path, expected in statuses.items():
        status, html = await get(path, ADMIN)
        assert status == expected, path
        assert "<img" not in html
        assert "onerror" not in Page(html).attributes
    assert NASTY in unescape((await get("/ui/sessions/s1", ADMIN))[1])


async def test_no_page_has_a_style_of_its_own_or_a_script_in_it(store, page):
    store.put(record())
    await store.flush()
    for path in ("/ui/", "/ui/sessions", "/ui/sessions/s1"):
        reply = await page(path, ADMIN)
        assert not reply.tags & {"style", "iframe"}
        assert not reply.attributes & {"style", "onclick", "onload"}
        assert reply.scripts == []
        assert reply.links
        assert [link for link in reply.links if not link.startswith(("/ui/", "#"))] == []


@pytest.mark.parametrize(("path", "status"), [("/ui/", 200), ("/ui/sessions", 200), ("/ui/sessions/none", 404)])
async def test_every_page_forbids_what_it_does_not_need(client, path, status):
    async with client.get(path, headers={"x-test-login": USER}) as response:
        assert response.status == status
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'")
        assert "unsafe" not in policy
        nonce = re.search(r"script-src 'nonce-([\w-]{20,})'$", policy)
        assert f'nonce="{nonce[1]}"' in await response.text()
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"


async def test_an_empty_list_says_how_to_begin(page):
    html = (await page("/ui/sessions")).text
    assert "No sessions in this time" in html
    assert HAIKU in html


async def test_a_caller_without_models_is_told_whom_to_ask_for_what(page):
    html = (await page("/ui/providers", POOR)).text
    assert "No model is granted to you" in html
    assert POOR in html


async def test_a_configuration_without_providers_says_what_to_add(store, aiohttp_client):
    client = await aiohttp_client(application(store, Config(grants=CONFIG.grants)))
    async with client.get("/ui/providers", headers={"x-test-login": ADMIN}) as response:
        assert "No provider yet" in await response.text()


async def test_a_provider_without_models_says_so_to_an_admin(store, aiohttp_client):
    bare = replace(CONFIG.providers["bedrock"], models=())
    client = await aiohttp_client(application(store, replace(CONFIG, providers={"bedrock": bare})))
    async with client.get("/ui/providers", headers={"x-test-login": ADMIN}) as response:
        assert "No model is listed" in await response.text()


@pytest.mark.parametrize("path", ["/ui/", "/ui/sessions", "/ui/sessions/s1"])
async def test_a_caller_without_a_role_is_told_who_they_are(page, path):
    html = (await page(path, NOBODY, 403)).text
    assert "access denied: no role granted" in html
    assert NOBODY in html


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ui/sessions?limit=0", 400),
        ("/ui/sessions?cursor=x", 400),
        ("/ui/sessions/none", 404),
        (f"/ui/sessions?user={BOB}", 403),
    ],
)
async def test_a_wrong_address_is_told_on_a_page(page, path, status):
    await page(path, USER, status)


async def test_an_id_of_two_callers_offers_both(store, page):
    store.put(record(id="a"))
    store.put(record(id="b", identity=BOB))
    await store.flush()
    reply = await page("/ui/sessions/s1", ADMIN, 409)
    assert {"/ui/sessions/s1?identity=bob%40example.com", "/ui/sessions/s1?identity=ada%40example.com"} <= set(
        reply.links
    )


async def test_a_store_that_cannot_be_read_leaves_the_providers_page(aiohttp_client):
    client = await aiohttp_client(application(Broken()))
    async with client.get("/ui/sessions", headers={"x-test-login": USER}) as response:
        assert response.status == 503
        assert "disk" not in await response.text()
    async with client.get("/ui/providers", headers={"x-test-login": USER}) as response:
        assert response.status == 200
        assert "The records cannot be read now" in await response.text()


async def test_a_page_is_imported_once_in_a_thread(monkeypatch, client):
    threads = []

    def imported(module, name):
        threads.append((module, name, threading.current_thread()))
        return pages.to_overview

    monkeypatch.setattr(pages, "_imported", imported)
    for _ in range(2):
        async with client.get("/ui/cache", headers={"x-test-login": USER}, allow_redirects=False) as response:
            assert response.status == 302
    [(module, name, thread)] = threads
    assert (module, name) == ("cache", "cache")
    assert thread is not threading.main_thread()


async def test_the_bare_address_leads_to_the_first_page(client):
    async with client.get("/ui", headers={"x-test-login": USER}, allow_redirects=False) as response:
        assert (response.status, response.headers["location"]) == (302, "/ui/")


async def test_assets_are_kept_by_version_and_others_are_not_found(client):
    asset = ASSETS["style.css"]
    async with client.get(f"/ui/static/style.css?v={asset.version}") as response:
        assert response.content_type == "text/css"
        assert "immutable" in response.headers["cache-control"]
        assert await response.read() == asset.body
    async with client.get("/ui/static/style.css?v=old") as response:
        assert response.headers["cache-control"] == "no-cache"
    async with client.get("/ui/static/layout.html") as response:
        assert response.status == 404


def _luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


_PAIRS = [
    *((text, ground) for text in ("text", "muted", "accent") for ground in ("page", "surface", "sunken")),
    ("accent", "accent-soft"), ("text", "accent-soft"), ("good", "good-soft"), ("good", "surface"), ("bad", "bad-soft"),
    ("bad", "surface"), ("text", "warn-soft"), ("warn", "warn-soft"), ("warn", "surface"), ("on-accent", "accent"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "ground"), _PAIRS)
def test_text_stands_out_from_its_ground_in_light_and_dark(text, ground):
    css = ASSETS["style.css"].body.decode()
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6});", part)) for part in css.split("prefers-color-scheme")[:2])
    assert set(light) == set(dark)
    for tokens in (light, dark):
        high, low = sorted((_luminance(tokens[text]), _luminance(tokens[ground])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5  # WCAG 2.2, AA


@pytest.mark.parametrize("colour", ["c0", "c1", "c2", "c3", "c4", "c5", "rest", "edge"])
def test_graphics_stand_out_from_their_ground_in_light_and_dark(colour):
    css = ASSETS["style.css"].body.decode()
    for part in css.split("prefers-color-scheme")[:2]:
        tokens = dict(re.findall(r"--([\w-]+): (#\w{6});", part))
        high, low = sorted((_luminance(tokens[colour]), _luminance(tokens["surface"])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 3  # WCAG 2.2, AA, for graphics
