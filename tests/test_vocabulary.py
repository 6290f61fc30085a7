"""Tests that the log, the API, the store and the metrics use exactly the words in `deploy/vocabulary.md`."""

import json
import re
from collections import defaultdict
from pathlib import Path
from time import sleep
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.contract.errors import INTERNAL
from gateway.contract.flag import USAGE_KINDS, Usage
from gateway.contract.record import Record, Tried
from gateway.process.workers.merged_metrics import MergedMetrics
from gateway.store.base import GROUPS, Session, UsageRow
from gateway.store.calls import CALL_COLUMNS
from gateway.telemetry.metrics import Metrics
from gateway.web.usage.formats import SUMS
from tests.helpers.records import HAIKU, logger, record

TEXT = (Path(__file__).resolve().parents[1] / "deploy" / "vocabulary.md").read_text()
SESSION = Session(
    id="s1", identity="ada@example.com", agent="curl", provider="b", providers=(), models=(), calls=1, failed=0,
    usage=Usage(), known_cost=0, cost_unknown_calls=0, estimated_calls=0, cache_saved=0,
    started_at=0.0, last_at=0.0, tools={},
)  # fmt: skip
ROW = UsageRow(
    group=dict.fromkeys(GROUPS, "x"), calls=1, failed=0, usage=Usage(), known_cost=0, cost_unknown_calls=0,
    estimated_calls=0, cache_saved=0, duration_ms=0,
)  # fmt: skip


def cells(title):
    """Return the cells of each row of a section's table, without the header."""
    section = TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line] for line in lines]


def words(where):
    return {word.strip("`") for word, places, _ in cells("Words") if where in places.split(", ")}


@pytest.fixture
def samples():
    """Return the name and labels of each metric series of a gateway with workers. Every metric has been given a value."""
    providers = {"bedrock": SimpleNamespace(models=(HAIKU,))}
    metrics = Metrics(SimpleNamespace(providers=providers, metrics=SimpleNamespace(users=1)))
    metrics.journal(SimpleNamespace(lag=0, waiting=0, failing=False, disk_fault=str))
    metrics.checks(lambda: {"disk": 0.0}, lambda: True)
    metrics.quotas(lambda: {"daily:<user>": 0.5})
    metrics.observe(record())
    metrics.observe(record(cost=None))
    failed = Tried(provider="bedrock", model=HAIKU, error=INTERNAL, cost=0, duration_ms=1.0)
    metrics.observe(record(tried=(failed, failed)))
    metrics.observe(record(key="team-a"))
    metrics.overhead("openai_chat", 0.001)
    metrics.upstream_error("bedrock", INTERNAL)
    metrics.upstream_auth_failure("bedrock")
    metrics.circuits.opened("bedrock", "failures")
    metrics.circuits.watch(lambda: [SimpleNamespace(provider="bedrock", model=HAIKU, state="open")], ["open"])
    metrics.fetched("ok")
    metrics.exports.exported("s3", 1)
    metrics.exports.failed("s3", 1)
    metrics.exports.succeeded("s3")
    metrics.admission(lambda: 1, lambda: 1, lambda: {"bedrock": 1})
    metrics.call_refused("calls")
    metrics.connections(lambda: 1)
    metrics.connection_refused("connections")
    metrics.plugins.failed("openai_chat", "build")
    metrics.plugins.watch([SimpleNamespace(plugin="openai_chat", name="build", calls=1, seconds=0.1)])
    text = MergedMetrics(metrics.registry)._rendered({}, ()).decode()
    families = [family for family in text_string_to_metric_families(text) if not family.name.startswith("process_")]
    return [sample for family in families for sample in family.samples]


def test_every_word_stands_there_once_and_somewhere():
    rows = cells("Words")
    names = [word for word, _, _ in rows]
    assert len(set(names)) == len(names) > 40
    places = {place for _, where, _ in rows for place in where.split(", ")}
    assert places == {"call", "session", "usage", "column", "label"}
    assert all(meaning for _, _, meaning in rows)


def test_a_call_of_the_api_speaks_it():
    assert set(record().as_dict()) == words("call")


def test_the_log_line_of_a_call_speaks_it():
    log, out = logger()
    log.info("call.finished", **record().as_dict())
    for _ in range(200):
        if out.getvalue().endswith(b"\n"):
            break
        sleep(0.01)
    line = json.loads(out.getvalue())
    documented = set(re.findall(r"`(\w+)`", TEXT.partition("The log line begins with")[2].partition("\n")[0]))
    assert set(line) == words("call") | documented


def test_a_session_speaks_it():
    assert set(SESSION.as_dict()) == words("session")


def test_a_row_of_usage_speaks_it():
    assert set(ROW.as_dict()) == words("usage")


def test_the_store_speaks_it():
    assert set(CALL_COLUMNS) == words("column")


def test_the_kinds_of_tokens_are_the_stores_columns_of_them():
    assert set(record().usage.as_dict()) == set(USAGE_KINDS)
    assert set(USAGE_KINDS) <= words("column")


def test_the_csv_of_usage_speaks_it():
    assert set(SUMS) == words("usage") - set(GROUPS) - {"tokens"} | set(USAGE_KINDS)


def test_the_fields_of_a_record_are_its_words():
    renamed = {"usage": "tokens", "cost": "cost_usd", "cache_saved": "cache_saved_usd", "charges": "charges_usd"}
    assert {renamed.get(name, name) for name in Record.__struct_fields__} == words("call")


def test_the_labels_of_metrics_speak_it(samples):
    labels = {name for sample in samples for name in sample.labels} - {"le"}
    assert labels == words("label")


def test_every_metric_is_in_the_table_with_its_labels(samples):
    labels = defaultdict(set)
    for sample in samples:
        name = re.sub(r"_(bucket|sum|count)$", "", sample.name.removeprefix("irisgate_"))
        labels[name] |= set(sample.labels) - {"le"}
    documented = {name.strip("`"): set(by.split(", ")) - {""} for name, by, _ in cells("Metrics")}
    assert documented == labels
