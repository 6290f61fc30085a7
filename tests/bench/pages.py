"""Measures every page and every answer of the API over a million calls of a year: CPU time, and blocks of the loop.

Run by hand: `python -m tests.bench.pages [FOLDER]`. The store in the folder is used again if it exists.

The CPU time is that of the whole process: the event loop, the threads that read the store and render the page, and the
client, which takes less than a millisecond for most pages. A block is the longest CPU time for which the thread of the
loop worked without running other tasks. It is measured in requests of its own, because watching the loop takes some CPU
time too. Python's garbage collector is set up as by `irisgate serve`.
"""

import asyncio
import gc
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from statistics import median
from typing import NamedTuple
from urllib.parse import quote, urlencode

from gateway.process.serve import COLLECT_AFTER
from tests.bench import million
from tests.bench.measure import table
from tests.helpers.blocking_http import get
from tests.helpers.gateway import CAP, bedrock
from tests.helpers.loop_monitor import LoopMonitor
from tests.web.admin.conftest import from_file

DAYS = 365
ROUNDS = 3
BOUND_MS, BLOCK_MS = 150, 5
"""The goals: CPU time of one page, and the longest block of the loop, in milliseconds."""
INDIA, NEPAL = "Asia/Kolkata", "Asia/Kathmandu"
RANGES = {
    "24h": {"range": "24h"},
    "7d": {"range": "7d"},
    "30d": {"range": "30d"},
    "90d": {"range": "90d"},
    "12m": {"range": "12m"},
    "12m +5:30": {"range": "12m", "zone": INDIA},
}
"""Ranges of time by name. Each page with a filter is measured with each of them."""
RIGHTS = ({"read_metrics": True}, {"read_pricing": True})
CONFIG = {
    "providers": {
        "bedrock": bedrock("http://127.0.0.1:9", models=million.MODELS[::2]),
        "bedrock-eu": bedrock("http://127.0.0.1:9", models=million.MODELS[1::2]),
    },
    "grants": [{"src": ["*"], "app": {CAP: [{"role": "admin", "models": "**"}, *RIGHTS]}}],
    "server": {"listeners": [{"listen": "127.0.0.1:0"}]},
}


class Cost(NamedTuple):
    """The costs of one answer: the median CPU time of several requests, and the longest time for which the event loop
    was blocked.

    The blocking is measured in separate requests. `block_ms` is the smallest result of these requests.
    """

    cpu_ms: float
    block_ms: float
    size: int
    """Number of bytes of the answer."""


def custom(end):
    """Return ranges of time with chosen limits before the Unix time `end`: a dict from a label to the query parameters
    of the range.

    The limits are whole days, or moments at a multiple of a quarter of an hour.
    """
    days = {"from": _day(end - 200 * 86_400), "to": _day(end - 3 * 86_400)}
    moments = {"from": _moment(end - 300 * 86_400 - 900), "to": _moment(end - 86_400 - 2700)}
    return {
        "custom": days,
        "custom +5:45": {**days, "zone": NEPAL},
        "moments": moments,
        "moments +5:30": {**moments, "zone": INDIA},
    }


def _day(at):
    return time.strftime("%Y-%m-%d", time.gmtime(at))


def _moment(at):
    return time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(at - at % 900))


def filters():
    """Return the filters that are measured on each page: a dict from a label to the query parameters of the filter."""
    return {
        "": {},
        "compared": {"compare": "1"},
        "of one": {"user": million.USERS[1]},
        "model": {"model": million.MODELS[1]},
        "provider": {"provider": "bedrock"},
        "client": {"agent": million.AGENTS[0]},
        "5xx": {"status": "5xx"},
        "failed": {"outcome": "failed"},
        "all at once": {
            "user": million.USERS[1], "model": million.MODELS[1], "provider": "bedrock-eu", "outcome": "ok",
            "agent": million.AGENTS[1], "compare": "1",
        },
    }  # fmt: skip


FILTERED: Mapping[str, str] = {
    "overview": "/ui/",
    "overview by user": "/ui/?by=user&measure=tokens",
    "people": "/ui/people",
    "cache": "/ui/cache",
    "cache by client": "/ui/cache?by=agent&sort=saved",
    "errors": "/ui/errors",
    "providers": "/ui/providers",
    "sessions": "/ui/sessions",
    "sessions, 200": "/ui/sessions?limit=200",
    "CSV of people": "/ui/people?format=csv",
    "CSV of cache": "/ui/cache?format=csv",
    "CSV of errors": "/ui/errors?format=csv",
    "CSV of providers": "/ui/providers?format=csv",
    "api totals": "/api/reports/totals",
    "api chart": "/api/reports/chart",
    "api chart by user": "/api/reports/chart?by=user&measure=calls",
    "api table": "/api/reports/table",
    "api table by user": "/api/reports/table?by=user&sort=tokens&limit=200",
    "api errors": "/api/reports/errors",
}
"""Paths of the pages and API answers that can be filtered, by name."""


def plain(end, after):
    """Return a dict from a label to the path of a page or API answer that is measured without filters and ranges of
    time.

    `end` is the Unix time of the last call. `after` has the query parameters of the lists' later pages
    (`million.cursors`).
    """
    call, session = f"req_{7:024x}", "cc_00000007"
    return {
        "CSV of sessions": "/ui/sessions?range=12m&format=csv",
        "now": "/ui/now",
        "quotas": "/ui/quotas",
        "configuration": "/ui/config",
        "connect": "/ui/connect",
        "access": "/ui/access",
        "access of one": f"/ui/access?{urlencode({'as': million.USERS[1], 'model': million.MODELS[1]})}",
        "find": "/ui/find",
        "find a text": "/ui/find?q=claude",
        "call": f"/ui/calls?id={call}",
        "session": f"/ui/sessions/{session}",
        "longest session": f"/ui/sessions/{million.LONG}",
        "longest session, 200": f"/ui/sessions/{million.LONG}?limit=200",
        "longest session, far behind": f"/ui/sessions/{million.LONG}?{after['far']}",
        "api bodies": f"/api/calls/{call}/bodies",
        "api providers": "/api/providers",
        "api health of providers": "/api/providers/health",
        "api quotas": "/api/quotas",
        "api whoami": "/api/whoami",
        "api explain": f"/api/explain?model={quote(million.MODELS[1])}",
        "api config": "/aperture/config",
        "api prices": "/aperture/pricing",
        "api description": "/aperture/openapi.json",
        "metrics": "/metrics",
        "ready": "/readyz",
        **million.lists(after),
        **million.usage(end),
    }


def paths(end, after):
    """Return all pages and answers that are measured: a dict from a label to a path.

    Each page with a filter has a path for each range of time, and one for each filter over twelve months.
    """
    year = {"range": "12m", "zone": INDIA}
    ranges = {**RANGES, **custom(end)}
    answers = {
        f"{name}, {label}": _with(path, {**wanted, "compare": "1"})
        for (name, path), (label, wanted) in product(FILTERED.items(), ranges.items())
    }
    answers |= {
        f"{name}, 12m {label}": _with(path, {**year, **wanted})
        for (name, path), (label, wanted) in product(FILTERED.items(), filters().items())
        if label
    }
    return {**answers, **plain(end, after)}


def _with(path, parameters):
    return f"{path}{'&' if '?' in path else '?'}{urlencode(parameters)}"


async def cost(url, path, rounds=ROUNDS):
    """Return the CPU time, the longest block of the event loop, and the size of an answer to a request for `path`.

    One request before the measurement fills caches.
    """

    async def answer():
        return await asyncio.to_thread(get, url, path)

    status, body = await answer()
    # bodies are kept only on request, so there are none
    assert status == 200 or path.endswith("/bodies"), f"{path}: {status} {body[:500]}"
    spent, blocks = [], []
    for _ in range(rounds):
        begun = time.process_time()
        await answer()
        spent.append((time.process_time() - begun) * 1000)
        async with LoopMonitor() as monitor:
            await answer()
        blocks.append(monitor.longest * 1000)
    return Cost(median(spent), min(blocks), len(body))


@contextmanager
def collecting_as_served():
    """Set up Python's garbage collector as `irisgate serve` does (`process/serve.py`), and restore it at the end."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


async def measured(folder, *, calls=million.CALLS, rounds=ROUNDS, only=""):
    """Measure answers of pages and of the admin API. Return the time and size (`Cost`) of each answer, by its label.

    Only answers whose label contains `only` are measured.
    """
    store = folder / "state" / million.DATABASE
    if not store.exists():
        million.build(store, calls, days=DAYS, end=time.time() - 60)
    file = folder / "config.hujson"
    file.write_text(json.dumps(CONFIG))
    wanted = {name: path for name, path in paths(time.time(), await million.cursors(store)).items() if only in name}
    async with from_file(file) as gateway:
        with collecting_as_served():
            return {name: await cost(gateway.url, path, rounds) for name, path in wanted.items()}


def report(costs):
    rows = [
        (
            name,
            [
                f"{one.cpu_ms:,.1f}", f"{one.block_ms:,.1f}", f"{one.size / 1024:,.0f}",
                " ".join(["CPU"] * (one.cpu_ms > BOUND_MS) + ["loop"] * (one.block_ms > BLOCK_MS)),
            ],
        )
        for name, one in costs.items()
    ]  # fmt: skip
    return table("answer", ["CPU ms", "block ms", "KiB", "over"], rows)


def main(folder=None, only=""):
    with tempfile.TemporaryDirectory() as temporary:
        costs = asyncio.run(measured(Path(folder or temporary), only=only))
        sys.stdout.write(f"{report(costs)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
