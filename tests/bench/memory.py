"""Measures the memory that many concurrent calls with large bodies use: `python -m tests.bench.memory [CALLS]
[MEGABYTES]`.

The gateway and its worker processes run outside this process. Their resident memory is added up ten times a second. A
call that does not fit into `server.limits.buffer_bytes` is refused with 503; every other call must succeed.
"""

import asyncio
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import aiohttp
from aiohttp import web

from tests.bench.measure import table
from tests.helpers.gateway import EVERYTHING, HAIKU, bedrock
from tests.helpers.processes import environment, running
from tests.helpers.providers import provider

PAUSE_SECONDS = 0.1
REPLY = {
    "output": {"message": {"role": "assistant", "content": [{"text": "ok"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2},
}
WAYS = {
    "native Converse": (f"/bedrock/model/{HAIKU}/converse", lambda text: {"messages": [_turn([{"text": text}])]}),
    "chat to Converse": ("/v1/chat/completions", lambda text: {"model": HAIKU, "messages": [_turn(text)]}),
}


def _turn(content):
    return {"role": "user", "content": content}


async def _answer(request):
    await request.read()
    await asyncio.sleep(1)
    return web.json_response(REPLY)


def resident(pid):
    """Return the resident megabytes of a process and its children."""
    pages = 0
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if pid in {int(process.name), parent}:
                pages += int((process / "statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return pages * 4096 / 1e6


async def watched(pid, peak):
    while True:
        peak["MB"] = max(peak.get("MB", 0), resident(pid))
        await asyncio.sleep(PAUSE_SECONDS)


async def _measured(served, path, body, calls, pause):
    """Return the number of replies by status, and the memory in megabytes at the peak and after a pause."""
    peak = {}
    watching = asyncio.create_task(watched(served.process.pid, peak))

    async def call(session):
        try:
            async with session.post(served.url + path, data=body) as reply:
                await reply.read()
                return reply.status
        except aiohttp.ClientError:
            return "refused while sending"

    timeout = aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        statuses = Counter(await asyncio.gather(*(call(session) for _ in range(calls))))
    await asyncio.sleep(pause)
    watching.cancel()
    return statuses, peak["MB"], resident(served.process.pid)


def _config(folder, url):
    path = folder / "config.hujson"
    path.write_text(json.dumps({"providers": {"b": bedrock(url, flags=("bedrock_converse",))}, "grants": EVERYTHING}))
    return path


async def measured(calls, megabytes, pause=5):
    """Return a table with the number of replies by status and the resident memory, for each kind of call in `WAYS`."""
    rows = []
    async with provider(_answer, 2**30) as url:
        with tempfile.TemporaryDirectory() as folder:
            config = _config(Path(folder), url)
            for name, (path, made) in WAYS.items():
                serve = ("serve", "--config", str(config), "--listen", "127.0.0.1:0")
                async with running(
                    sys.executable, "-m", "gateway", *serve, cwd=folder, env=environment(Path(folder))
                ) as served:
                    before = resident(served.process.pid)
                    body = json.dumps(made("x " * (megabytes * 500_000))).encode()
                    statuses, peak, after = await _measured(served, path, body, calls, pause)
                    rows.append((name, [str(dict(statuses)), f"{before:.0f}", f"{peak:.0f}", f"{after:.0f}"]))
    return table("way", ["replies by status", "MB before", "MB at the peak", "MB later"], rows)


if __name__ == "__main__":
    many, large = map(int, sys.argv[1:] or ("500", "4"))
    sys.stdout.write(asyncio.run(measured(many, large)) + "\n")
