"""Sections about prices: rules of a provider's `model_cost_map`, and the rows of an operator's own price file.

The rows have the form of those in `gateway/money/prices/table.json`. What the sections are turned into is in
`prices.py`.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from gateway.config.fields import Name
from gateway.config.section import Holds, Section
from gateway.contract.capabilities import GEOS
from gateway.money.prices.rows import parse_price
from gateway.money.prices.table import FINEST, compile_glob

_MOST: Final = 1000
"""An adjustment is a discount or a surcharge; what is larger is a slip."""

_List = Annotated[tuple[Any, ...], Field(strict=False)]


def _price(value: str) -> str:
    """As it is written: prices are exact, and a JSON number might not be."""
    parse_price(value)
    return value


def _pattern(value: str) -> str:
    compile_glob(value)
    return value


def _adjustment(value: Any) -> Decimal:
    """A number is taken for the decimal that it was written as, which `repr` gives back for up to 15 digits."""
    wrong = f'must be a number above 0 and up to {_MOST}, with at most {FINEST} decimals, such as 0.85 or "1.1"'
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(wrong)  # noqa: TRY004 (what pydantic takes for a fault)
    try:
        found = Decimal(str(value))
    except ArithmeticError:
        raise ValueError(wrong) from None
    if not found.is_finite() or not 0 < found <= _MOST or found != round(found, FINEST):
        raise ValueError(wrong)
    return found


def _day(value: str) -> str:
    try:
        fits = date.fromisoformat(value).isoformat() == value
    except ValueError:
        fits = False
    if not fits:
        raise ValueError('must be a day, such as "2026-11-01"')
    return value


Price = Annotated[str, AfterValidator(_price)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Adjustment = Annotated[
    Decimal, BeforeValidator(_adjustment), WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]})
]
Day = Annotated[str, AfterValidator(_day)]


class CostRuleSection(Section):
    """How some models of a provider are priced."""

    match: Pattern = Field(
        description='Models of the provider, by a pattern: "ft:gpt-*".', examples=['"match": "ft:gpt-*"']
    )
    priced_as: str = Field(
        "", alias="as", description='The model whose price they have: "gpt-5", or "openai/gpt-5"; "" is their own.'
    )
    adjustment: Adjustment = Field(Decimal(1), description="What the price is multiplied by, such as 0.85.")


class RatesSection(Section):
    """Prices in USD for 1M, in quotes."""

    input: Price | None = Field(None, description='Tokens of the prompt: "3.30".')
    output: Price | None = Field(None, description='Tokens of the reply: "16.50".')
    cache_read: Price | None = Field(None, description='Tokens that were read from the cache: "0.33".')
    cache_write_5m: Price | None = Field(None, description='Tokens written into the cache, for 5 minutes: "4.125".')
    cache_write_1h: Price | None = Field(None, description='Tokens written into the cache, for an hour: "6.60".')
    reasoning: Price | None = Field(None, description='Tokens of thinking, where they do not cost as output: "2".')
    image_input: Price | None = Field(None, description='Tokens of images in the prompt, where priced apart: "8".')
    image_output: Price | None = Field(None, description='Tokens of images in the reply, where priced apart: "30".')
    audio_input: Price | None = Field(None, description='Tokens of sound in the prompt: "32".')
    audio_output: Price | None = Field(None, description='Tokens of sound in the reply: "64".')
    web_search: Price | None = Field(None, description='Searches of the web, for 1M of them: "10000".')


class StepSection(RatesSection):
    """Prices of long prompts."""

    tokens: int = Field(ge=1, description="The prices hold for prompts of more tokens, such as 200000.")


class TierSection(RatesSection):
    """Prices of a service tier."""

    above: Annotated[_List, Holds(StepSection, "list")] = Field(
        (), description='Prices of long prompts: [{"tokens": 200000, "input": "6.60"}].'
    )


class RowSection(TierSection):
    """Prices of one model."""

    book: Literal["anthropic", "openai", "google", "vertex", "bedrock", "azure", "openrouter", "vercel"] = Field(
        description='The price list: "bedrock".', examples=['"book": "bedrock"']
    )
    model: Name = Field(description='The model: "amazon.nova-lite-v1:0".', examples=['"model": "gpt-5"'])
    geo: Literal["", *GEOS] = Field(  # type: ignore[valid-type]  # the one list of regions, which is no literal to mypy
        "", description='The region: "us"; "" is that of ids without a region.'
    )
    since: Day | Literal[""] = Field("", alias="from", description='The first day of the price: "2026-11-01".')
    batch: Annotated[dict[str, Any], Holds(TierSection)] = Field(
        {}, description='Prices of the tier "batch": {"input": "1.65"}.'
    )
    flex: Annotated[dict[str, Any], Holds(TierSection)] = Field(
        {}, description='Prices of the tier "flex": {"input": "1.65"}.'
    )
    priority: Annotated[dict[str, Any], Holds(TierSection)] = Field(
        {}, description='Prices of the tier "priority": {"input": "5.78"}.'
    )
    fast: Annotated[dict[str, Any], Holds(TierSection)] = Field(
        {}, description='Prices of the tier "fast": {"input": "6.60"}.'
    )
    ultrafast: Annotated[dict[str, Any], Holds(TierSection)] = Field(
        {}, description='Prices of the tier "ultrafast": {"input": "20"}.'
    )
    reserved: Annotated[dict[str, Any], Holds(TierSection)] = Field(
        {}, description='Prices of the tier "reserved": {"input": "0"}.'
    )
    optimized: Annotated[dict[str, Any], Holds(TierSection)] = Field(
        {}, description='Prices of the tier "optimized": {"input": "4.4"}.'
    )
    us: Annotated[dict[str, Any], Holds(TierSection)] = Field(
        {}, description='Prices of the tier "us": {"input": "5.5"}.'
    )
    scale: Annotated[dict[str, Any], Holds(TierSection)] = Field(
        {}, description='Prices of the tier "scale": {"input": "0"}.'
    )
    source: str = Field("", description='Where the price comes from, for readers: "contract of May".')


OWN_TIERS: Final = ("batch", "flex", "priority", "fast", "ultrafast", "reserved", "optimized", "scale", "us")


class PricesSection(Section):
    """A file with prices of one's own."""

    rows: Annotated[_List, Holds(RowSection, "list")] = Field(
        (), description='Prices: [{"book": "bedrock", "model": "amazon.nova-lite-v1:0", "input": "0.06"}].'
    )
