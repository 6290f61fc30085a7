"""Tests of the demo's sample calls. A gateway for real calls refuses to use a store that has sample calls."""

import sqlite3
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime

import pytest

from gateway.access.grants import Grants
from gateway.access.identity.caller import Identity
from gateway.config.load import loads
from gateway.config.model import Config, Provider
from gateway.config.sections.quotas import nanodollars
from gateway.contract.flag import Usage
from gateway.contract.registry import discover
from gateway.money.prices.table import Prices
from gateway.money.quotas.definitions import Quota
from gateway.process.demo import configuration, model_names
from gateway.process.sample_month import DAYS, HEADER, PEOPLE, SECOND, UNPRICED, sample_calls
from gateway.process.sample_quotas import DEFINITIONS, TEAM, SampleCharges
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


def entries(calls):
    return [Entry(call=call) for call in calls]


@pytest.fixture(scope="module")
def month():
    return calls()


def test_the_same_seed_and_day_give_the_same_calls(month):
    assert month == calls()
    assert month != calls(seed=2)
    assert len({call.id for call in month}) == len(month)


def test_a_month_has_everything_that_the_pages_show(month):
    """Check that the sample calls of a month have several people, models, outcomes, caches, tools and unknown costs,
    and that no call is in the future.
    """
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


def test_a_month_has_headers_and_calls_that_two_providers_tried(month):
    assert len({call.headers[HEADER] for call in month}) > 2
    assert any(call.error == "blocked" for call in month)
    elsewhere = [call for call in month if call.provider == SECOND]
    assert elsewhere
    for call in elsewhere:
        first, second = call.tried
        assert (call.attempts, first.provider, second.provider, second.cost) == (2, "bedrock", SECOND, call.cost)
        assert first.error


@pytest.fixture(scope="module")
def charged(month):
    quotas = {
        name: Quota(name, nanodollars(keys["capacity"]), on_exceed=keys.get("on_exceed", "reject"))
        for name, keys in DEFINITIONS.items()
    }
    return list(SampleCharges(quotas, {person.login: person.quota for person in PEOPLE}).entries(month))


def test_the_charges_of_a_month_are_the_costs_of_its_calls(month, charged):
    calls, last = [entry.call for entry in charged[:-1]], charged[-1]
    refused = [call for call in calls if call.error == "quota"]
    assert refused
    ends = {call.session_id: call.at for call in refused}
    assert [call.id for call in calls] == [call.id for call in month if call.at <= ends.get(call.session_id, call.at)]
    for call in refused:
        assert (call.outcome, call.cost, call.usage, call.charges) == ("refused", 0, Usage(), {})
    left = {balance.bucket: balance.amount for balance in last.balances}
    assert left[TEAM] == nanodollars(DEFINITIONS[TEAM]["capacity"]) - sum(call.cost or 0 for call in calls)
    empty = {call.error_message.split('"')[1] for call in refused}
    assert empty == {
        bucket for bucket, amount in left.items() if amount <= 0 and not bucket.startswith((TEAM, "batch"))
    }


@pytest.mark.parametrize("sample", [False, True])
def test_the_configuration_of_the_demo_has_no_findings(sample):
    models, cost_basis = model_names("us-east-1")
    loaded = loads(configuration("http://127.0.0.1:9", "key", models, cost_basis, sample=sample))
    assert loaded.warnings == ()
    grants = Grants(loaded.config.grants, loaded.config.providers)
    roles = {person.login: grants.access(Identity(person.login)).role for person in PEOPLE}
    roles["tag:nightly"] = grants.access(Identity("tag:nightly", tags=("tag:nightly",))).role
    assert set(roles.values()) == ({"user"} if sample else {None})


def test_a_store_with_sample_calls_is_marked(tmp_path, month):
    path = tmp_path / "demo" / "irisgate.db"
    assert not is_sample(path)
    assert fill_sample(path, entries(month[:50])) == 50
    assert is_sample(path)
    assert fill_sample(path, entries(month[:50])) == 0
    with pytest.raises(StoreFailed, match="has the sample calls"):
        require_no_sample(path)


def test_a_store_with_other_calls_gets_no_sample_calls(tmp_path, month):
    path = tmp_path / "irisgate.db"
    prepare(path)
    with closing(connect(path)) as connection:
        write(connection, [Entry(call=record())], JournalOffset())
    with pytest.raises(StoreFailed, match="has calls already"):
        fill_sample(path, entries(month[:50]))
    assert not is_sample(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM calls").fetchone() == (1,)


async def test_serve_refuses_a_store_with_sample_calls(tmp_path, month):
    fill_sample(tmp_path / "irisgate.db", entries(month[:5]))
    loaded = type("Loaded", (), {"config": Config(providers={}, grants=())})()
    log, _ = logger()
    with pytest.raises(CannotStart, match="has the sample calls"):
        await serve(tmp_path / "c.hujson", loaded, discover(None), state=tmp_path, log=log, options=Options())
