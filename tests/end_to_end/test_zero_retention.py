"""Tests of zero retention (`database.retention.duration` is "0"): no text of a client or a model is stored or logged.

A canary is put into everything that has content, and then searched for in the journal, the store, the log and an
export.
"""

import gzip
from contextlib import asynccontextmanager

import pytest

from gateway.process.exports import export, task
from gateway.testkit import scenarios
from tests.helpers.gateway import EVERYTHING, HAIKU, NOVA, bedrock, gate
from tests.helpers.postgres import cluster
from tests.helpers.waiting import eventually

CANARY = "canary-that-somebody-wrote"
HEADERS = {"x-team": f"{CANARY}-in-a-header", "referer": f"https://example.com/{CANARY}"}
TOOL = {"name": "note", "description": CANARY, "input_schema": {"type": "object", "properties": {}}}
FILE = {"type": "image_url", "image_url": {"url": f"https://127.0.0.1/{CANARY}.png"}}
ERRORS = ("", "ValidationException", "AccessDeniedException")
MESSAGE = f"messages.0.content: {CANARY} is not allowed"
REQUESTS = (
    ("/v1/chat/completions", {"model": NOVA, "messages": [{"role": "user", "content": CANARY}], "user": CANARY}),
    ("/v1/messages", {"model": HAIKU, "max_tokens": 9, "stream": True, "tools": [TOOL],
                      "messages": [{"role": "user", "content": CANARY}]}),
    # refused by the gateway, with words of the request
    ("/v1/chat/completions", {"model": NOVA, "messages": [{"role": CANARY, "content": "hi"}]}),
    ("/v1/chat/completions", {"model": NOVA, "messages": [{"role": "user", "content": [FILE]}]}),
    ("/v1/chat/completions", {"model": NOVA, "messages": CANARY}),
)  # fmt: skip


@pytest.fixture(params=["sqlite", "postgres"])
def kept(request):
    """Return the settings of a store, and a function that returns a dump of the PostgreSQL database.

    With SQLite, the function returns no bytes, because the database is a file in the state folder.
    """
    if request.param == "sqlite":
        return {}, lambda: b""
    postgres = cluster()
    address = postgres.address()
    dump = ("pg_dump", f"--host={postgres.folder}", "--username=irisgate", address.database)
    return {"storage": {"url": postgres.url(address)}}, lambda: postgres._run(*dump).encode()


@asynccontextmanager
async def serving(state, sim, duration, settings):
    more = {
        "database": {"save_raws": True, "filterable": ["x-team"], "retention": {"duration": duration}},
        "exporters": {"folder": {"path": str(state / "out"), "every": 1, "format": "json.gz", "bodies": True}},
        **settings,
    }
    async with gate(state, {"b": bedrock(sim.url)}, grants=EVERYTHING, more=more) as gw:
        yield gw


async def everything_written(state, sim, duration, kept, monkeypatch, errors=ERRORS):
    """Make each call in `REQUESTS` once for each item of `errors`. An item is the provider's error, or "" for a
    successful reply.

    Return all bytes that the gateway has written to its files, the database, the log and the export.
    """
    monkeypatch.setattr(task, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(export, "SETTLE_SECONDS", 0)
    settings, rest = kept
    async with serving(state, sim, duration, settings) as gw:
        for error in errors:
            for path, body in REQUESTS:
                sim.default = scenarios.error(error, MESSAGE) if error else scenarios.text(CANARY)
                reply = await gw.post(path, body, headers=HEADERS)
                assert reply.status >= 400 or not error
        await gw.calls(len(errors) * len(REQUESTS))
        await gw.running.gateway.follower.flush()
        exported = gw.running.gateway.metrics.registry.get_sample_value
        labels = {"exporter": "folder"}
        await eventually(lambda: exported("irisgate_exported_calls_total", labels) == len(errors) * len(REQUESTS), 20)
        await gw.log_is_written()
    files = [file.read_bytes() for file in sorted(state.rglob("*")) if file.is_file()]
    files += [gzip.decompress(file.read_bytes()) for file in (state / "out").glob("*.gz")]
    return b"\n".join([*files, bytes(gw.lines.data), rest()])


async def test_nothing_of_a_call_is_kept(tmp_path, bedrock_sim, kept, monkeypatch):
    written = await everything_written(tmp_path, bedrock_sim, "0", kept, monkeypatch)
    at = written.find(CANARY.encode())
    assert at < 0, written[max(0, at - 500) : at + 100]
    assert b"invalid_request" in written


async def test_the_canaries_are_found_without_zero_retention(tmp_path, bedrock_sim, monkeypatch):
    """Check that the test's search finds the canaries if calls are stored. A canary is a text that must not be stored
    with zero retention.

    This shows that the search works.
    """
    written = await everything_written(tmp_path, bedrock_sim, "7d", ({}, lambda: b""), monkeypatch, ERRORS[1:2])
    for canary in (HEADERS["x-team"], MESSAGE):
        assert canary.encode() in written
