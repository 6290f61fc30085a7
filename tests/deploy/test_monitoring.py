"""Tests of the Prometheus rules, alerts and dashboard in `deploy/`. They are checked by promtool, and by a Prometheus
that scrapes a gateway.
"""

import asyncio
import json
import math
import re
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway.testkit import scenarios
from tests.clients.test_prometheus import CALLS, CONVERSE, prometheus, promtool, scraping  # noqa: F401 (fixtures)
from tests.helpers.gateway import CAP, EVERYTHING, HAIKU, NOVA, bedrock, gate
from tests.helpers.waiting import eventually

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "prometheus/rules.yml"
ALERTS = DEPLOY / "prometheus/alerts.yml"
UNIT_TESTS = DEPLOY / "prometheus/tests.yml"
DASHBOARD = json.loads((DEPLOY / "grafana/irisgate.json").read_text())
VARIABLES = {"$__rate_interval": "10s", "$provider": ".*"}
LONGEST = 60
"""Maximum number of seconds until every query has a result."""
REFUSED = 8
"""Number of simultaneous calls to a provider that accepts only one call at a time, so that the others are refused."""


def panels():
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries():
    """Return the dashboard's queries. The key of a panel's query is the panel's title and the query's letter."""
    named = {f"{panel['title']} {target['refId']}": target["expr"] for panel in panels() for target in panel["targets"]}
    for number, annotation in enumerate(DASHBOARD["annotations"]["list"]):
        named[f"annotation {number}"] = annotation["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            (metric,) = re.fullmatch(r"label_values\((\w+), \w+\)", variable["query"]["query"]).groups()
            named[variable["name"]] = metric
    return named


def plain(query):
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    assert "$" not in query
    return query


def test_promtool_finds_nothing_wrong_and_the_unit_tests_pass(promtool):  # noqa: F811 (the fixture)
    config = DEPLOY / "prometheus/prometheus.yml"
    for command in (["check", "config", "--lint-fatal", config], ["test", "rules", UNIT_TESTS]):
        done = subprocess.run([promtool, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_seen_firing_in_a_unit_test():
    alerts = re.findall(r"- alert: (\w+)", ALERTS.read_text())
    tested = re.findall(r"alertname: (\w+)\n +exp_alerts:\n +- exp_labels", UNIT_TESTS.read_text())
    assert len(alerts) > 10
    assert sorted(set(tested)) == sorted(alerts)


def test_each_recorded_series_is_read_by_an_alert_or_the_dashboard():
    recorded = re.findall(r"- record: (\S+)", RULES.read_text())
    readers = ALERTS.read_text() + json.dumps(DASHBOARD)
    assert [name for name in recorded if name not in readers] == []
    assert [name for name in re.findall(r"irisgate:\w+:\w+", readers) if name not in recorded] == []


def test_the_panels_fill_the_grid_and_none_covers_another():
    cells = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        own = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not own & cells, panel["title"]
        assert max(x for x, _ in own) < 24
        cells |= own
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


@asynccontextmanager
async def calling(gw):
    """Make calls of each kind again and again during an `async with` block. The gateway refuses some of them."""

    async def forever():
        while True:
            for path, body in CALLS:
                await gw.post(path, body)
            # this gateway has no file that could be read again
            gw.running.gateway.metrics.config_reloaded(successful=True)
            # the second provider takes one call at a time
            await asyncio.gather(*(gw.post(f"/bedrock/model/{NOVA}/converse", CONVERSE) for _ in range(REFUSED)))

    task = asyncio.create_task(forever())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def samples(session, url, query):
    """Return the values of a query, or [] while Prometheus does not answer yet.

    Raises `AssertionError` if Prometheus does not accept the query.
    """
    try:
        async with session.get(f"{url}/api/v1/query", params={"query": query}) as reply:
            answer = await reply.json()
    except aiohttp.ClientError:
        return []
    assert answer["status"] == "success", (query, answer)
    return [float(sample["value"][1]) for sample in answer["data"]["result"]]


@pytest.fixture
async def gw(tmp_path, bedrock_sim):
    bedrock_sim.default = scenarios.text("Hello", input=12, output=7, cache_read=5)
    capability = {"quotas": [{"bucket": "all"}], "read_metrics": True}
    providers = {
        "bedrock": bedrock(bedrock_sim.url, models=[HAIKU]),
        "narrow": bedrock(bedrock_sim.url, models=[NOVA], calls_in_flight=1),
        # calls that the first provider throttles go on here
        "spare": bedrock(bedrock_sim.url, models=[HAIKU]),
        "asked": {**bedrock(bedrock_sim.url), "models": "discover"},
    }
    quotas = {"all": {"capacity": "$1000.00", "rate": "$1.00/day"}}
    grants = [*EVERYTHING, {"src": ["*"], "app": {CAP: [capability]}}]
    async with gate(tmp_path / "state", providers, grants=grants, more={"quotas": quotas}) as running:
        yield running


async def test_every_query_of_the_dashboard_has_a_result_under_load(prometheus, gw, tmp_path):  # noqa: F811
    wanted = {name: plain(query) for name, query in queries().items()}
    assert len(wanted) > 25
    async with (
        calling(gw),
        scraping(prometheus, tmp_path, gw.url.removeprefix("http://"), rules=[RULES, ALERTS]) as url,
        aiohttp.ClientSession() as session,
    ):

        async def answered():
            for name, query in list(wanted.items()):
                values = await samples(session, url, query)
                # a quotient of rates is no number before the first call
                if values and any(map(math.isfinite, values)):
                    del wanted[name]
            return not wanted or None

        try:
            await eventually(answered, LONGEST)
        except AssertionError:
            raise AssertionError(f"no result: {wanted}") from None
        alerts = {alert["labels"]["alertname"] for alert in await firing(session, url)}
    assert alerts <= {"IrisgateProviderFailing", "IrisgateCallsRefused"}


async def firing(session, url):
    async with session.get(f"{url}/api/v1/alerts") as reply:
        alerts = (await reply.json())["data"]["alerts"]
    return [alert for alert in alerts if alert["state"] == "firing"]
