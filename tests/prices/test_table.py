"""Prices: published ones are found and summed exactly, whatever an id looks like; what is unknown stays unknown."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from math import floor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gateway.prices.table
from gateway.caps import GEOS
from gateway.flag import Usage
from gateway.prices.table import BASES, PRICED, Prices, Row, Units

PRICES = Prices.load()
TABLE = json.loads(Path(gateway.prices.table.__file__).with_name("table.json").read_text("utf-8"))
MILLION = 1_000_000

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
PUBLISHED = [
    *(("bedrock", *row) for row in BEDROCK),
    *(("anthropic", *row) for row in ANTHROPIC),
    *(("openai", *row) for row in OPENAI),
]
CLAUDE = "anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "amazon.nova-lite-v1:0"


def found(basis: str, model: str) -> Row:
    row = PRICES.find(basis, model)
    assert row is not None, (basis, model)
    return row


def cost(basis: str, model: str, **usage: int) -> int | None:
    return found(basis, model).cost(Usage(**usage))


@pytest.mark.parametrize(("basis", "model", "price_in", "price_out"), PUBLISHED)
def test_a_published_price_is_charged(basis: str, model: str, price_in: str, price_out: str) -> None:
    units = found(basis, model).units
    assert (units.input, units.output) == (int(Decimal(price_in) * 10**9), int(Decimal(price_out) * 10**9))


def test_each_token_kind_has_its_own_price() -> None:
    model = f"us.{CLAUDE}"
    # multipliers of Anthropic's price page: read 0.1, write 1.25 for 5 minutes and 2 for an hour
    assert cost("bedrock-us", model, input=1000) == 3_300_000
    assert cost("bedrock-us", model, output=1000) == 16_500_000
    assert cost("bedrock-us", model, cache_read=1000) == 330_000
    assert cost("bedrock-us", model, cache_write_5m=1000) == 4_125_000
    assert cost("bedrock-us", model, cache_write_1h=1000) == 6_600_000


def test_reasoning_is_part_of_the_output_and_not_paid_twice() -> None:
    assert cost("openai", "gpt-5", output=100, reasoning=80) == cost("openai", "gpt-5", output=100)


def test_a_kind_without_a_known_price_makes_the_cost_unknown() -> None:
    model = "us.anthropic.claude-3-7-sonnet-20250219-v1:0"
    assert cost("bedrock", model, input=10, cache_write_5m=10) is not None
    assert cost("bedrock", model, input=10, cache_write_1h=1) is None


def test_a_long_prompt_costs_the_tier_for_the_whole_call() -> None:
    model = f"us.{CLAUDE}"
    assert cost("bedrock", model, input=200_000, output=1000) == 200_000 * 3300 + 1000 * 16_500
    assert cost("bedrock", model, input=200_001, output=1000) == 200_001 * 6600 + 1000 * 24_750


def test_cached_tokens_count_for_the_length_of_a_prompt() -> None:
    model = f"us.{CLAUDE}"
    assert cost("bedrock", model, input=1, cache_read=200_000) == 6600 + 200_000 * 660


def test_output_does_not_count_for_the_length_of_a_prompt() -> None:
    assert cost("bedrock", f"us.{CLAUDE}", input=199_999, output=10) == 199_999 * 3300 + 10 * 16_500


@pytest.mark.parametrize("geo", GEOS)
@pytest.mark.parametrize("model", [CLAUDE, "anthropic.claude-opus-4-6-v1"])
def test_claude_has_a_price_in_every_region(model: str, geo: str) -> None:
    listed = found("bedrock", f"global.{model}").units.input
    # ratios of the rows that litellm 1.109.1 has
    ratio = {"global": Fraction(1), "us-gov": Fraction(12, 10)}.get(geo, Fraction(11, 10))
    assert listed is not None
    assert found("bedrock", f"{geo}.{model}").units.input == listed * ratio


@pytest.mark.parametrize("geo", [geo for geo in GEOS if geo != "global"])
@pytest.mark.parametrize("model", [NOVA, "amazon.nova-micro-v1:0", "amazon.nova-pro-v1:0"])
def test_nova_has_a_price_in_every_region(model: str, geo: str) -> None:
    assert found("bedrock", f"{geo}.{model}").geo == geo


@pytest.mark.parametrize(
    ("basis", "geo"), [("bedrock", ""), ("bedrock-us", "us"), ("bedrock-eu", "eu"), ("bedrock-ap", "apac")]
)
def test_the_basis_decides_the_region_of_an_id_without_prefix(basis: str, geo: str) -> None:
    assert found(basis, NOVA).geo == geo


def test_the_prefix_of_an_id_wins_over_the_basis() -> None:
    assert found("bedrock-eu", f"us.{NOVA}").geo == "us"


def test_a_model_with_one_price_for_all_regions_is_found_under_each_basis() -> None:
    assert {found(basis, "qwen.qwen3-32b-v1:0").geo for basis in BASES if basis.startswith("bedrock")} == {""}


def test_a_region_that_has_no_price_is_unknown() -> None:
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
def test_spellings_of_a_bedrock_id_share_a_price(model: str) -> None:
    assert found("bedrock", model).name == f"bedrock/us.{CLAUDE}"


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
def test_spellings_of_an_anthropic_id_share_a_price(model: str) -> None:
    assert found("anthropic", model).name == "anthropic/claude-sonnet-4-5"


def test_a_dated_id_with_a_price_of_its_own_keeps_it() -> None:
    assert cost("openai", "gpt-4o-2024-05-13", input=1000) == 5_000_000
    assert cost("openai", "gpt-4o-2024-08-06", input=1000) == 2_500_000


def test_a_spelling_that_two_prices_share_finds_neither() -> None:
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
        ("vertex", "claude-sonnet-4-5"),
        ("", "gpt-5"),
    ],
)
def test_what_is_unknown_has_no_row(basis: str, model: str) -> None:
    assert PRICES.find(basis, model) is None


@given(
    counts=st.tuples(*[st.integers(0, 10**9)] * 5),
    texts=st.tuples(*[st.decimals(0, 1000, places=6).map(str)] * 5),
)
def test_a_cost_is_the_exact_sum_rounded_half_up_once(counts: tuple[int, ...], texts: tuple[str, ...]) -> None:
    row = Row("bedrock", "m", "", Units(*(int(Decimal(text) * 10**9) for text in texts)))
    exact = sum(Fraction(text) / MILLION * count for text, count in zip(texts, counts, strict=True)) * 10**9
    assert row.cost(Usage(**dict(zip(PRICED, counts, strict=True)))) == floor(exact + Fraction(1, 2))


def test_half_a_nanodollar_is_rounded_up() -> None:
    assert Row("b", "m", "", Units(500_000, None, None, None, None)).cost(Usage(input=1)) == 1
    assert Row("b", "m", "", Units(499_999, None, None, None, None)).cost(Usage(input=1)) == 0


def test_no_tokens_cost_nothing() -> None:
    assert cost("openai", "gpt-5") == 0


@pytest.mark.parametrize("text", ["-1", "0.0000000001"])
def test_a_price_that_cannot_be_held_is_refused(tmp_path: Path, text: str) -> None:
    table = tmp_path / "table.json"
    entry = {"book": "openai", "model": "m", "geo": "", "input": text, "source": "test"}
    table.write_text(json.dumps({"rows": [entry]}), "utf-8")
    with pytest.raises(ValueError, match="is no price"):
        Prices.load(table)


def test_no_row_is_there_twice() -> None:
    keys = [(row["book"], row["geo"], row["model"]) for row in TABLE["rows"]]
    assert len(keys) == len(set(keys))


def test_every_row_is_complete_and_says_where_it_comes_from() -> None:
    for entry in TABLE["rows"]:
        assert entry["source"]
        assert entry["book"] in {book for book, _ in BASES.values()}
        assert entry["geo"] in {"", *GEOS}
        assert Decimal(entry["input"]) > 0
        assert entry.get("why", "derived") in TABLE["reasons"]
        above = entry.get("above", {"tokens": 0, "input": "1"})
        assert isinstance(above["tokens"], int)
        assert Decimal(above["input"]) > 0
        extra = set(entry) - {"book", "model", "geo", "source", "why", "other", "above", *PRICED}
        assert not extra


def test_a_disagreement_of_the_sources_names_what_the_other_one_says() -> None:
    disagreed = [entry for entry in TABLE["rows"] if entry.get("why") in {"own-row", "in-region", "tier"}]
    assert disagreed
    assert all(entry["other"] for entry in disagreed)
