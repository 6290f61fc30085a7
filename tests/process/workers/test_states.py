"""Tests of what the keeper (the parent process) shows of its workers: calls in flight, health, keys and metrics.

The keeper and its two workers are three gateways in the test's process. The keeper gets the workers' answers by
function calls, without connections.
"""

import asyncio
import json
from contextlib import AsyncExitStack
from types import SimpleNamespace

import msgspec
import pytest

from gateway.call.live_calls import LiveCall
from gateway.money.quotas.buckets import Bucket
from gateway.process.workers import states
from gateway.process.workers.balance import Slots
from gateway.process.workers.merged_metrics import MergedMetrics
from gateway.process.workers.states import METRICS, STATE, WorkerStates, answers
from gateway.testkit import scenarios
from gateway.upstream.health.circuits import Health
from gateway.upstream.health.merged import MergedHealth, merged
from gateway.upstream.health.standings import Failure, Standing
from tests.helpers.gateway import CAP, EVERYTHING, HAIKU, bedrock, gate
from tests.helpers.hostile_http import CHAT
from tests.helpers.waiting import eventually
from tests.store.test_journal import room

NOWHERE = "http://127.0.0.1:9"
MORE = {
    "resilience": {"circuit_breaker": {"open_seconds": 300}},
    "quotas": {"all": {"capacity": "$10.00", "rate": "$0.00/day"}},
}
GRANTS = [*EVERYTHING, {"src": ["*"], "app": {CAP: [{"quotas": [{"bucket": "all"}]}]}}]


class Workers:
    """A stand-in for the keeper's connections to its two workers. The keeper is the parent process.

    `answers` has the running workers. `silent` has the names of the workers that do not answer.
    """

    def __init__(self, *gates):
        self.answers = {name: answers(gw.running.gateway) for name, gw in zip("ab", gates, strict=True)}
        self.silent = set()
        self.most = len(gates)
        self.questions = []

    @property
    def size(self):
        return len(self.answers)

    async def asked(self, name, seconds):
        assert seconds == 1
        self.questions.append(name)
        return {spool: await each[name]() for spool, each in self.answers.items() if spool not in self.silent}


def providers(sim):
    return {"b": bedrock(sim.url, models=[HAIKU]), "down": bedrock(NOWHERE, models=[HAIKU])}


@pytest.fixture
async def three(tmp_path, bedrock_sim, monkeypatch):
    """Yield the keeper (the parent process), its workers, and the connections between them.

    The keeper asks its workers anew for each request, because it keeps their answers for 0 seconds here.
    """
    monkeypatch.setattr(states, "FRESH_SECONDS", 0.0)
    async with AsyncExitStack() as stack:
        gates = []
        for name in ("keeper", "one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            gates.append(
                await stack.enter_async_context(gate(folder, providers(bedrock_sim), grants=GRANTS, more=MORE))
            )
        keeper, *workers = gates
        gateway, asking, slots = keeper.running.gateway, Workers(*workers), Slots.create(2)
        stack.callback(slots.close)
        gateway.health = MergedHealth(gateway.runtime.config)
        metrics = MergedMetrics(gateway.metrics.registry)
        for slot, spool in enumerate("ab"):
            metrics.begun(spool, slot)
        gateway.workers = WorkerStates(gateway, gateway.health, asking, slots, metrics)
        yield SimpleNamespace(keeper=keeper, workers=workers, asking=asking, slots=slots)


async def test_the_page_now_shows_the_calls_of_all_workers(three, bedrock_sim):
    held = scenarios.Gate()
    bedrock_sim.default = scenarios.replace(scenarios.NAMED["text"], gate=held)
    keeper, workers = three.keeper, three.workers
    body = {**CHAT, "model": f"b/{HAIKU}", "stream": True}
    calls = [asyncio.create_task(worker.post("/v1/chat/completions", body)) for worker in workers]
    await eventually(lambda: all(worker.running.gateway.calls for worker in workers))
    assert (await (await keeper.get("/ui/now")).text()).count(f">{HAIKU}<") == 2
    assert [call.model for call in keeper.running.gateway.live_calls] == [HAIKU, HAIKU]
    held.let_pass(1000)
    assert [reply.status for reply in await asyncio.gather(*calls)] == [200, 200]
    await eventually(lambda: not any(worker.running.gateway.calls for worker in workers))
    assert HAIKU not in await (await keeper.get("/ui/now")).text()


async def test_open_pages_are_told_of_calls_in_the_workers(three):
    gateway = three.keeper.running.gateway
    assert not gateway.is_serving_calls
    three.slots.write(1, 3, 2)
    assert gateway.is_serving_calls


async def test_a_model_that_rests_in_one_worker_is_shown_as_resting(three, bedrock_sim):
    worker, keeper = three.workers[1], three.keeper
    bedrock_sim.default = scenarios.NAMED["error"]
    for _ in range(6):
        await worker.post("/v1/chat/completions", {**CHAT, "model": f"b/{HAIKU}"})
    rows = (await (await keeper.get("/api/providers/health")).json())["providers"]
    states_by_provider = {row["provider"]: (row["state"], row["cause"]) for row in rows}
    assert states_by_provider == {"b": ("open", "failures"), "down": ("closed", "")}
    status, body = await keeper.readiness()
    assert (status, body["providers"], body["workers"]) == (200, "resting", "alive")
    text = await (await keeper.get("/metrics")).text()
    assert f'irisgate_circuit_state{{model="{HAIKU}",provider="b",state="open"}} 1.0' in text
    assert "rests for" in await (await keeper.get("/ui/providers")).text()
    assert "1 model of b rests." in await (await keeper.get("/ui/")).text()


async def test_a_key_that_one_worker_knows_as_refused_is_shown(three, bedrock_sim):
    worker, keeper = three.workers[0], three.keeper
    assert (await keeper.readiness())[1]["keys"] == "accepted"
    bedrock_sim.keys = {"another"}
    await worker.post("/v1/chat/completions", {**CHAT, "model": f"b/{HAIKU}"})
    assert (await keeper.readiness())[1]["keys"] == "refused"
    bedrock_sim.keys = None
    worker.running.gateway.keys.clear()
    assert (await keeper.readiness())[1]["keys"] == "accepted"


async def test_readyz_tells_of_missing_workers(three):
    keeper = three.keeper
    assert (await keeper.readiness())[0] == 200
    del three.asking.answers["a"]
    status, body = await keeper.readiness()
    (problem,) = body["problems"]
    assert (status, body["status"], body["workers"]) == (200, "ready", "missing")
    assert problem["reason"] == "1 of 2 worker processes are not there"
    three.asking.answers.clear()
    status, body = await keeper.readiness()
    assert (status, body["status"], body["workers"]) == (503, "unready", "missing")


async def test_readyz_tells_that_a_worker_cannot_write(three):
    with room(0):
        three.keeper.running.gateway.follower.disk_fault = lambda: ""
        assert (await three.keeper.becomes(503))["disk"] == "unwritable"


async def test_the_metrics_are_those_of_all(three):
    for worker in three.workers:
        reply = await worker.post("/v1/chat/completions", {**CHAT, "model": f"b/{HAIKU}"})
        assert reply.status == 200
        await worker.calls()
    text = await (await three.keeper.get("/metrics")).text()
    assert [line for line in text.splitlines() if line.startswith("irisgate_requests_total")] == [
        f'irisgate_requests_total{{api="openai_chat",model="{HAIKU}",outcome="ok",provider="b",status="2xx"}} 2.0'
    ]
    assert "irisgate_workers 2.0" in text


async def test_reservations_of_workers_are_shown_with_the_quota(three, bedrock_sim):
    """Check the reserved amount that the API shows for a quota. It is the sum over the calls in flight of both workers,
    and 0 when the calls have ended.
    """
    held = scenarios.Gate()
    bedrock_sim.default = scenarios.replace(scenarios.NAMED["text"], gate=held)
    keeper, workers = three.keeper, three.workers
    calls = [asyncio.create_task(worker.post("/v1/chat/completions", {**CHAT, "stream": True})) for worker in workers]
    await eventually(lambda: all(worker.running.gateway.quotas.reserved() for worker in workers))
    reserved = sum(worker.running.gateway.quotas.reserved()["all"] for worker in workers)
    for path in ("/api/quotas", "/api/quotas?bucket=all"):
        (bucket,) = (await (await keeper.get(path)).json())["quotas"]
        assert bucket["reserved_usd"] == reserved / 1e9
    held.let_pass(1000)
    await asyncio.gather(*calls)
    await eventually(lambda: not any(worker.running.gateway.quotas.reserved() for worker in workers))
    (bucket,) = (await (await keeper.get("/api/quotas")).json())["quotas"]
    assert bucket["reserved_usd"] == 0


def used(text):
    """Return the value of `irisgate_quota_used_ratio` for the only quota in a text of metrics."""
    (line,) = [line for line in text.splitlines() if line.startswith("irisgate_quota_used_ratio{")]
    return float(line.split()[-1])


async def test_the_metric_of_used_quotas_has_the_reservations_of_workers(three, bedrock_sim):
    """Check that the metric `irisgate_quota_used_ratio` includes the amounts that calls in the workers have reserved.

    The keeper asks the workers for these amounts whenever its metrics are read. If a worker does not answer, its
    amounts are left out.
    """
    held = scenarios.Gate()
    bedrock_sim.default = scenarios.replace(scenarios.NAMED["text"], gate=held)
    keeper, workers = three.keeper, three.workers
    body = {**CHAT, "stream": True, "max_tokens": 100_000}
    calls = [asyncio.create_task(worker.post("/v1/chat/completions", body)) for worker in workers]
    await eventually(lambda: all(worker.running.gateway.quotas.reserved() for worker in workers))
    first, second = (worker.running.gateway.quotas.reserved()["all"] for worker in workers)
    quotas = keeper.running.gateway.quotas
    rule = quotas.rules["all"]
    # as at the first request of a worker for a part of the balance
    quotas.shared_bucket(Bucket("money", "all"), rule)
    text = await (await keeper.get("/metrics")).text()
    assert used(text) == (first + second) * 100 // rule.capacity / 100 > 0
    three.asking.silent = {"a"}
    assert used(await (await keeper.get("/metrics")).text()) == second * 100 // rule.capacity / 100
    three.asking.silent = set()
    held.let_pass(1000)
    await asyncio.gather(*calls)
    await eventually(lambda: not any(worker.running.gateway.quotas.reserved() for worker in workers))
    assert used(await (await keeper.get("/metrics")).text()) == 0
    assert set(three.asking.questions) == {METRICS}


async def test_a_silent_worker_is_left_out_and_counted(three):
    three.asking.silent = {"a"}
    text = await (await three.keeper.get("/metrics")).text()
    assert "irisgate_worker_silent_total 1.0" in text
    assert 'irisgate_worker_connections{worker="1"}' in text
    assert 'irisgate_worker_connections{worker="0"}' not in text


async def test_many_readers_cause_one_question(three, monkeypatch):
    monkeypatch.setattr(states, "FRESH_SECONDS", 3600.0)
    await asyncio.gather(*(three.keeper.get("/api/providers/health") for _ in range(20)))
    assert three.asking.questions.count(STATE) == 1


async def test_texts_that_json_cannot_have_are_replaced(three):
    one = LiveCall(
        id="x", session_id="s\udcff", identity="a", agent="é\ud800", provider="", model="m", api="", stream=False,
        at=0.0, age_ms=0.0, first_event_ms=None, output_tokens=0, attempts=0,
    )  # fmt: skip
    sent = states._sendable(one)
    assert (sent.session_id, sent.agent) == ("s?", "é?")
    assert json.loads(msgspec.json.encode(sent))["agent"] == "é?"


# the worst of several states


def standing(state="closed", *, cause="", retry_in=None, calls=0, mean=None, success=None, failure=None):
    return Standing(
        provider="p", model="m", state=state, cause=cause, since=None, retry_in=retry_in, calls=calls, failures=calls,
        throttles=1, mean_seconds=mean, last_success_at=success, last_failure=failure, enabled=True, has_other=False,
    )  # fmt: skip


def test_the_worst_state_and_the_sums_of_all_workers_are_shown():
    early, late = Failure(1.0, "upstream", "early"), Failure(2.0, "timeout", "late")
    shown = merged(
        [
            standing(calls=1, mean=1.0, success=5.0, failure=late),
            standing("open", cause="failures", retry_in=7.0, calls=3, mean=2.0, failure=early),
            standing("half_open", calls=2),
        ]
    )
    assert (shown.state, shown.cause, shown.retry_in) == ("open", "failures", 7.0)
    assert (shown.calls, shown.failures, shown.throttles) == (6, 6, 3)
    assert (shown.mean_seconds, shown.last_success_at, shown.last_failure) == (1.75, 5.0, late)


def test_a_failing_model_is_worse_than_a_throttled_one():
    throttled, failing = standing("open", cause="throttled", retry_in=60.0), standing("open", cause="failures")
    assert merged([throttled, failing]).cause == "failures"
    assert merged([standing(), throttled]).retry_in == 60.0


def test_before_the_first_answer_nothing_is_known(three):
    health = three.keeper.running.gateway.health
    assert isinstance(health, Health)
    assert {one.state for one in health.standings()} == {"closed"}
    assert health.resting() == (0, 0)
