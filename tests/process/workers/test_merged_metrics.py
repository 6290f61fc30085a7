"""Tests of the metrics of several processes in one text."""

import asyncio
import shutil
from asyncio.subprocess import PIPE, STDOUT
from types import SimpleNamespace

import msgspec
import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families

from gateway.process.workers.merged_metrics import MergedMetrics
from gateway.process.workers.metric_families import _RULES, Family, families
from gateway.telemetry.metrics import Metrics
from gateway.upstream.health.circuit import STATES
from tests.helpers.records import HAIKU, record

CALL = {"provider": "bedrock", "model": HAIKU, "api": "openai_chat"}
OK = {**CALL, "status": "2xx", "outcome": "ok"}
TRANSFER = msgspec.json.Decoder(list[Family])


def config():
    configured = {"bedrock": SimpleNamespace(models=(HAIKU,))}
    return SimpleNamespace(providers=configured, metrics=SimpleNamespace(users=2))


def process():
    """Return the metrics of a simulated process, with every gauge that a running gateway has."""
    metrics = Metrics(config(), version="1.2.3")
    metrics.journal(SimpleNamespace(lag=10, waiting=1, failing=False, disk_fault=lambda: ""))
    metrics.checks(lambda: {"disk": 0.0}, lambda: True)
    metrics.admission(lambda: 3, lambda: 100, lambda: {"bedrock": 2})
    metrics.connections(lambda: 5)
    metrics.quotas(lambda: {"team": 0.5})
    metrics.retry_budget(lambda: 0.25)
    metrics.discovery(lambda: {"bedrock": 7}, lambda: {"bedrock": 0})
    return metrics


@pytest.fixture
def keeper():
    return process()


@pytest.fixture
def merging(keeper):
    merged = MergedMetrics(keeper.registry)
    for slot in range(3):
        merged.begun(str(slot), slot)
    return merged


def sent(metrics):
    """Return the metrics of a worker in the form in which the keeper (the parent process) receives them."""
    return TRANSFER.decode(msgspec.json.encode(families(metrics.registry)))


async def values(merging, *answers):
    """Merge the metrics of the workers 0, 1 and so on, and return the samples in the merged text."""
    return await merged_values(merging, {str(slot): answer for slot, answer in enumerate(answers)})


async def merged_values(merging, answers):
    text = (await merging.render(answers)).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(found, name, **labels):
    return found[name, tuple(sorted(labels.items()))]


async def test_counters_and_histograms_are_added_up(merging, keeper):
    one, two = process(), process()
    one.observe(record(duration_ms=15.0, cost=2_000_000_000))
    two.observe(record(duration_ms=15.0, cost=1_000_000_000))
    two.observe(record(duration_ms=1500.0))
    keeper.observe(record())
    found = await values(merging, sent(one), sent(two))
    assert of(found, "irisgate_requests_total", **OK) == 4
    assert of(found, "irisgate_request_duration_seconds_bucket", **CALL, le="0.02") >= 2
    assert of(found, "irisgate_request_duration_seconds_bucket", **CALL, le="+Inf") == 4
    assert of(found, "irisgate_request_duration_seconds_count", **CALL) == 4


async def test_a_series_of_one_process_alone_is_there(merging):
    other = process()
    other.fetched("ok")
    found = await values(merging, sent(process()), sent(other))
    assert of(found, "irisgate_fetches_total", outcome="ok") == 1


async def test_gauges_are_joined_as_their_rules_say(merging, keeper):
    one, two = process(), process()
    one.open_streams.set(2)
    two.open_streams.set(3)
    one.config_reloaded(successful=False)
    keeper.config_reloaded(successful=True)
    found = await values(merging, sent(one), sent(two))
    assert of(found, "irisgate_open_streams") == 5
    assert of(found, "irisgate_connections") == 10  # the keeper's connections are those of its workers
    assert of(found, "irisgate_calls_in_flight") == 9
    assert of(found, "irisgate_provider_calls_in_flight", provider="bedrock") == 6
    assert of(found, "irisgate_config_last_reload_successful") == 0
    assert of(found, "irisgate_config_reloads_total", result="success") == 1
    assert of(found, "irisgate_config_reloads_total", result="failure") == 0
    assert of(found, "irisgate_quota_used_ratio", quota="team") == 0.5
    assert of(found, "irisgate_retry_budget_used_ratio") == 0.25
    assert of(found, "irisgate_ready") == 1
    assert of(found, "irisgate_build_info", version="1.2.3") == 1


async def test_a_model_is_in_the_worst_state_that_a_worker_sees(merging, keeper):
    def standing(state):
        metrics = process()
        one = SimpleNamespace(provider="bedrock", model=HAIKU, state=state)
        metrics.circuits.watch(lambda: [one], STATES)
        return metrics

    model = {"provider": "bedrock", "model": HAIKU}
    found = await values(merging, sent(standing("closed")), sent(standing("open")), sent(standing("half_open")))
    states = {state: of(found, "irisgate_circuit_state", **model, state=state) for state in STATES}
    assert states == {"closed": 0, "half_open": 0, "open": 1, "slow_start": 0}
    found = await values(merging, sent(standing("closed")), sent(standing("slow_start")), sent(standing("closed")))
    assert of(found, "irisgate_circuit_state", **model, state="slow_start") == 1
    assert of(found, "irisgate_circuit_state", **model, state="closed") == 0


async def test_a_counter_does_not_fall_when_a_worker_is_replaced(merging):
    first = process()
    first.observe(record())
    await merging.render({"0": sent(first)})
    merging.ended("0", crashed=True)
    found = await values(merging)
    assert of(found, "irisgate_requests_total", **OK) == 1
    assert of(found, "irisgate_workers") == 2
    second = process()
    second.observe(record())
    merging.begun("17", 0)
    found = await merged_values(merging, {"17": sent(second)})
    assert of(found, "irisgate_requests_total", **OK) == 2
    assert of(found, "irisgate_worker_connections", worker="0") == 5
    assert of(found, "irisgate_worker_ends_total") == 1
    assert of(found, "irisgate_workers") == 3


async def test_an_answer_of_a_worker_that_has_ended_counts_once(merging):
    worker = process()
    worker.observe(record())
    await merging.render({"0": sent(worker)})
    merging.ended("0", sent(worker))
    found = await values(merging, sent(worker))
    assert of(found, "irisgate_requests_total", **OK) == 1
    assert of(found, "irisgate_calls_in_flight") == 3


async def test_the_last_counts_of_a_worker_come_with_its_end(merging):
    worker = process()
    worker.observe(record())
    await merging.render({"0": sent(worker)})
    worker.observe(record())
    merging.ended("0", sent(worker))
    found = await values(merging)
    assert of(found, "irisgate_requests_total", **OK) == 2
    assert of(found, "irisgate_worker_ends_total") == 0


async def test_a_silent_worker_keeps_its_counters_and_loses_its_gauges(merging):
    worker = process()
    worker.observe(record())
    assert of(await values(merging, sent(worker)), "irisgate_calls_in_flight") == 6
    merging.silent(1)
    found = await values(merging)
    assert of(found, "irisgate_requests_total", **OK) == 1
    assert of(found, "irisgate_calls_in_flight") == 3
    assert of(found, "irisgate_worker_silent_total") == 1
    worker.observe(record())
    assert of(await values(merging, sent(worker)), "irisgate_requests_total", **OK) == 2


async def test_memory_and_time_are_those_of_all_processes(merging):
    worker = process()
    found = await values(merging, sent(worker), sent(worker))
    own = of(found, "irisgate_worker_resident_memory_bytes", worker="keeper")
    each = of(found, "irisgate_worker_resident_memory_bytes", worker="0")
    assert of(found, "process_resident_memory_bytes") == own + 2 * each
    assert of(found, "irisgate_worker_cpu_seconds_total", worker="1") > 0
    # one process in the test, so the fullest and the emptiest are the same
    assert 0 < of(found, "process_open_fds") < of(found, "process_max_fds")


def test_every_gauge_has_a_rule(keeper):
    keeper.circuits.watch(list, STATES)
    gauges = {family.name for family in families(keeper.registry) if family.kind in {"gauge", "info", "unknown"}}
    assert gauges <= set(_RULES)
    assert set(_RULES) <= {family.name for family in families(keeper.registry)}


def test_a_value_that_json_cannot_have_is_left_out():
    registry = CollectorRegistry()
    Gauge("endless", "A gauge.", registry=registry).set(float("inf"))
    assert [family.samples for family in families(registry)] == [()]


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (of Debian's package prometheus) is not installed"
)
async def test_promtool_finds_nothing_to_say(merging, keeper):
    worker = process()
    worker.observe(record())
    worker.overhead("openai_chat", 0.001)
    text = await merging.render({"0": sent(worker), "1": sent(process())})
    done = await asyncio.create_subprocess_exec("promtool", "check", "metrics", stdin=PIPE, stdout=PIPE, stderr=STDOUT)
    output, _ = await done.communicate(text)
    assert (done.returncode, output) == (0, b"")
