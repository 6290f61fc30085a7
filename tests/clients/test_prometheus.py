"""Tests that a real Prometheus reads the gateway's metrics, and that Prometheus's linter accepts the metrics."""

import asyncio
import json
import socket
from contextlib import asynccontextmanager

import aiohttp
import pytest

from gateway.testkit import scenarios
from tests.clients.samples import program
from tests.helpers.gateway import HAIKU, NOVA
from tests.helpers.processes import served

HELLO = [{"role": "user", "content": "hello"}]
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}
MESSAGES = {"model": HAIKU, "max_tokens": 50, "messages": HELLO}
CLAUDE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 50, "messages": HELLO}
CALLS = [
    ("/v1/chat/completions", {"model": HAIKU, "messages": HELLO}),
    ("/v1/chat/completions", {"model": NOVA, "messages": HELLO, "stream": True, "seed": 1}),
    ("/v1/messages", MESSAGES),
    ("/v1/messages", {**MESSAGES, "stream": True}),
    (f"/bedrock/model/{HAIKU}/invoke", CLAUDE),
    (f"/bedrock/model/{HAIKU}/invoke-with-response-stream", CLAUDE),
    (f"/bedrock/model/{NOVA}/converse", CONVERSE),
    (f"/bedrock/model/{NOVA}/converse-stream", CONVERSE),
    ("/v1/messages/count_tokens", {"model": HAIKU, "messages": HELLO}),
    ("/v1/messages", {**MESSAGES, "model": "not there"}),
    ("/v1/messages", {**MESSAGES, "messages": [{"role": "user", "content": "[[scenario: throttle]]"}]}),
]
"""Calls of every kind. One of them has a field that is dropped, one is refused, and one fails at the provider."""
SECONDS = 30
"""Maximum number of seconds for Prometheus to start and to scrape the metrics."""


@pytest.fixture
def prometheus():
    return program("prometheus", "prometheus", "usr", "bin")


@pytest.fixture
def promtool():
    return program("promtool", "prometheus", "usr", "bin")


async def make_calls(gw):
    for path, body in CALLS:
        await gw.post(path, body)
    await gw.calls(len(CALLS))


@asynccontextmanager
async def scraping(path, folder, target, rules=()):
    """Run a Prometheus that scrapes one target and evaluates files of rules every second, and yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    job = {"job_name": "irisgate", "scrape_interval": "1s", "static_configs": [{"targets": [target]}]}
    config = folder / "prometheus.yml"
    document = {"global": {"evaluation_interval": "1s"}, "rule_files": list(map(str, rules)), "scrape_configs": [job]}
    config.write_text(json.dumps(document))  # JSON is YAML too
    process = await asyncio.create_subprocess_exec(
        path,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        await process.wait()


async def value(session, url, query):
    """Return the value of a query with one result. Return None while there is no result, or while Prometheus does not
    answer.
    """
    try:
        async with session.get(f"{url}/api/v1/query", params={"query": query}) as reply:
            samples = (await reply.json())["data"]["result"]
    except (aiohttp.ClientError, KeyError):
        return None
    return float(samples[0]["value"][1]) if samples else None


async def until(session, url, query, expected):
    for _ in range(SECONDS * 5):
        if (number := await value(session, url, query)) == expected:
            return number
        await asyncio.sleep(0.2)
    return number


async def test_prometheus_scrapes_what_was_called_and_what_it_cost(prometheus, gw, bedrock_sim, tmp_path):
    bedrock_sim.default = scenarios.NAMED["text"]
    await make_calls(gw)
    async with (
        scraping(prometheus, tmp_path, gw.url.removeprefix("http://")) as url,
        aiohttp.ClientSession() as session,
    ):
        assert await until(session, url, "sum(irisgate_requests_total)", len(CALLS)) == len(CALLS)
        refused = await value(session, url, 'sum(irisgate_requests_total{outcome="refused"})')
        output = await value(session, url, 'sum(irisgate_tokens_total{kind="output"})')
        dollars = await value(session, url, "sum(irisgate_cost_usd_total)")
        up = await value(session, url, "up")
    assert (refused, output, up) == (1, 8 * 7, 1)
    assert dollars == pytest.approx(sum(record["cost_usd"] or 0 for record in await gw.calls(len(CALLS))))


async def test_prometheus_scrapes_the_demo(prometheus, tmp_path):
    async with served(tmp_path, "demo", "--listen", "127.0.0.1:18080") as demo:
        assert (await demo.chat())[0] == 200
        async with scraping(prometheus, tmp_path, demo.url.removeprefix("http://")) as url:
            assert await until(demo.session, url, 'sum(irisgate_requests_total{outcome="ok"})', 1) == 1


async def test_promtool_has_nothing_to_say_about_the_metrics(promtool, gw):
    await make_calls(gw)
    process = await asyncio.create_subprocess_exec(
        promtool, "check", "metrics",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate(await (await gw.get("/metrics")).read())
    assert (process.returncode, output.decode()) == (0, "")
