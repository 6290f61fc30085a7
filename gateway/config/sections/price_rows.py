"""The rows of an operator's price file, as pydantic models.

The rows have the same form as those in `gateway/money/prices/table.json`. The operator's file is read in `prices.py`.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from gateway.config.fields import Name
from gateway.config.section import Holds, Items, Section
from gateway.contract.capabilities import GEOS
from gateway.money.prices.rows import parse_price


def _price(value: str) -> str:
    """Return a valid price as written. Prices are strings, because a JSON number may lose digits."""
    parse_price(value)
    return value


def _day(value: str) -> str:
    try:
        fits = date.fromisoformat(value).isoformat() == value
    except ValueError:
        fits = False
    if not fits:
        raise ValueError('must be a day, such as "2026-11-01"')
    return value


Price = Annotated[str, AfterValidator(_price)]
Day = Annotated[str, AfterValidator(_day)]


class RatesSection(Section):
    """Prices in US dollars for 1,000,000 tokens or searches, as strings."""

    input: Price | None = Field(None, description='The price of input tokens: "3.30".')
    output: Price | None = Field(None, description='The price of output tokens: "16.50".')
    cache_read: Price | None = Field(None, description='The price of input tokens that are read from a cache: "0.33".')
    cache_write_5m: Price | None = Field(
        None, description='The price of tokens that are written to a cache for 5 minutes: "4.125".'
    )
    cache_write_1h: Price | None = Field(
        None, description='The price of tokens that are written to a cache for an hour: "6.60".'
    )
    reasoning: Price | None = Field(
        None, description='The price of thinking tokens, if it differs from that of output: "2".'
    )
    image_input: Price | None = Field(
        None, description='The price of image tokens in the input, if it differs from that of input: "8".'
    )
    image_output: Price | None = Field(
        None, description='The price of image tokens in the output, if it differs from that of output: "30".'
    )
    audio_input: Price | None = Field(None, description='The price of audio tokens in the input: "32".')
    audio_output: Price | None = Field(None, description='The price of audio tokens in the output: "64".')
    web_search: Price | None = Field(None, description='The price of 1M web searches: "10000".')


class StepSection(RatesSection):
    """Prices for prompts with more tokens than the number in `tokens`."""

    tokens: int = Field(
        ge=1, description="The number of tokens of a prompt above which these prices apply, such as 200000."
    )


class TierSection(RatesSection):
    """Prices of a service tier."""

    above: Annotated[Items, Holds(StepSection, "list")] = Field(
        (), description='Prices of long prompts: [{"tokens": 200000, "input": "6.60"}].'
    )


class RowSection(TierSection):
    """Prices of one model at one seller, such as Bedrock. The key `book` names the seller."""

    book: Literal["anthropic", "openai", "google", "vertex", "bedrock", "azure", "openrouter", "vercel"] = Field(
        description='The seller whose prices these are: "bedrock".', examples=['"book": "bedrock"']
    )
    model: Name = Field(description='The model: "amazon.nova-lite-v1:0".', examples=['"model": "gpt-5"'])
    geo: Literal["", *GEOS] = Field(  # type: ignore[valid-type]  # mypy wants the literals written here
        "", description='The region prefix of the model\'s id: "us"; "" for ids without a prefix.'
    )
    since: Day | Literal[""] = Field(
        "", alias="from", description='The first day on which the price is valid: "2026-11-01".'
    )
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
    source: str = Field("", description='The source of the price, for people: "contract of May".')


OWN_TIERS: Final = ("batch", "flex", "priority", "fast", "ultrafast", "reserved", "optimized", "scale", "us")


class PricesSection(Section):
    """The operator's own price file."""

    rows: Annotated[Items, Holds(RowSection, "list")] = Field(
        (), description='Prices: [{"book": "bedrock", "model": "amazon.nova-lite-v1:0", "input": "0.06"}].'
    )
