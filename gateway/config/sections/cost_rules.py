"""The section `model_cost_map` of a provider: rules by which models are priced like other models.

Rules are applied in `gateway/money/prices/`. The operator's own price file is read in `prices.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from gateway.config.document.hujson import Path
from gateway.config.reading import Reading
from gateway.config.section import Section
from gateway.money.prices.table import ADJUSTMENT_PLACES, CostRule, compile_glob

_MAX_ADJUSTMENT: Final = 1000
"""Maximum factor for a price. Factors are discounts and surcharges, so a larger number is a mistake."""


def _pattern(value: str) -> str:
    compile_glob(value)
    return value


def _adjustment(value: Any) -> Decimal:
    """Return the factor by which a price is multiplied, as an exact decimal.

    `value` is a JSON number or a text. A number of up to 15 digits is exact, because `str` of a float returns these
    digits. Raises `ValueError` if the value is not an allowed factor.
    """
    bounds = f"above 0 and up to {_MAX_ADJUSTMENT}, with at most {ADJUSTMENT_PLACES} decimals"
    wrong = f'must be a number {bounds}, such as 0.85 or "1.1"'
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(wrong)  # noqa: TRY004 (pydantic reports a ValueError as a fault)
    try:
        adjustment = Decimal(str(value))
    except ArithmeticError:
        raise ValueError(wrong) from None
    if (
        not adjustment.is_finite()
        or not 0 < adjustment <= _MAX_ADJUSTMENT
        or adjustment != round(adjustment, ADJUSTMENT_PLACES)
    ):
        raise ValueError(wrong)
    return adjustment


Pattern = Annotated[str, AfterValidator(_pattern)]
Adjustment = Annotated[
    Decimal, BeforeValidator(_adjustment), WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]})
]


class CostRuleSection(Section):
    """A rule for the price of some models of a provider."""

    match: Pattern = Field(
        description='A pattern for names of the provider\'s models: "ft:gpt-*".', examples=['"match": "ft:gpt-*"']
    )
    priced_as: str = Field(
        "",
        alias="as",
        description='The model whose price the matching models have: "gpt-5", '
        'or "openai/gpt-5"; "" for their own price.',
    )
    adjustment: Adjustment = Field(Decimal(1), description="The factor by which the price is multiplied, such as 0.85.")


def read_cost_rules(raw: Sequence[Any], path: Path, reading: Reading) -> tuple[CostRule, ...]:
    """Return the rules that have no fault, in their order."""
    sections = (reading.section(CostRuleSection, rule, (*path, index)) for index, rule in enumerate(raw))
    return tuple(CostRule(rule.match, rule.priced_as, rule.adjustment) for rule in sections if rule)
