"""Tests of costs by kind of token, tier, prompt length and day. A cost is computed exactly, and rounded half up once at
the end.

Expected values were computed by hand.
"""

import json
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.load import loads
from gateway.config.model import Provider
from gateway.contract.flag import Usage
from gateway.contract.registry import discover
from gateway.money.prices.rates import PARTS, STANDARD
from gateway.money.prices.rows import parse_price
from gateway.money.prices.table import CostRule, Prices, compile_glob, inferred

DAY = "2026-11-01"
FIRST = 1_793_491_200
KINDS = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")


def listed(*rows, **more):
    """Return a price list with these rows. A row without a price book has the book "openai", and one without a model
    has the model "m".
    """
    entries = [{"book": "openai", "model": "m", **row} for row in rows]
    return Prices.load(entries, **more)


def priced(*rows):
    return listed(*rows).find("openai", "m")


def usd(price, count):
    """Return the nanodollars for a count of tokens at a price in USD for 1M."""
    exact = Fraction(price) / 1_000_000 * count * 10**9
    return floor(exact + Fraction(1, 2))


prices = st.decimals(0, 1000, places=6).map(str)


@given(counts=st.tuples(*[st.integers(0, 10**9)] * 5), texts=st.tuples(*[prices] * 5))
def test_a_cost_is_the_exact_sum_rounded_half_up_once(counts, texts):
    row = priced(dict(zip(KINDS, texts, strict=True)))
    exact = sum(Fraction(text) / 1_000_000 * count for text, count in zip(texts, counts, strict=True)) * 10**9
    assert row.cost(Usage(**dict(zip(KINDS, counts, strict=True)))) == floor(exact + Fraction(1, 2))


@given(
    count=st.integers(0, 10**9),
    price=prices,
    adjustment=st.decimals("0.000001", 1000, places=6),
    searches=st.integers(0, 1000),
)
def test_an_adjusted_cost_is_the_exact_product_rounded_once(count, price, adjustment, searches):
    adjusted = listed({"input": price, "web_search": "10000"}).find("openai", "m", adjustment)
    exact = (Fraction(price) * count + 10000 * searches) / 1_000_000 * Fraction(adjustment) * 10**9
    assert adjusted.cost(Usage(input=count), extra={"web_search": searches}) == floor(exact + Fraction(1, 2))


def test_half_a_nanodollar_is_rounded_up():
    assert priced({"input": "0.0005"}).cost(Usage(input=1)) == 1
    assert priced({"input": "0.000499999"}).cost(Usage(input=1)) == 0


def test_halves_are_summed_before_they_are_rounded():
    assert priced({"input": "0.0005", "output": "0.0005"}).cost(Usage(input=1, output=1)) == 1


def test_no_tokens_cost_nothing():
    assert priced({"input": "1"}).cost(Usage()) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_without_a_known_price_makes_the_cost_unknown(kind):
    row = priced({name: "1" for name in KINDS if name != kind})
    assert row.cost(Usage(**{kind: 1})) is None
    assert row.cost(Usage(**dict.fromkeys(set(KINDS) - {kind}, 1))) == 4000


def test_reasoning_above_the_output_is_priced_as_all_of_it():
    """Check that at most as many reasoning tokens are charged as there are output tokens. Reasoning is a part of the
    output.
    """
    usage = Usage(output=100, reasoning=140)
    assert priced({"output": "10", "reasoning": "3"}).cost(usage) == usd("3", 100)
    assert priced({"output": "10", "reasoning": "30"}).cost(usage) == usd("30", 100)


def test_reasoning_costs_as_output_unless_it_is_priced_apart():
    usage = Usage(output=100, reasoning=80)
    assert priced({"output": "10"}).cost(usage) == usd("10", 100)
    assert priced({"output": "10", "reasoning": "3"}).cost(usage) == usd("10", 20) + usd("3", 80)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_with_a_price_of_its_own_is_not_paid_twice(part):
    whole, same = PARTS[part]
    usage = Usage(**{whole: 100})
    assert priced({whole: "10", part: "30"}).cost(usage, extra={part: 40}) == usd("10", 60) + usd("30", 40)
    assert priced({whole: "10"}).cost(usage, extra={part: 40}) == (usd("10", 100) if same else None)


def test_searches_without_a_price_make_the_cost_unknown():
    assert priced({"input": "1"}).cost(Usage(input=1), extra={"web_search": 1}) is None


LONG = {"input": "3", "output": "15", "cache_read": "0.3", "cache_write_5m": "3.75", "cache_write_1h": "6"}
LONGER = {"input": "6", "output": "22.5", "cache_read": "0.6", "cache_write_5m": "7.5", "cache_write_1h": "12"}


@pytest.mark.parametrize("kind", ["input", "cache_read", "cache_write_5m", "cache_write_1h"])
def test_each_kind_of_input_counts_for_the_length_of_a_prompt(kind):
    row = priced({**LONG, "above": [{"tokens": 200_000, **LONGER}]})
    assert row.cost(Usage(output=10, **{kind: 200_000})) == usd(LONG[kind], 200_000) + usd("15", 10)
    assert row.cost(Usage(output=10, **{kind: 200_001})) == usd(LONGER[kind], 200_001) + usd("22.5", 10)


def test_output_does_not_count_for_the_length_of_a_prompt():
    row = priced({**LONG, "above": [{"tokens": 200_000, **LONGER}]})
    assert row.cost(Usage(input=199_999, output=10)) == usd("3", 199_999) + usd("15", 10)


def test_of_several_lengths_the_longest_that_fits_counts():
    row = priced({"input": "1", "above": [{"tokens": 256, "input": "3"}, {"tokens": 128, "input": "2"}]})
    assert [row.cost(Usage(input=count)) for count in (128, 129, 256, 257)] == [
        128_000, 258_000, 512_000, 771_000,
    ]  # fmt: skip


@pytest.mark.parametrize("tier", sorted(STANDARD))
def test_names_of_the_standard_tier_cost_the_standard_price(tier):
    assert priced({"input": "2", "flex": {"input": "1"}}).cost(Usage(input=5), tier=tier) == usd("2", 5)


def test_a_tier_that_has_no_price_is_unknown():
    row = priced({"input": "2", "flex": {"input": "1"}})
    assert row.cost(Usage(input=5), tier="flex") == usd("1", 5)
    assert [row.cost(Usage(input=5), tier=tier) for tier in ("priority", "reserved", "optimized", "scale")] == [
        None
    ] * 4


def test_a_tier_without_long_prompt_prices_has_none():
    """Check that a tier has no price for long prompts if only the standard tier has prices for them."""
    row = priced({"input": "2", "above": [{"tokens": 10, "input": "4"}], "batch": {"input": "1"}})
    assert row.cost(Usage(input=10), tier="batch") == usd("1", 10)
    assert row.cost(Usage(input=11), tier="batch") is None


def test_a_row_of_the_operator_stands_before_the_tables():
    own = Prices.load([{"book": "bedrock", "geo": "us", "model": "amazon.nova-lite-v1:0", "input": "7"}])
    assert own.find("bedrock-us", "amazon.nova-lite-v1:0").cost(Usage(input=1000)) == usd("7", 1000)
    assert own.find("bedrock-us", "us.amazon.nova-lite-v1:0").cost(Usage(output=1)) is None
    assert own.find("bedrock-eu", "amazon.nova-lite-v1:0").cost(Usage(output=1000)) is not None


def test_an_operators_row_of_a_shorter_name_precedes_the_tables():
    """Check that an operator's row takes precedence over the built-in row of a model, even if the operator's row has a
    shorter form of the model's name.
    """
    own = Prices.load([{"book": "bedrock", "geo": "us", "model": "anthropic.claude-haiku-4-5", "input": "7"}])
    name = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
    assert own.find("bedrock", name).cost(Usage(input=1000)) == usd("7", 1000)


def test_a_row_with_a_day_leaves_the_price_before_it():
    before = Prices.load().find("openai", "gpt-4o")
    own = Prices.load([{"book": "openai", "model": "gpt-4o", "from": DAY, "input": "7"}]).find("openai", "gpt-4o")
    usage = Usage(input=1000)
    assert own.cost(usage, at=FIRST - 1) == before.cost(usage) == usd("2.5", 1000)
    assert own.cost(usage, at=FIRST) == own.cost(usage, at=FIRST + 10**8) == usd("7", 1000)


def test_a_row_for_a_model_that_nobody_knows_gives_it_a_price():
    assert priced({"input": "1.5"}).cost(Usage(input=2)) == usd("1.5", 2)


@pytest.mark.parametrize("text", ["-1", "0.0000000001", "NaN", "Infinity", "a lot", "", "1e30"])
def test_a_price_that_cannot_be_held_is_refused(text):
    with pytest.raises(ValueError, match="is no price"):
        parse_price(text)


@pytest.mark.parametrize("text", ["3.3", "0.000000001", "1000000", "0"])
def test_a_price_is_shown_as_it_was_written(text):
    row = priced({"input": text})
    assert Decimal(row.usd(row.unit("input"), 6)) == Decimal(text)
    assert "e" not in row.usd(row.unit("input")).lower()


PROVIDER = Provider("p", "http://p.example.com", ("m",), cost_basis="openai")


def mapped(model, *rules, prices=None, **more):
    provider = replace(PROVIDER, models=(model,), model_cost_map=rules, **more)
    return (prices or Prices.load()).of(provider, model)


def test_a_model_is_priced_as_the_first_rule_that_matches_says():
    rules = (CostRule("ft:*", "gpt-4o", Decimal("1.5")), CostRule("*", "gpt-5"))
    assert mapped("ft:mine", *rules).cost(Usage(input=1000)) == usd("3.75", 1000)
    assert mapped("other", *rules).cost(Usage(input=1000)) == usd("1.25", 1000)


def test_a_rule_may_name_a_model_of_another_price_list():
    rule = CostRule("llama*", "bedrock/us.amazon.nova-lite-v1:0")
    assert mapped("llama-70b", rule, cost_basis=None, flags=()).name == "bedrock/us.amazon.nova-lite-v1:0"


def test_a_rule_that_names_no_model_adjusts_the_models_own_price():
    assert mapped("gpt-4o", CostRule("*", "", Decimal("0.85"))).cost(Usage(output=3)) == usd("8.5", 3)


def test_a_rule_for_what_has_no_price_leaves_it_unknown():
    assert mapped("gpt-4o", CostRule("*", "nothing")) is None


def test_the_model_behind_a_name_gives_it_its_price():
    arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/mi1dadi0g15f"
    base = {arn: "us.amazon.nova-lite-v1:0"}
    assert mapped(arn, cost_basis="bedrock", base_models=base).name == "bedrock/us.amazon.nova-lite-v1:0"


@pytest.mark.parametrize(
    ("flags", "bases"),
    [
        (("anthropic_messages",), ("anthropic",)),
        (("openai_chat",), ("openai",)),
        (("openai_responses", "openai_chat"), ("openai",)),
        (("gemini_generate_content",), ("google",)),
        (("openai_chat", "anthropic_messages"), ("openai", "anthropic")),
        (("bedrock_converse",), ()),
        (("bedrock_model_invoke", "anthropic_messages"), ()),
        ((), ()),
    ],
)
def test_a_price_list_is_found_by_the_flags(flags, bases):
    compatibility = {"openai_chat": False, **dict.fromkeys(flags, True)}
    provider = {"baseurl": "https://a.example", "apikey": "", "models": ["m"], "compatibility": compatibility}
    loaded = loads(json.dumps({"providers": {"p": provider}}), plugins=discover().known)
    assert inferred(loaded.config.providers["p"].price_lists) == bases


def test_a_price_list_is_inferred_only_where_allowed():
    """Check a provider whose configuration names no price list. A price list is inferred for it only if `infer` is
    true.
    """
    provider = replace(PROVIDER, models=("gpt-4o",), cost_basis=None, price_lists=("openai",))
    finding, explicit = Prices.load(), Prices.load(infer=False)
    assert (finding.of(provider, "gpt-4o").name, finding.source(provider)) == ("openai/gpt-4o", "inferred")
    assert (explicit.of(provider, "gpt-4o"), explicit.source(provider)) == (None, "none")
    named = replace(provider, cost_basis="openai")
    explicit = Prices.load(infer=False)
    assert (explicit.of(named, "gpt-4o").name, explicit.source(named)) == ("openai/gpt-4o", "explicit")


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        # the examples of Go's path.Match, path/match_test.go
        ("abc", "abc", True), ("*", "abc", True), ("*c", "abc", True), ("a*", "a", True), ("a*", "abc", True),
        ("a*", "ab/c", False), ("a*/b", "abc/b", True), ("a*/b", "a/c/b", False), ("a*b*c*d*e*/f", "axbxcxdxe/f", True),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True), ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False), ("ab[c]", "abc", True),
        ("ab[b-d]", "abc", True), ("ab[e-g]", "abc", False), ("ab[^c]", "abc", False), ("ab[^b-d]", "abc", False),
        ("ab[^e-g]", "abc", True), ("a\\*b", "a*b", True), ("a\\*b", "ab", False), ("a?b", "a☺b", True),
        ("a[^a]b", "a☺b", True), ("a???b", "a☺b", False), ("[a-ζ]*", "α", True), ("*[a-ζ]", "A", False),
        ("a?b", "a/b", False), ("a*b", "a/b", False), ("[\\]a]", "]", True), ("[\\-]", "-", True), ("[x\\-]", "x", True),
        ("[x\\-]", "-", True), ("[x\\-]", "z", False), ("[\\-x]", "x", True), ("*x", "xxx", True),
    ],
)  # fmt: skip
def test_a_pattern_matches_as_go_has_it(pattern, name, fits):
    assert bool(compile_glob(pattern).fullmatch(name)) is fits


@pytest.mark.parametrize(
    "pattern", ["[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "[^bc", "a[", "a[b", "[b-a]"]
)
def test_a_pattern_that_go_refuses_is_refused(pattern):
    with pytest.raises(ValueError, match=r"pattern|range"):
        compile_glob(pattern)


@pytest.mark.parametrize(
    ("at", "row"), [(FIRST - 0.001, "openai/m"), (FIRST, f"openai/m@{DAY}"), (FIRST + 1e9, f"openai/m@{DAY}")]
)
def test_a_record_names_the_row_of_its_day(at, row):
    assert priced({"input": "1"}, {"input": "2", "from": DAY}).row(at) == row


def test_the_dearest_tier_skips_tiers_without_prices():
    """Check that the highest cost of a call is that of the most expensive tier among those that have a price for
    everything that the call used.
    """
    rates = priced({"input": "1", "output": "1", "flex": {"input": "9"}, "priority": {"input": "2", "output": "2"}})
    assert rates.highest_cost(Usage(input=1000, output=1000)) == 4_000_000
    assert rates.highest_cost(Usage(cache_read=1)) is None
