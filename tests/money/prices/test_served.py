"""Tests of the price of a call: it is the price of the model that the reply names, multiplied by the factor of the
geography. Fees are added.
"""

import json
from decimal import Decimal
from types import SimpleNamespace

import pytest

from gateway.contract.flag import Event, Usage
from gateway.money.prices.table import CostRule, Prices, resembles
from gateway_plugins.dialects.anthropic_messages.facts import Meter as MessagesMeter
from gateway_plugins.dialects.openai_responses.facts import Meter as ResponsesMeter
from gateway_plugins.openai_chat import ChatMeter
from tests.helpers.conversion import REGISTRY, request_of
from tests.money.prices.test_public_reports import TEXT, record_of

M = Usage(input=10**6)
"""The usage of a call with a million input tokens. At a price of 1 USD for 1M tokens, its cost is 10**9 nanodollars."""


def provider(basis, *rules, base_models=()):
    return SimpleNamespace(
        id="p", cost_basis=basis, model_cost_map=rules, base_models=dict(base_models), price_lists=()
    )  # fmt: skip


@pytest.mark.parametrize(
    ("basis", "called", "served", "price"),
    [
        # the same model by another spelling
        ("anthropic", "claude-opus-4-8", "claude-opus-4-8-20260101", "5"),
        ("anthropic", "claude-haiku-4-5-20251001", "claude-haiku-4-5", "1"),
        ("openai", "gpt-5.1", "gpt-5.1-2025-11-13", "1.25"),
        ("bedrock", "us.anthropic.claude-opus-4-8", "claude-opus-4-8", "5.5"),
        ("bedrock", "us.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4-5-20251001", "1.1"),
        # another model, in the region and with the maker of the called one
        ("anthropic", "claude-fable-5", "claude-opus-4-8", "5"),
        ("bedrock", "us.anthropic.claude-opus-4-8", "claude-haiku-4-5", "1.1"),
        ("bedrock", "us.anthropic.claude-opus-4-8", "anthropic.claude-haiku-4-5-20251001-v1:0", "1.1"),
        ("openai", "gpt-5.1", "gpt-4o-2024-08-06", "2.5"),
        # a snapshot with a price of its own
        ("openai", "gpt-4o", "gpt-4o-2024-05-13", "5"),
        # no model that the list knows
        ("anthropic", "claude-opus-4-8", "claude", None),
        ("openai", "gpt-5.1", "gpt", None),
        ("openai", "gpt-5.1", "/models/llama", None),
        ("openai", "gpt-5.1", "", None),
    ],
)
def test_a_served_model_has_its_price_in_the_providers_list(basis, called, served, price):
    found = Prices.load().served(provider(basis), called, served, is_other=False)
    assert (found and found.cost(M)) == (None if price is None else int(Decimal(price) * 10**9))


def test_a_configured_price_holds_for_every_name_of_the_model():
    rule = CostRule("prod", "openai/gpt-4o", Decimal("0.5"))
    prices, configured = Prices.load(), provider("openai", rule)
    same = prices.served(configured, "prod", "gpt-4o-2024-08-06", is_other=False)
    other = prices.served(configured, "prod", "gpt-5.1", is_other=False)
    assert (same.cost(M), other.cost(M)) == (1_250_000_000, 1_250_000_000)
    assert (same.adjustment, other.adjustment) == (Decimal("0.5"), Decimal(1))


def test_an_operators_row_gives_way_only_to_an_express_other_model():
    rows = [{"book": "anthropic", "model": "mine-1", "input": "7", "output": "7"}]
    prices, configured = Prices.load(rows), provider("anthropic")
    plain = prices.served(configured, "mine-1", "claude-opus-4-8", is_other=False)
    other = prices.served(configured, "mine-1", "claude-opus-4-8", is_other=True)
    assert (plain.cost(M), other.cost(M)) == (7 * 10**9, 5 * 10**9)


@pytest.mark.parametrize(
    ("called", "served", "expected"),
    [
        ("claude-opus-4-8", "claude", True),
        ("us.anthropic.claude-opus-4-8", "claude-opus-4-8", True),
        ("llama", "/models/llama-3-70b", True),
        ("deepseek-v4", "default", True),
        ("claude-opus-4-8", "claude-opus-9", False),
        ("gpt-5.1", "gpt-9", False),
    ],
)
def test_a_name_without_a_version_may_be_an_alias(called, served, expected):
    assert resembles(called, served) is expected


def chat_reply(model, usage, **more):
    choice = {"index": 0, "message": {"role": "assistant", "content": TEXT, **more}, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage}


USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
OPENAI = {"models": ["gpt-5.1"], "compatibility": {"openai_chat": True}}
ROUTER = {"models": ["openai/gpt-5.1"], "cost_basis": "openrouter", "compatibility": {"openai_chat": True}}
RULED = {**ROUTER, "model_cost_map": [{"match": "*/*", "as": "openai/gpt-5.1"}]}


@pytest.mark.parametrize(
    ("settings", "model", "usage", "expected"),
    [
        # 1,000 x 1.25 + 100 x 10 of gpt-5.1
        (OPENAI, "gpt-5.1-2025-11-13", USAGE, (0.00225, False, "openai/gpt-5.1")),
        # 1,000 x 2.5 + 100 x 10 of gpt-4o
        (OPENAI, "gpt-4o", USAGE, (0.0035, False, "openai/gpt-4o")),
        (OPENAI, "gpt-99", USAGE, (0.00225, True, "openai/gpt-5.1")),
        (OPENAI, "gpt-5.1", {**USAGE, "cost": 0.5}, (0.00225, False, "openai/gpt-5.1")),
        (ROUTER, "openai/gpt-5.1", {**USAGE, "cost": 0.5}, (0.5, False, "openrouter/usage.cost")),
        (RULED, "openai/gpt-5.1", {**USAGE, "cost": 0.5}, (0.00225, False, "openrouter/openai/gpt-5.1")),
    ],
)
async def test_the_record_names_the_served_model_and_its_row(tmp_path, settings, model, usage, expected):
    body = {"model": "", "messages": [{"role": "user", "content": "go"}]}
    answer = json.dumps(chat_reply(model, usage)).encode()
    record, _ = await record_of(tmp_path, settings, "/v1/chat/completions", body, answer)
    assert record["served_model"] == model
    assert (record["cost_usd"], record["estimated"], record["cost_basis"].partition("@")[0]) == expected


def price(model="claude-opus-4-8", basis="anthropic"):
    return Prices.load().find(basis, model)


@pytest.mark.parametrize(
    ("tier", "geo", "dollars"),
    [("", "us", "5.5"), ("batch", "us", "2.75"), ("fast", "us", "11"), ("", "eu", None), ("priority", "us", None)],
)
def test_a_geography_multiplies_the_price_of_each_tier(tier, geo, dollars):
    expected = None if dollars is None else int(Decimal(dollars) * 10**9)
    assert price().cost(M, tier=tier, geo=geo) == expected


def test_a_geography_does_not_multiply_fees():
    assert price().cost(Usage(input=1000), geo="us", extra={"web_search": 1}) == 5_500_000 + 10_000_000


def test_an_operators_own_price_of_a_geography_goes_before_the_factor():
    row = {"book": "anthropic", "model": "mine-1", "input": "7", "output": "7", "us": {"input": "8", "output": "8"}}
    assert Prices.load([row]).find("anthropic", "mine-1").cost(M, geo="us") == 8 * 10**9


def test_the_highest_cost_is_that_of_the_dearest_geography():
    assert price("claude-haiku-4-5").highest_cost(M) == 1_100_000_000


def test_only_anthropics_own_prices_have_a_factor():
    assert price("us.anthropic.claude-opus-4-8", "bedrock").cost(M, geo="us") is None


def test_file_search_has_its_published_fee():
    assert price("gpt-5.1", "openai").cost(Usage(), extra={"file_search": 4}) == 10_000_000
    assert price("gpt-4o", "azure").cost(Usage(), extra={"file_search": 1}) is None


def request(flag, **members):
    return REGISTRY.flags[flag].parse(request_of(REGISTRY.flags[flag], {"messages": [], **members}))


RAN = {"type": "server_tool_use", "id": "s", "name": "bash_code_execution", "input": {}}


@pytest.mark.parametrize(
    ("tools", "inexact"),
    [
        ([], True),
        ([{"type": "code_execution_20260120", "name": "code_execution"}], True),
        ([{"type": "web_search_20260209", "name": "web_search"}], False),
        ([{"type": "web_search_20250305", "name": "web_search"}], True),
    ],
)
def test_a_container_is_billed_by_time_unless_a_web_tool_makes_it_free(tools, inexact):
    usage = {"input_tokens": 5, "output_tokens": 5}
    whole, streamed = (MessagesMeter(request("anthropic_messages", tools=tools, max_tokens=5)) for _ in range(2))
    whole.whole(json.dumps({"content": [RAN], "usage": usage}).encode())
    streamed.feed(Event("content_block_start", json.dumps({"content_block": RAN}).encode()))
    streamed.feed(Event("message_delta", json.dumps({"usage": usage}).encode()))
    for meter in (whole, streamed):
        assert (meter.facts().inexact, meter.facts().extra) == (inexact, {"code_execution": 1})


@pytest.mark.parametrize(
    ("kind", "extra", "inexact"),
    [
        ("web_search_call", {"web_search": 1}, False),
        ("file_search_call", {"file_search": 1}, False),
        ("code_interpreter_call", {"code_interpreter": 1}, True),
        ("image_generation_call", {"image_generation": 1}, True),
        ("computer_call", {}, False),
    ],
)
def test_fees_of_openais_tools_are_counted_or_the_cost_is_marked(kind, extra, inexact):
    usage = {"input_tokens": 5, "output_tokens": 5}
    whole, streamed = ResponsesMeter(), ResponsesMeter()
    whole.whole(json.dumps({"output": [{"type": kind}], "usage": usage}).encode())
    streamed.feed(Event("response.output_item.done", json.dumps({"item": {"type": kind}}).encode()))
    streamed.feed(Event("response.completed", json.dumps({"response": {"usage": usage}}).encode()))
    for meter in (whole, streamed):
        assert (meter.facts().extra, meter.facts().inexact) == (extra, inexact)


CITED = {"annotations": [{"type": "url_citation", "url_citation": {"url": "https://example.com"}}]}


@pytest.mark.parametrize(
    ("asked", "more", "usage", "inexact"),
    [
        ({}, {}, {}, False),
        ({"web_search_options": {}}, {}, {}, True),
        ({}, CITED, {}, True),
        ({"web_search_options": {}}, CITED, {"server_tool_use": {"web_search_requests": 2}}, False),
    ],
)
def test_searches_of_chat_are_counted_or_the_cost_is_marked(asked, more, usage, inexact):
    meter = ChatMeter(request("openai_chat", **asked))
    meter.whole(json.dumps(chat_reply("m", {**USAGE, **usage}, **more)).encode())
    assert meter.facts().inexact is inexact
