"""The section `model_cost_map` of a provider: models that are priced as other models.

The operator's own price file is in `prices.py`; how a rule is applied is in `gateway/money/prices/`.
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

_MOST: Final = 1000
"""An adjustment is a discount or a surcharge; what is larger is a slip."""


def _pattern(value: str) -> str:
    compile_glob(value)
    return value


def _adjustment(value: Any) -> Decimal:
    """A number is taken for the decimal that it was written as, which `repr` gives back for up to 15 digits."""
    wrong = (
        f'must be a number above 0 and up to {_MOST}, with at most {ADJUSTMENT_PLACES} decimals, such as 0.85 or "1.1"'
    )
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(wrong)  # noqa: TRY004 (what pydantic takes for a fault)
    try:
        found = Decimal(str(value))
    except ArithmeticError:
        raise ValueError(wrong) from None
    if not found.is_finite() or not 0 < found <= _MOST or found != round(found, ADJUSTMENT_PLACES):
        raise ValueError(wrong)
    return found


Pattern = Annotated[str, AfterValidator(_pattern)]
Adjustment = Annotated[
    Decimal, BeforeValidator(_adjustment), WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]})
]


class CostRuleSection(Section):
    """How some models of a provider are priced."""

    match: Pattern = Field(
        description='Models of the provider, by a pattern: "ft:gpt-*".', examples=['"match": "ft:gpt-*"']
    )
    priced_as: str = Field(
        "", alias="as", description='The model whose price they have: "gpt-5", or "openai/gpt-5"; "" is their own.'
    )
    adjustment: Adjustment = Field(Decimal(1), description="What the price is multiplied by, such as 0.85.")


def read_cost_rules(raw: Sequence[Any], path: Path, reading: Reading) -> tuple[CostRule, ...]:
    """Those without faults, in their order."""
    sections = (reading.section(CostRuleSection, rule, (*path, index)) for index, rule in enumerate(raw))
    return tuple(CostRule(rule.match, rule.priced_as, rule.adjustment) for rule in sections if rule)
