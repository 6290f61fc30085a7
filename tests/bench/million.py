"""Measures the times of answers and pages for a store with a million calls.

Run by hand: `python -m tests.bench.million [CALLS [FOLDER]]`. The figures are wall times over loopback, with one
request after the other. The store is written in batches, as in a running gateway. If a folder is given, the store is
kept there and used again.
"""

import asyncio
import sqlite3
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path
from statistics import median
from urllib.parse import quote

from gateway.contract.errors import OVERLOADED, PERMISSION, RATE_LIMIT
from gateway.contract.flag import Usage
from gateway.store.base import GROUPS, JournalOffset, SessionQuery, rfc3339
from gateway.store.entries import Entry
from gateway.store.file import connect, prepare
from gateway.store.sqlite import SqliteStore
from gateway.store.writing import write
from tests.bench.measure import table
from tests.helpers.gateway import bedrock, gate
from tests.helpers.records import NOON, record

CALLS = 1_000_000
BATCH = 5000
USERS = tuple(f"user{number}@example.com" for number in range(100))
MODELS = tuple(f"us.anthropic.claude-model-{number}-v1:0" for number in range(6))
AGENTS = ("claude-cli", "OpenAI/Python", "Boto3", "curl")
TOOLS = ("Bash", "Read", "Edit", "Grep")
FAULTS = (
    lambda number: {
        "outcome": "failed", "status": 429, "error": RATE_LIMIT, "error_native": "ThrottlingException",
        "error_message": f"Too many tokens: {number} of 5000",
    },
    lambda number: {
        "outcome": "failed", "status": 503, "error": OVERLOADED, "error_native": "ServiceUnavailableException",
        "error_message": f"The model {MODELS[number % 6]} is busy; the request was {number:032x}",
    },
    lambda number: {"outcome": "refused", "status": 403, "error": PERMISSION, "error_message": "no grant"},
)  # fmt: skip
"""Functions that return the fields of a failed call's record. Their argument is the number of the call."""
DAYS = 60
END = NOON
AT_ONCE, CALLS_EACH = 40, 20
"""Number of sessions at the same time, and number of calls in one session."""
LONG = "cc_the_longest"
"""Id of a session that has every fiftieth of all calls."""
BOUND_MS = 100
DATABASE = "irisgate.db"
ROUNDS = 5


def one(number, count, days=DAYS, end=END):
    """Return the record of call `number` of `count` calls.

    The times of calls are evenly spread. Each user has one client program, and most sessions have one model. Every
    third call uses tools.
    """
    session = number // (AT_ONCE * CALLS_EACH) * AT_ONCE + number % AT_ONCE
    is_long = number % 50 == 0
    user = 0 if is_long else session * 7 % len(USERS)
    model = (session // 3 + number % 7 // 6) % len(MODELS)
    return record(
        id=f"req_{number:024x}",
        identity=USERS[user],
        session_id=LONG if is_long else f"cc_{session:08x}",
        model=MODELS[model],
        provider=("bedrock", "bedrock-eu")[model % 2],
        agent=AGENTS[user % len(AGENTS)],
        at=end - days * 86_400 + number * days * 86_400 / count,
        cost=None if number % 97 == 0 else 1_000_000 + number % 1000,
        usage=Usage(input=number % 5000, output=number % 700, cache_read=number % 90_000),
        tools=TOOLS[number % len(TOOLS) :] if number % 3 == 0 else (),
        **(FAULTS[number % len(FAULTS)](number) if number % 101 == 0 else {}),
    )


def build(path, count, days=DAYS, end=END):
    """Write a store with `count` calls, spread over the `days` days before the Unix time `end`. Return the seconds that
    this took.
    """
    began = time.monotonic()
    prepare(path)
    connection = connect(path)
    for start in range(0, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        write(connection, [Entry(call=one(number, count, days, end)) for number in numbers], JournalOffset())
    connection.close()
    return time.monotonic() - began


async def cursors(path):
    """Return a dict from a label to the query parameters of a later page of a list.

    Most labels are names of lists, with the parameters of the second page ("" if the list has only one page). The label
    "far" has the parameters of a page far down the list of calls.
    """
    store = SqliteStore(path)
    parameters = await second_pages(store)
    await store.close()
    with sqlite3.connect(path) as connection:
        at, number = connection.execute("SELECT at, n FROM calls ORDER BY n LIMIT 1 OFFSET 100").fetchone()
    connection.close()
    return {**parameters, "far": f"cursor={at}.{number}"}


async def second_pages(store):
    """Return query parameters for the second page of each list of a store. They are "" for a list with a single
    page.
    """
    positions = {
        "sessions": (await store.sessions(SessionQuery(None, 50))).next,
        "own sessions": (await store.sessions(SessionQuery(USERS[1], 50))).next,
        "calls": (await store.calls(None, None, 50)).next,
        "own calls": (await store.calls(USERS[1], None, 50)).next,
        "long": (await store.calls(None, LONG, 50)).next,
    }
    return {name: f"cursor={cursor}" if cursor else "" for name, cursor in positions.items()}


def lists(after):
    """Return a dict from a label to a path of the API: a list, or a single session or call.

    `after` has the query parameters of the lists' later pages (`cursors`).
    """
    plain, user = "cc_00000007", quote(USERS[1])
    return {
        "sessions": "/api/sessions",
        "sessions, second page": f"/api/sessions?{after['sessions']}",
        "sessions, 200": "/api/sessions?limit=200",
        "sessions of one": f"/api/sessions?identity={user}",
        "sessions of one, second page": f"/api/sessions?identity={user}&{after['own sessions']}",
        "sessions of nobody": "/api/sessions?identity=nobody@example.com",
        "a session": f"/api/sessions/{plain}",
        "the longest session": f"/api/sessions/{LONG}",
        "a session's calls": f"/api/sessions/{plain}/calls",
        "the longest's calls": f"/api/sessions/{LONG}/calls",
        "the longest's calls, second page": f"/api/sessions/{LONG}/calls?{after['long']}",
        "the longest's calls, far behind": f"/api/sessions/{LONG}/calls?{after['far']}",
        "the longest's calls, its caller": f"/api/sessions/{LONG}/calls?identity={quote(USERS[0])}",
        "calls": "/api/calls",
        "calls, 200": "/api/calls?limit=200",
        "calls, second page": f"/api/calls?{after['calls']}",
        "calls, far behind": f"/api/calls?{after['far']}",
        "calls of one": f"/api/calls?identity={user}",
        "calls of one, second page": f"/api/calls?identity={user}&{after['own calls']}",
        "calls of nobody": "/api/calls?identity=nobody@example.com",
        "a call": "/api/calls/req_000000000000000000000007",
        "a call of one": f"/api/calls/req_000000000000000000000007?identity={quote(one(7, CALLS).identity)}",
    }


def usage(end=END):
    """Return a dict from a label to the path of a usage report. `end` is the Unix time of the last call.

    Some reports are grouped by each of `GROUPS`, by each pair of them, and by hour. The others have filters or ranges
    of days that people often ask for.
    """
    day, week = rfc3339(end - 86_400)[:10], rfc3339(end - 7 * 86_400)[:10]
    last = rfc3339(end)[:10]
    pairs = [",".join(pair) for pair in combinations(GROUPS, 2)]
    paths = {f"usage by {by or 'nothing'}": f"/api/usage?by={by}" for by in ("", *GROUPS, *pairs)}
    return {
        **paths,
        "usage by user,model,day": "/api/usage?by=user,model,day",
        "usage by user,model,hour": "/api/usage?by=user,model,hour",
        "usage by user, a day": f"/api/usage?by=user&from={day}&to={day}",
        "usage by user, a week": f"/api/usage?by=user&from={week}&to={last}",
        "usage by user,day, a week": f"/api/usage?by=user,day&from={week}&to={last}",
        "usage by hour, a day": f"/api/usage?by=hour&from={day}&to={day}",
        "usage by hour, a week": f"/api/usage?by=hour&from={week}&to={last}",
        "usage by user,hour, a week": f"/api/usage?by=user,hour&from={week}&to={last}",
        "usage of one by day": f"/api/usage?by=day&user={quote(USERS[1])}",
        "usage of one by hour": f"/api/usage?by=hour&user={quote(USERS[1])}",
        "usage of a model by user": f"/api/usage?by=user&model={quote(MODELS[1])}",
        "usage by user, CSV": "/api/usage?by=user&format=csv",
        "usage by user,day, CSV": "/api/usage?by=user,day&format=csv",
    }


def pages(after):
    return {
        "metrics": "/metrics",
        "overview": "/ui/",
        "overview of a year": "/ui/?range=12m",
        "page of people, a year": "/ui/people?range=12m",
        "page of providers": "/ui/providers",
        "page of sessions": "/ui/sessions",
        "page of sessions, second": f"/ui/sessions?{after['sessions']}",
        "page of sessions, 200": "/ui/sessions?limit=200",
        "page of sessions of one": f"/ui/sessions?user={quote(USERS[1])}",
        "page of a session": "/ui/sessions/cc_00000007",
        "page of the longest session": f"/ui/sessions/{LONG}",
        "page of the longest session, 200": f"/ui/sessions/{LONG}?limit=200",
    }


async def timed(gw, path, rounds):
    """Return the milliseconds of the first request, the median of the others, and the number of bytes of the answer."""
    took = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        reply = await gw.get(path)
        took.append((time.perf_counter() - began) * 1000)
        assert reply.status == 200, f"{path}: {reply.status} {await reply.text()}"
    return took[0], median(took[1:]), len(reply.body)


async def measured(folder, *, calls=CALLS, rounds=ROUNDS):
    """Return the seconds of building (0 if the store existed), and a dict from the label of each answer to
    its times.
    """
    path = folder / DATABASE
    built = 0 if path.exists() else build(path, calls)
    after = await cursors(path)
    providers = {"bedrock": bedrock("http://127.0.0.1:9", models=MODELS)}
    async with gate(folder, providers) as gw:
        paths = {**lists(after), **usage(), **pages(after)}
        return built, {name: await timed(gw, way, rounds) for name, way in paths.items()}


def report(measurements):
    built, answers = measurements
    rows = [
        (name, [f"{first:,.1f}", f"{again:,.1f}", f"{size / 1024:,.0f}", "over" if again > BOUND_MS else ""])
        for name, (first, again, size) in answers.items()
    ]
    heads = ["first ms", "again ms", "KiB", f"> {BOUND_MS} ms"]
    return f"built in {built:.0f} s\n{table('answer', heads, rows)}"


def main(calls=CALLS, folder=None):
    with tempfile.TemporaryDirectory() as temporary:
        state = Path(folder or temporary)
        sys.stdout.write(f"{report(asyncio.run(measured(state, calls=int(calls))))}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
