"""Tests of prices in a configuration: a provider's cost rules, the operator's price file, and the faults of both."""

import json
from decimal import Decimal

import pytest

from gateway.call.runtime import runtime
from gateway.config.findings import ConfigError
from gateway.config.load import load
from gateway.contract.flag import Usage
from gateway.contract.registry import discover
from gateway.money.prices.table import CostRule
from tests.config.examples import config, warnings
from tests.config.examples import provider as loaded
from tests.config.test_messages import assert_said, provider

PRICE = "is no price in USD for 1M tokens with at most nine decimals"


def said_of(tmp_path, text, **provider_keys):
    """Return the findings of a configuration whose price file has this text."""
    (tmp_path / "prices.hujson").write_text(text)
    path = tmp_path / "config.hujson"
    path.write_text(config(provider_keys, prices="prices.hujson"))
    try:
        return load(path), []
    except ConfigError as error:
        return None, [str(finding).replace(f"{tmp_path}/", "") for finding in error.findings]


def test_rules_are_read_in_their_order_and_adjustments_exactly():
    rules = [{"match": "a*", "as": "gpt-5", "adjustment": 1.1}, {"match": "*", "adjustment": "0.85"}]
    assert loaded(model_cost_map=rules).model_cost_map == (
        CostRule("a*", "gpt-5", Decimal("1.1")),
        CostRule("*", "", Decimal("0.85")),
    )


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (provider('»"model_cost_map": {}'), "providers.p.model_cost_map: must be a list, not an object"),
        (provider('"model_cost_map": [»{"as": "m"}]'), "providers.p.model_cost_map[0].match: is missing"),
        (provider('"model_cost_map": [{»"match": "[a"}]'), "providers.p.model_cost_map[0].match: the pattern is broken"),
        (
            provider('"model_cost_map": [{"match": "*", »"adjustment": 0}]'),
            "providers.p.model_cost_map[0].adjustment: must be a number above 0 and up to 1000",
        ),
        (
            provider('"model_cost_map": [{"match": "*", »"adjustment": 1.0000001}]'),
            "providers.p.model_cost_map[0].adjustment: must be a number above 0 and up to 1000",
        ),
        (provider('"model_cost_map": [{"match": "*", »"to": "m"}]'), "warning: providers.p.model_cost_map[0].to: unknown"),
        ('»"auto_cost_basis": "no"', "auto_cost_basis: must be true or false, not a string"),
        ('»"prices": "nowhere.hujson"', "prices: nowhere.hujson cannot be read: No such file or directory"),
        ('»"prices": "."', "prices: . is no regular file"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_prices_is_said_at_its_place(section, expected):
    assert_said(section, expected)


ROW = '{"book": "openai", "model": "gpt-9", "input": "1.5", "output": "3"}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"rows": [\n {"book": "openai", "model": "m", "input": 1}]}', "2:35: rows[0].input: must be a string"),
        ('{"rows": [{"book": "openai", "model": "m", "input": "1,5"}]}', f"1:44: rows[0].input: '1,5' {PRICE}"),
        ('{"rows": [{"book": "azure-eu", "model": "m", "input": "1"}]}', "1:12: rows[0].book: "),
        ('{"rows": [{"model": "m", "input": "1"}]}', "1:11: rows[0].book: is missing"),
        ('{"rows": [{"book": "openai", "model": "m"}]}', "1:11: rows[0]: has no price"),
        ('{"rows": [{"book": "openai", "model": "m", "from": "May", "input": "1"}]}', "1:44: rows[0].from: "),
        ('{"rows": [{"book": "openai", "model": "m", "flex": {"input": "x"}}]}', "1:53: rows[0].flex.input: 'x' is"),
        (
            '{"rows": [{"book": "openai", "model": "m", "above": [{"tokens": 0, "input": "1"}]}]}',
            "1:55: rows[0].above[0].tokens: must be at least 1",
        ),
        (
            '{"rows": [{"book": "openai", "model": "m", "input": "1"}, {"book": "openai", "model": "m", "input": "2"}]}',
            "1:59: rows[1]: is of the same model, region and day as rows[0]",
        ),
        ('{"rows": {}}', "1:2: rows: must be a list"),
        ('{"rows": [], "rows": []}', "1:14: rows: duplicate key"),
    ],
)
def test_what_is_wrong_with_a_price_file_is_said_at_its_place_in_it(tmp_path, text, expected):
    _, messages = said_of(tmp_path, text)
    assert sum(line.removeprefix("prices.hujson:").startswith(expected) for line in messages) == 1, messages


def test_a_price_file_that_is_no_hujson_is_said_with_its_place(tmp_path):
    _, messages = said_of(tmp_path, '{"rows": [')
    assert any("prices: prices.hujson:1:11: expected a value" in line for line in messages), messages


def test_a_price_file_gives_prices_and_is_followed_for_changes(tmp_path):
    (tmp_path / "p.hujson").write_text(f'// ours\n{{"rows": [{ROW},]}}')
    path = tmp_path / "config.hujson"
    path.write_text(config({"models": ["gpt-9"], "cost_basis": "openai"}, prices="p.hujson"))
    document = load(path)
    assert tmp_path / "p.hujson" in document.watched
    ready = runtime(document.config)
    (offer,) = ready.catalog.offers
    assert ready.prices.of(offer.provider, offer.model).cost(Usage(input=1000, output=1)) == 1_503_000


def test_a_price_file_that_is_not_there_is_followed_too(tmp_path):
    path = tmp_path / "config.hujson"
    path.write_text(config(prices="p.hujson"))
    with pytest.raises(ConfigError) as error:
        load(path)
    assert tmp_path / "p.hujson" in error.value.watched


def test_the_region_of_a_row_may_stand_in_its_model(tmp_path):
    row = {"book": "bedrock", "model": "us.amazon.nova-lite-v1:0", "input": "9"}
    prices, _ = said_of(tmp_path, json.dumps({"rows": [row]}))
    (entry,) = prices.config.prices
    assert (entry["geo"], entry["model"]) == ("us", "amazon.nova-lite-v1:0")


def cost_warnings(**members):
    return [warning for warning in warnings(config(members)) if "cost" in warning]


@pytest.mark.parametrize(
    ("basis", "model", "fits"),
    [
        ("bedrock-eu", "us.amazon.nova-lite-v1:0", False), ("bedrock-us", "eu.amazon.nova-lite-v1:0", False),
        ("bedrock-us", "us-gov.amazon.nova-lite-v1:0", False), ("bedrock-ap", "jp.amazon.nova-lite-v1:0", True),
        ("bedrock-us", "global.amazon.nova-lite-v1:0", True), ("bedrock-us", "us.amazon.nova-lite-v1:0", True),
        ("bedrock-us", "amazon.nova-lite-v1:0", True), ("bedrock", "us.amazon.nova-lite-v1:0", True),
        ("bedrock-us-gov", "amazon.nova-lite-v1:0", True), ("bedrock-us-gov", "us.amazon.nova-lite-v1:0", False),
        ("openai", "us.amazon.nova-lite-v1:0", True),
    ],
)  # fmt: skip
def test_a_price_list_of_another_region_than_a_models_own_warns(basis, model, fits):
    messages = cost_warnings(cost_basis=basis, models=[model])
    expected = f'providers.p.cost_basis: does not fit "{model}", which is priced by its own prefix; write "bedrock"'
    assert [warning.startswith(expected) for warning in messages] == [True] * (not fits)


def test_a_rule_that_prices_nothing_warns():
    rules = [{"match": "m", "as": "nothing"}, {"match": "*", "as": "gpt-5"}]
    unknown, idle = cost_warnings(model_cost_map=rules, models=["m"], cost_basis="openai")
    assert unknown.startswith("providers.p.model_cost_map[0].as: no price is known for it")
    assert idle.startswith("providers.p.model_cost_map[1].match: matches no model of the provider")


def test_a_provider_whose_price_list_may_not_be_found_warns():
    messages = warnings(config({"cost_basis": None}, auto_cost_basis=False), plugins=discover().known)
    assert [warning.startswith("providers.p: no cost_basis configured") for warning in messages] == [True]
    assert not warnings(config({"cost_basis": None}, auto_cost_basis=True), plugins=discover().known)
