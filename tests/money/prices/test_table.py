"""Tests that published prices are found for every form of a model's id, and that unknown models have no price."""

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

import gateway.money.prices.table
from gateway.contract.capabilities import GEOS
from gateway.contract.flag import Usage
from gateway.money.prices.rates import KINDS
from gateway.money.prices.rows import BOOKS, TIERS, parse_row
from gateway.money.prices.table import BASES, Prices

PRICES = Prices.load()
FILE = Path(gateway.money.prices.table.__file__).with_name("table.json")
TABLE = json.loads(FILE.read_text("utf-8"))

# (model, input, output) in USD for 1M tokens
BEDROCK = [
    # litellm 1.109.1 and genai-prices 0.2.3 agree on these, which cite AWS's price list
    ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "1.1", "5.5"),
    ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "3.3", "16.5"),
    ("us.anthropic.claude-opus-4-5-20251101-v1:0", "5.5", "27.5"),
    ("us.anthropic.claude-opus-4-6-v1", "5.5", "27.5"),
    ("global.anthropic.claude-sonnet-4-5-20250929-v1:0", "3", "15"),
    ("us.amazon.nova-pro-v1:0", "0.8", "3.2"),
    ("us.meta.llama3-3-70b-instruct-v1:0", "0.72", "0.72"),
    ("us.deepseek.r1-v1:0", "1.35", "5.4"),
    ("openai.gpt-oss-120b-1:0", "0.15", "0.6"),
    ("qwen.qwen3-coder-480b-a35b-v1:0", "0.45", "1.8"),
    # litellm 1.109.1 alone: a price for each region
    ("eu.amazon.nova-pro-v1:0", "1.05", "4.2"),
    ("us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0", "3.6", "18"),
    # litellm 1.110.2: xai.grok-4.7 and prices of GovCloud, from AWS's price list
    ("xai.grok-4.7", "2.2", "6.6"),
    ("us-gov.xai.grok-4.7", "2.64", "7.92"),
    ("us-gov.openai.gpt-5.4", "3.3", "19.8"),
    ("us-gov.openai.gpt-5.6-luna", "0.264", "1.584"),
    ("us-gov.openai.gpt-5.6-terra", "2.64", "15.84"),
    ("us-gov.moonshotai.kimi-k3", "3.96", "19.8"),
    # dropped by the sources since genai-prices 0.2.3, and kept
    ("anthropic.claude-3-haiku-20240307-v1:0", "0.25", "1.25"),
    ("eu.anthropic.claude-3-haiku-20240307-v1:0", "0.25", "1.25"),
    ("apac.moonshotai.kimi-k3.1", "4.4", "22"),
    # genai-prices 0.2.3 alone: bare ids are regional
    ("anthropic.claude-opus-4-6-v1", "5.5", "27.5"),
]
ANTHROPIC = [
    # litellm 1.109.1 and genai-prices 0.2.3, which cite Anthropic's price page
    ("claude-haiku-4-5", "1", "5"),
    ("claude-sonnet-4-5", "3", "15"),
    ("claude-sonnet-4-6", "3", "15"),
    ("claude-opus-4-5", "5", "25"),
    ("claude-opus-4-6", "5", "25"),
    ("claude-opus-4-7", "5", "25"),
    ("claude-opus-4-8", "5", "25"),
    ("claude-opus-5-5", "4", "20"),
    ("claude-sonnet-5", "2", "10"),
    ("claude-fable-5", "10", "50"),
    # genai-prices 0.2.3 alone
    ("claude-opus-4-1", "15", "75"),
    ("claude-3-5-haiku-20241022", "0.8", "4"),
]
OPENAI = [
    # litellm 1.109.1 and genai-prices 0.2.3, which cite OpenAI's price page
    ("gpt-4o", "2.5", "10"),
    ("gpt-4o-mini", "0.15", "0.6"),
    ("gpt-4.1", "2", "8"),
    ("gpt-5", "1.25", "10"),
    ("gpt-5-mini", "0.25", "2"),
    ("gpt-5.1", "1.25", "10"),
    ("gpt-5.2", "1.75", "14"),
    ("gpt-5.4", "2.5", "15"),
    ("gpt-5.5", "5", "30"),
    ("gpt-6-sol", "2", "10"),
    ("o3", "2", "8"),
    ("o4-mini", "1.1", "4.4"),
]
GOOGLE = [
    # litellm 1.109.1 (gemini/) and genai-prices 0.2.3, which cite ai.google.dev/gemini-api/docs/pricing
    ("gemini-2.5-pro", "1.25", "10"),
    ("gemini-2.5-flash", "0.3", "2.5"),
    ("gemini-2.5-flash-lite", "0.1", "0.4"),
    ("gemini-3-flash-preview", "0.5", "3"),
    ("gemini-3-pro-preview", "2", "12"),
    ("gemini-3.1-pro-preview", "2", "12"),
    ("gemini-3.6-flash", "0.75", "3.75"),
    ("gemini-3.7-flash", "0.75", "3.75"),
    ("gemini-3.8-flash", "0.75", "3.75"),
    ("gemini-4-argon", "2", "10"),
    ("gemini-4-hydrogen", "1.5", "7.5"),
]
VERTEX = [
    # litellm 1.109.1 (vertex_ai), which cites cloud.google.com/vertex-ai/generative-ai/pricing; genai-prices agrees
    ("gemini-2.5-pro", "1.25", "10"),
    ("gemini-2.5-flash", "0.3", "2.5"),
    ("gemini-3-pro-preview", "2", "12"),
    ("gemini-3.6-flash", "0.75", "3.75"),
    ("claude-opus-4-5", "5", "25"),
    ("claude-opus-4-6", "5", "25"),
    ("claude-sonnet-4-5@20250929", "3", "15"),
    ("claude-sonnet-4-6", "3", "15"),
    ("claude-haiku-4-5", "1", "5"),
    ("claude-fable-5", "10", "50"),
]
AZURE = [
    # litellm 1.109.1 (azure), which cites prices.azure.com/api/retail/prices
    ("gpt-4o", "2.5", "10"),
    ("gpt-4o-mini", "0.15", "0.6"),
    ("gpt-4.1", "2", "8"),
    ("gpt-4.1-mini", "0.4", "1.6"),
    ("gpt-5", "1.25", "10"),
    ("gpt-5-mini", "0.25", "2"),
    ("gpt-5.1", "1.25", "10"),
    ("gpt-5.2", "1.75", "14"),
    ("o3", "2", "8"),
    ("o4-mini", "1.1", "4.4"),
]
AZURE_EU = [
    # litellm 1.109.1 (azure/eu): the data zone costs a tenth more
    ("gpt-4o", "2.75", "11"),
    ("gpt-4.1-mini", "0.44", "1.76"),
    ("gpt-5", "1.375", "11"),
    ("gpt-5-2025-08-07", "1.375", "11"),
    ("gpt-5-mini", "0.275", "2.2"),
]
VERCEL = [
    # litellm 1.109.1 (vercel_ai_gateway)
    ("anthropic/claude-sonnet-4.5", "3", "15"),
    ("anthropic/claude-opus-4.1", "15", "75"),
    ("anthropic/claude-3-haiku", "0.25", "1.25"),
    ("openai/o3", "2", "8"),
    ("openai/gpt-4.1", "2", "8"),
    ("openai/gpt-4o", "2.5", "10"),
    ("amazon/nova-pro", "0.8", "3.2"),
    ("google/gemini-2.5-pro", "1.25", "10"),
    ("xai/grok-3", "3", "15"),
    ("zai/glm-4.6", "0.45", "1.8"),
]
OPENROUTER = [
    # genai-prices 0.2.3 alone, which reads openrouter.ai/api/v1/models
    ("anthropic/claude-sonnet-4.5", "3", "15"),
    ("anthropic/claude-opus-4.5", "5", "25"),
    ("anthropic/claude-haiku-4.5", "1", "5"),
    ("openai/gpt-5", "1.25", "10"),
    ("openai/gpt-4o", "2.5", "10"),
    ("openai/gpt-4.1", "2", "8"),
    ("openai/o3", "2", "8"),
    ("google/gemini-2.5-pro", "1.25", "10"),
    ("deepseek/deepseek-r1", "0.7", "2.5"),
    ("meta-llama/llama-3.3-70b-instruct", "0.59", "0.79"),
]
LISTS = {
    "bedrock": BEDROCK, "anthropic": ANTHROPIC, "openai": OPENAI, "google": GOOGLE, "vertex": VERTEX, "azure": AZURE,
    "azure-eu": AZURE_EU, "vercel": VERCEL, "openrouter": OPENROUTER,
}  # fmt: skip
PUBLISHED = [(basis, *parse_row) for basis, rows in LISTS.items() for parse_row in rows]
NOW = 1_795_435_200
"""The time of the tests: 2026-11-23 12:00 UTC. Some prices of the table change later."""
CLAUDE = "anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "amazon.nova-lite-v1:0"


def price_of(basis, model):
    priced = PRICES.find(basis, model)
    assert priced is not None, (basis, model)
    return priced


def units(basis, model):
    return price_of(basis, model).rates(NOW).tiers[""][0][1]


def cost(basis, model, **usage):
    return price_of(basis, model).cost(Usage(**usage), at=NOW)


@pytest.mark.parametrize(("basis", "model", "price_in", "price_out"), PUBLISHED)
def test_a_published_price_is_charged(basis, model, price_in, price_out):
    parse_row = units(basis, model)
    assert (parse_row.input, parse_row.output) == (int(Decimal(price_in) * 10**9), int(Decimal(price_out) * 10**9))


def test_each_token_kind_has_its_own_price():
    model = f"us.{CLAUDE}"
    # multipliers of Anthropic's price page: read 0.1, write 1.25 for 5 minutes and 2 for an hour
    assert cost("bedrock-us", model, input=1000) == 3_300_000
    assert cost("bedrock-us", model, output=1000) == 16_500_000
    assert cost("bedrock-us", model, cache_read=1000) == 330_000
    assert cost("bedrock-us", model, cache_write_5m=1000) == 4_125_000
    assert cost("bedrock-us", model, cache_write_1h=1000) == 6_600_000


def test_reasoning_is_part_of_the_output_and_not_paid_twice():
    assert cost("openai", "gpt-5", output=100, reasoning=80) == cost("openai", "gpt-5", output=100)


def test_a_kind_without_a_known_price_makes_the_cost_unknown():
    model = "us.anthropic.claude-3-7-sonnet-20250219-v1:0"
    assert cost("bedrock", model, input=10, cache_write_5m=10) is not None
    assert cost("bedrock", model, input=10, cache_write_1h=1) is None


def test_a_long_prompt_costs_the_tier_for_the_whole_call():
    model = f"us.{CLAUDE}"
    assert cost("bedrock", model, input=200_000, output=1000) == 200_000 * 3300 + 1000 * 16_500
    assert cost("bedrock", model, input=200_001, output=1000) == 200_001 * 6600 + 1000 * 24_750


def test_cached_tokens_count_for_the_length_of_a_prompt():
    model = f"us.{CLAUDE}"
    assert cost("bedrock", model, input=1, cache_read=200_000) == 6600 + 200_000 * 660


def test_output_does_not_count_for_the_length_of_a_prompt():
    assert cost("bedrock", f"us.{CLAUDE}", input=199_999, output=10) == 199_999 * 3300 + 10 * 16_500


@pytest.mark.parametrize("geo", GEOS)
@pytest.mark.parametrize("model", [CLAUDE, "anthropic.claude-opus-4-6-v1"])
def test_claude_has_a_price_in_every_region(model, geo):
    listed = units("bedrock", f"global.{model}").input
    # ratios of the rows that litellm 1.109.1 has
    ratio = {"global": Fraction(1), "us-gov": Fraction(12, 10)}.get(geo, Fraction(11, 10))
    assert units("bedrock", f"{geo}.{model}").input == listed * ratio


@pytest.mark.parametrize("geo", [geo for geo in GEOS if geo != "global"])
@pytest.mark.parametrize("model", [NOVA, "amazon.nova-micro-v1:0", "amazon.nova-pro-v1:0"])
def test_nova_has_a_price_in_every_region(model, geo):
    assert price_of("bedrock", f"{geo}.{model}").name == f"bedrock/{geo}.{model}"


@pytest.mark.parametrize(
    ("basis", "geo"),
    [
        ("bedrock", ""), ("bedrock-us", "us"), ("bedrock-eu", "eu"), ("bedrock-ap", "apac"),
        ("bedrock-us-gov", "us-gov"),
    ],
)  # fmt: skip
def test_the_basis_decides_the_region_of_an_id_without_prefix(basis, geo):
    assert price_of(basis, NOVA).name == f"bedrock/{geo}{'.' if geo else ''}{NOVA}"


@pytest.mark.parametrize("basis", ["bedrock", "bedrock-us", "bedrock-us-gov"])
def test_an_arn_of_govcloud_has_its_price_under_every_basis(basis):
    arn = f"arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/{NOVA}"
    assert price_of(basis, arn).name == f"bedrock/us-gov.{NOVA}"


def test_the_prefix_of_an_id_wins_over_the_basis():
    assert price_of("bedrock-eu", f"us.{NOVA}").name == f"bedrock/us.{NOVA}"


def test_a_model_with_one_price_for_all_regions_is_found_under_each_basis():
    names = {price_of(basis, "qwen.qwen3-32b-v1:0").name for basis in BASES if basis.startswith("bedrock")}
    assert names == {"bedrock/qwen.qwen3-32b-v1:0"}


def test_a_data_zone_of_azure_without_a_price_is_unknown():
    assert PRICES.find("azure", "claude-haiku-4-5") is not None
    assert PRICES.find("azure-eu", "claude-haiku-4-5") is None


def test_every_price_list_of_the_product_has_prices():
    books = {entry["book"] for entry in TABLE["rows"]}
    assert {book for book, _ in BASES.values()} == books == set(BOOKS)


def test_a_region_that_has_no_price_is_unknown():
    assert PRICES.find("bedrock", "jp.meta.llama3-3-70b-instruct-v1:0") is None


@pytest.mark.parametrize(
    "model",
    [
        f"us.{CLAUDE}",
        f"us.{CLAUDE}[1m]",
        f"us.{CLAUDE}:200k",
        f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.{CLAUDE}",
        "us.anthropic.claude-sonnet-4-5",
    ],
)
def test_spellings_of_a_bedrock_id_share_a_price(model):
    assert price_of("bedrock", model).name == f"bedrock/us.{CLAUDE}"


@pytest.mark.parametrize(
    "model",
    [
        "claude-sonnet-4-5",
        "claude-sonnet-4-5-20250929",
        "claude-sonnet-4-5@20250929",
        "claude-sonnet-4-5-latest",
        "claude-sonnet-4-5[1m]",
    ],
)
def test_spellings_of_an_anthropic_id_share_a_price(model):
    assert price_of("anthropic", model).name == "anthropic/claude-sonnet-4-5"


def test_a_dated_id_with_a_price_of_its_own_keeps_it():
    assert cost("openai", "gpt-4o-2024-05-13", input=1000) == 5_000_000
    assert cost("openai", "gpt-4o-2024-08-06", input=1000) == 2_500_000


def test_a_spelling_that_two_prices_share_finds_neither():
    assert PRICES.find("bedrock", "amazon.titan-embed-text") is None


@pytest.mark.parametrize(
    ("basis", "model"),
    [
        ("bedrock", "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/mi1dadi0g15f"),
        ("bedrock", "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abcdef"),
        ("bedrock", "us.does-not-exist-model-v1:0"),
        ("bedrock", "claude-sonnet-4-5"),
        ("anthropic", CLAUDE),
        ("openai", "claude-sonnet-4-5"),
        ("vertex", "gpt-5"),
        ("nowhere", "claude-sonnet-4-5"),
        ("", "gpt-5"),
    ],
)
def test_what_is_unknown_has_no_row(basis, model):
    assert PRICES.find(basis, model) is None


def test_a_price_holds_from_its_day_on():
    """Check that a new price applies from its first day on. OpenAI lowered the price of gpt-5.6-sol on 2026-08-21
    (genai-prices 0.2.3).
    """
    priced = price_of("openai", "gpt-5.6-sol")
    last, first = 1_787_270_399, 1_787_270_400
    assert priced.cost(Usage(input=1000, output=1000), at=last) == 5_000_000 + 30_000_000
    assert priced.cost(Usage(input=1000, output=1000), at=first) == 4_000_000 + 20_000_000


def test_a_price_of_a_future_day_waits_for_it():
    """Check that a price does not apply before its first day.

    The introductory price of gemini-3.6-flash applies until the end of 2026, and the usual price from 2027 on
    (genai-prices 0.2.3).
    """
    priced = price_of("google", "gemini-3.6-flash")
    assert priced.cost(Usage(input=1000), at=1_798_761_599) == 750_000
    assert priced.cost(Usage(input=1000), at=1_798_761_600) == 1_500_000


@pytest.mark.parametrize(
    ("basis", "model", "tier", "price_in", "price_out"),
    [
        # litellm 1.109.1: keys that end in _batches, _flex and _priority
        ("openai", "gpt-5", "batch", "0.625", "5"),
        ("openai", "gpt-5", "flex", "0.625", "5"),
        ("openai", "gpt-5", "priority", "2.5", "20"),
        # litellm 1.110.2
        ("bedrock", "us-gov.amazon.nova-pro-v1:0", "flex", "0.48", "1.92"),
        ("bedrock", "us-gov.openai.gpt-oss-120b-1:0", "priority", "0.315", "1.26"),
        ("bedrock", "moonshotai.kimi-k3.1", "flex", "2.2", "11"),
        ("bedrock", "us.moonshotai.kimi-k3.1", "priority", "7.7", "38.5"),
        ("bedrock", "us.amazon.nova-2-lite-v1:0", "flex", "0.165", "1.375"),
        ("bedrock", "us.amazon.nova-2-lite-v1:0", "priority", "0.5775", "4.8125"),
        ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "batch", "1.65", "8.25"),
        ("anthropic", "claude-haiku-4-5", "batch", "0.5", "2.5"),
    ],
)
def test_a_service_tier_has_prices_of_its_own(basis, model, tier, price_in, price_out):
    priced = price_of(basis, model)
    assert priced.cost(Usage(input=10_000), tier=tier, at=NOW) == Decimal(price_in) * 10_000 * 1000
    assert priced.cost(Usage(output=10_000), tier=tier, at=NOW) == Decimal(price_out) * 10_000 * 1000


def test_a_web_search_is_paid_for():
    """Check that 1,000 searches cost $10 (Anthropic's price page, LiteLLM's price map and genai-prices)."""
    priced = price_of("anthropic", "claude-sonnet-4-5")
    assert priced.cost(Usage(), extra={"web_search": 3}) == 30_000_000
    assert priced.cost(Usage(), extra={"web_search": 1}, tier="batch", at=NOW) == 10_000_000


def test_no_row_is_there_twice():
    keys = [(entry["book"], entry.get("geo"), entry["model"], entry.get("from")) for entry in TABLE["rows"]]
    assert len(keys) == len(set(keys))


def test_the_price_table_is_sorted_with_one_row_a_line():
    """Check that the table is sorted, has one row on each line, and is smaller than 1.5 MB."""
    keys = [(entry["book"], entry["model"], entry.get("geo", ""), entry.get("from", "")) for entry in TABLE["rows"]]
    assert keys == sorted(keys)
    lines = FILE.read_text("utf-8").splitlines()
    assert sum(line.startswith('  {"book"') for line in lines) == len(keys)
    assert FILE.stat().st_size < 1_500_000


def test_every_row_can_be_read_and_says_where_it_comes_from():
    known = {"book", "model", "geo", "from", "source", "why", "other", "dropped", "above", *KINDS, *TIERS}
    for entry in TABLE["rows"]:
        assert parse_row(entry).source
        assert entry["book"] in BOOKS
        assert entry.get("geo", "us") in GEOS
        assert Decimal(entry["input"]) >= 0
        assert entry.get("why", "derived") in TABLE["reasons"]
        assert set(entry) <= known


def test_a_disagreement_of_the_sources_names_what_the_other_one_says():
    disagreed = [entry for entry in TABLE["rows"] if entry.get("why") in set(TABLE["reasons"]) - {"derived", "history"}]
    assert disagreed
    assert all(entry["other"] for entry in disagreed)
