"""Tests that every page and list looks the same with a PostgreSQL store and an SQLite store."""

import re
from random import Random
from time import time

import pytest

from gateway.contract.flag import Usage
from tests.helpers.postgres import kept_in_postgres
from tests.helpers.records import HAIKU, Kept, record
from tests.web.dashboard.application import ADMIN, USER, application

APIS = (
    "/api/sessions?limit=5",
    "/api/sessions/s3",
    "/api/sessions/s3/calls",
    "/api/calls?limit=7&model=other",
    "/api/calls/req_11",
    "/api/calls?header=x-team:alpha",
    "/api/sessions?header=x-team",
    "/api/usage?by=user,model,provider,agent",
    "/api/usage?by=day",
    "/api/usage?by=hour,model&format=csv",
    "/api/reports/totals?range=30d",
    "/api/reports/chart?range=30d&by=user&measure=cost",
    "/api/reports/table?range=7d&by=agent",
    "/api/reports/errors?range=30d",
)
PAGES = (
    "/ui/",
    "/ui/providers",
    "/ui/errors",
    "/ui/people",
    "/ui/cache",
    "/ui/sessions",
    "/ui/sessions/s3",
    "/ui/find",
)
CHANGING = re.compile(r'(?<=[0-9]{13})\.[0-9]+\b|nonce="[^"]+"|(?<=127\.0\.0\.1):[0-9]+')
"""Pattern of the parts in which a page with one store may differ from the same page with the other: the number of a row
in a cursor, the nonces of scripts, and the ports.
"""
FILTERS = ("", "range=30d", "range=7d&model=other", f"range=30d&user={USER}", "range=30d&outcome=failed&status=5xx")


def calls():
    """Yield 400 calls of the last twenty days. Some of them failed."""
    chance = Random(3)
    now = time()
    for number in range(400):
        failed = chance.random() < 0.2
        yield record(
            id=f"req_{number}",
            session_id=f"s{number % 15}",
            at=now - 3_600 - chance.random() * 20 * 86_400,
            identity=chance.choice([USER, ADMIN, ""]),
            model=chance.choice([HAIKU, "other", "ünusual <b>"]),
            agent=chance.choice(["curl", "codex"]),
            outcome="failed" if failed else "ok",
            status=chance.choice([429, 500]) if failed else 200,
            error="rate_limit" if failed else "",
            error_message=f"too many tokens: {number}" if failed else "",
            usage=Usage(input=number, output=chance.randint(0, 99), cache_read=chance.randint(0, 9)),
            cost=None if number % 10 == 0 else number * 1_000_000,
            cache_saved=number,
            tools=tuple(chance.choices(["Bash", "Read"], k=number % 3)),
            duration_ms=chance.uniform(10, 90_000),
            first_event_ms=chance.choice([None, 400.0]),
            headers={"x-team": "alpha"} if number % 4 == 0 else {},
        )


@pytest.fixture
async def clients(tmp_path, aiohttp_client):
    """Yield two clients for the pages: one of an application with a PostgreSQL store, and one of an application with an
    SQLite store. Both stores have the same calls.
    """
    stores = [kept_in_postgres()(), Kept(tmp_path / "irisgate.db")]
    written = list(calls())
    for store in stores:
        for call in written:
            store.put(call)
        await store.flush()
    yield [await aiohttp_client(application(store)) for store in stores]
    for store in stores:
        await store.close()


async def test_every_page_and_list_shows_the_same(clients):
    paths = [
        *APIS,
        *(f"{page}?{query}" for page in PAGES for query in FILTERS),
        "/ui/calls?id=req_11",
        "/ui/find?q=req_11",
    ]
    seen = 0
    for login in (ADMIN, USER):
        for path in paths:
            replies = []
            for client in clients:
                async with client.get(path, headers={"x-test-login": login}) as reply:
                    replies.append((reply.status, CHANGING.sub("", await reply.text())))
            assert replies[0][1].splitlines() == replies[1][1].splitlines(), path
            assert replies[0][0] == replies[1][0], path
            seen += replies[0][0] == 200
    assert seen > len(paths)
