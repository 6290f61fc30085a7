"""Tests of metrics: which metrics a call changes, that a label has few values, and that the names follow Prometheus's
rules.
"""

import shutil
import subprocess
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from gateway.contract.flag import Usage
from gateway.telemetry import metrics as module
from gateway.telemetry.label_names import LabelNames
from gateway.telemetry.metrics import Metrics
from tests.helpers.records import HAIKU, record


def config(users=0, **providers):
    configured = {name: SimpleNamespace(models=models) for name, models in providers.items()}
    return SimpleNamespace(providers=configured, metrics=SimpleNamespace(users=users))


@pytest.fixture
def metrics():
    return Metrics(config(bedrock=(HAIKU, "opus")), version="1.2.3")


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(f"irisgate_{name}", labels)


CALL = {"provider": "bedrock", "model": HAIKU, "api": "openai_chat"}
MODEL = {"provider": "bedrock", "model": HAIKU}


def test_a_call_counts_by_what_became_of_it(metrics):
    metrics.observe(record())
    metrics.observe(record(status=503, outcome="failed"))
    assert value(metrics, "requests_total", **CALL, status="2xx", outcome="ok") == 1
    assert value(metrics, "requests_total", **CALL, status="5xx", outcome="failed") == 1


def test_times_are_in_seconds(metrics):
    metrics.observe(record(duration_ms=1500.0, first_event_ms=250.0))
    assert value(metrics, "request_duration_seconds_sum", **CALL) == 1.5
    assert value(metrics, "time_to_first_event_seconds_sum", **CALL) == 0.25


def test_a_call_without_a_stream_has_no_first_event(metrics):
    metrics.observe(record(first_event_ms=None))
    assert value(metrics, "time_to_first_event_seconds_count", **CALL) == 0


def test_tokens_count_by_kind(metrics):
    metrics.observe(record(usage=Usage(input=3, cache_write_1h=9)))
    assert value(metrics, "tokens_total", **MODEL, kind="input") == 3
    assert value(metrics, "tokens_total", **MODEL, kind="cache_write_1h") == 9
    assert value(metrics, "tokens_total", **MODEL, kind="output") == 0


def test_cost_is_in_dollars_and_an_unknown_one_is_counted_apart(metrics):
    metrics.observe(record(cost=2_500_000_000))
    metrics.observe(record(cost=None))
    assert value(metrics, "cost_usd_total", **MODEL) == 2.5
    assert value(metrics, "unpriced_calls_total", **MODEL) == 1


def test_fields_that_were_not_carried_are_counted(metrics):
    metrics.observe(record(dropped=("/a", "/b")))
    assert value(metrics, "fields_dropped_total", provider="bedrock") == 2


def test_a_model_that_nobody_configured_is_other(metrics):
    for number in range(50):
        metrics.observe(record(provider="", model=f"made-up-{number}", outcome="refused", status=404))
    labels = {"provider": "none", "model": "other", "api": "openai_chat", "status": "4xx", "outcome": "refused"}
    assert value(metrics, "requests_total", **labels) == 50
    assert b"made-up" not in metrics.render()


def test_a_request_that_could_not_be_read_has_no_model(metrics):
    metrics.observe(record(provider="", model="", outcome="refused", status=400))
    labels = {"provider": "none", "model": "none", "api": "openai_chat", "status": "4xx", "outcome": "refused"}
    assert value(metrics, "requests_total", **labels) == 1


def test_callers_are_no_label(metrics):
    metrics.observe(record(identity="ada@example.com", agent="<script>"))
    assert b"ada@" not in metrics.render()
    assert b"<script" not in metrics.render()


def test_models_of_a_new_configuration_get_series_of_their_own(metrics):
    metrics.configured(LabelNames.of(config(bedrock=("brand-new",))))
    metrics.observe(record(model="brand-new"))
    assert value(metrics, "request_duration_seconds_count", **(CALL | {"model": "brand-new"})) == 1


def test_a_session_id_of_several_callers_means_several_active_sessions(metrics):
    for number in range(10):
        metrics.observe(record(session_id="a", identity=f"{number}@example.com"))
    # two of ten sessions may share a slot
    assert 8 <= value(metrics, "sessions_active") <= 10


def test_metrics_show_the_configuration_streams_and_release(metrics):
    """Check that the metrics show whether the last reload succeeded, the number of open streams, and the release."""
    metrics.config_reloaded(successful=False)
    metrics.open_streams.inc()
    metrics.upstream_auth_failure("bedrock")
    assert value(metrics, "config_last_reload_successful") == 0
    assert value(metrics, "config_reloads_total", result="failure") == 1
    assert value(metrics, "config_reloads_total", result="success") == 0
    assert value(metrics, "open_streams") == 1
    assert value(metrics, "upstream_auth_failures_total", provider="bedrock") == 1
    assert value(metrics, "build_info", version="1.2.3") == 1


def test_the_time_of_the_last_good_configuration_is_told(metrics, monkeypatch):
    monkeypatch.setattr(module, "time", lambda: 1000.0)
    metrics.config_reloaded(successful=True)
    monkeypatch.setattr(module, "time", lambda: 2000.0)
    metrics.config_reloaded(successful=False)
    assert value(metrics, "config_last_reload_timestamp_seconds") == 1000.0


def test_callers_are_a_label_where_it_is_configured(metrics):
    metrics.configured(LabelNames.of(config(users=2, bedrock=(HAIKU,))))
    for number in range(5):
        metrics.observe(record(identity=f"u{number}", cost=1_000_000_000, usage=Usage(input=3, output=2, reasoning=1)))
    metrics.observe(record(identity="u0", cost=500_000_000, usage=Usage(cache_read=1)))
    assert [value(metrics, "user_cost_usd_total", user=user) for user in ("u0", "u1", "other")] == [1.5, 1.0, 3.0]
    assert [value(metrics, "user_tokens_total", user=user) for user in ("u0", "u1", "other")] == [6, 5, 15]
    assert b"u4" not in metrics.render()


def test_a_call_of_nobody_counts_for_no_user(metrics):
    metrics.configured(LabelNames.of(config(users=2, bedrock=(HAIKU,))))
    metrics.observe(record(identity=""))
    assert b"{user=" not in metrics.render()


def test_errors_of_a_provider_count_by_code_and_unheard_of_ones_together(metrics):
    metrics.upstream_error("bedrock", "rate_limit")
    metrics.upstream_error("bedrock", "made-up")
    metrics.upstream_error("bedrock", "made-up-too")
    assert value(metrics, "upstream_errors_total", provider="bedrock", code="rate_limit") == 1
    assert value(metrics, "upstream_errors_total", provider="bedrock", code="other") == 2


def test_overhead_is_told_in_buckets_from_a_tenth_of_a_millisecond(metrics):
    metrics.overhead("openai_chat", 0.0002)
    assert value(metrics, "overhead_seconds_bucket", api="openai_chat", le="0.0001") == 0
    assert value(metrics, "overhead_seconds_bucket", api="openai_chat", le="0.00025") == 1
    assert value(metrics, "overhead_seconds_sum", api="openai_chat") == 0.0002


def test_the_journal_and_the_store_are_as_they_are_when_somebody_asks(metrics):
    follower = SimpleNamespace(lag=0, waiting=0, failing=False, disk_fault=lambda: "")
    metrics.journal(follower)
    names = ("journal_lag_bytes", "journal_waiting_bytes", "journal_full", "store_failing")
    assert [value(metrics, name) for name in names] == [0, 0, 0, 0]
    follower.lag, follower.waiting, follower.failing, follower.disk_fault = 4096, 100, True, lambda: "full"
    assert [value(metrics, name) for name in names] == [4096, 100, 1, 1]


def test_a_quota_that_is_gone_leaves_no_series(metrics):
    levels = {"daily:<user>": 0.25, "team": 1.5}
    metrics.quotas(lambda: levels)
    assert value(metrics, "quota_used_ratio", quota="daily:<user>") == 0.25
    del levels["team"]
    assert value(metrics, "quota_used_ratio", quota="team") is None


def test_two_gateways_in_one_process_count_apart(metrics):
    other = Metrics(config(bedrock=(HAIKU,)))
    other.observe(record())
    assert value(metrics, "request_duration_seconds_count", **CALL) is None


def test_every_metric_has_our_prefix_and_a_help_text(metrics):
    metrics.observe(record())
    metrics.quotas(lambda: {"team": 0.5})
    lines = metrics.render().decode().splitlines()
    names = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert names
    assert all(name.startswith(("irisgate_", "process_")) for name in names)
    assert {line.split()[2] for line in lines if line.startswith("# HELP") and len(line.split()) > 4} == names


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (of Debian's package prometheus) is not installed"
)
def test_promtool_finds_nothing_to_say(metrics):
    metrics.observe(record())
    done = subprocess.run(["promtool", "check", "metrics"], input=metrics.render(), capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


@dataclass(frozen=True)
class Unused:
    models: tuple[str, ...] = ()


def test_a_provider_without_models_is_no_trouble():
    metrics = Metrics(SimpleNamespace(providers={"empty": Unused()}, metrics=SimpleNamespace(users=0)))
    metrics.observe(record(provider="empty", model="x"))
    assert value(
        metrics, "requests_total", provider="empty", model="other", api="openai_chat", status="2xx", outcome="ok"
    )
