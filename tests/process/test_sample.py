"""Tests of the sample calls of the demo, and of the refusal to use their store for real calls."""

import sqlite3
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime

import pytest

from gateway.config.model import Config, Provider
from gateway.contract.registry import discover
from gateway.money.prices.table import Prices
from gateway.process.demo import model_names
from gateway.process.sample_month import DAYS, UNPRICED, sample_calls
from gateway.process.serve import CannotStart, Options, serve
from gateway.store.base import JournalOffset, StoreFailed
from gateway.store.entries import Entry
from gateway.store.file import connect, prepare
from gateway.store.sample import fill_sample, is_sample, require_no_sample
from gateway.store.writing import write
from tests.helpers.records import NOON, logger, record


def calls(**options):
    models, cost_basis = model_names("us-east-1")
    provider = Provider(id="bedrock", baseurl="http://127.0.0.1:9", models=tuple(models), cost_basis=cost_basis)
    return list(sample_calls(provider, Prices.load(), now=NOON, **options))


@pytest.fixture(scope="module")
def month():
    return calls()


def test_the_same_seed_and_day_give_the_same_calls(month):
    assert month == calls()
    assert month != calls(seed=2)
    assert len({call.id for call in month}) == len(month)


def test_a_month_has_everything_that_the_pages_show(month):
    """Check that there are people, models, outcomes, caches, tools and unknown costs, and nothing from the future."""
    assert 5_000 < len(month) < 20_000
    assert max(call.at for call in month) < NOON
    days = {datetime.fromtimestamp(call.at, UTC).date() for call in month}
    assert len(days) in {DAYS, DAYS + 1}
    weekdays = Counter(datetime.fromtimestamp(call.at, UTC).weekday() for call in month)
    assert weekdays[6] < weekdays[2] / 2
    assert {call.outcome for call in month} == {"ok", "failed", "refused", "cancelled"}
    assert len({call.identity for call in month}) > 10
    assert len({call.agent for call in month}) > 4
    assert {call.model for call in month if call.cost is None} == {UNPRICED[1]}
    assert sum(call.cache_saved or 0 for call in month) > 0
    assert any(call.cache_saved and call.cache_saved < 0 for call in month)
    assert all(call.error and call.error_message for call in month if call.outcome in {"failed", "refused"})


def test_a_store_with_sample_calls_is_marked(tmp_path, month):
    path = tmp_path / "demo" / "irisgate.db"
    assert not is_sample(path)
    assert fill_sample(path, month[:50]) == 50
    assert is_sample(path)
    assert fill_sample(path, month[:50]) == 0
    with pytest.raises(StoreFailed, match="has the sample calls"):
        require_no_sample(path)


def test_a_store_with_other_calls_gets_no_sample_calls(tmp_path, month):
    path = tmp_path / "irisgate.db"
    prepare(path)
    with closing(connect(path)) as connection:
        write(connection, [Entry(call=record())], JournalOffset())
    with pytest.raises(StoreFailed, match="has calls already"):
        fill_sample(path, month[:50])
    assert not is_sample(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM calls").fetchone() == (1,)


async def test_serve_refuses_a_store_with_sample_calls(tmp_path, month):
    fill_sample(tmp_path / "irisgate.db", month[:5])
    loaded = type("Loaded", (), {"config": Config(providers={}, grants=())})()
    log, _ = logger()
    with pytest.raises(CannotStart, match="has the sample calls"):
        await serve(tmp_path / "c.hujson", loaded, discover(None), state=tmp_path, log=log, options=Options())
