"""Prices in the form of the API: decimal strings in USD, with the field names of Aperture's API.

This module only formats prices. It does not compute the cost of a call.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from gateway.money.prices.rates import PER_MILLION, Priced, Steps, Units

NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "input": "input",
        "output": "output",
        "cache_read": "input_cache_read",
        "cache_write_5m": "input_cache_write",
        "cache_write_1h": "input_cache_write_1h",
        "reasoning": "internal_reasoning",
        "image_input": "image_input",
        "image_output": "image_output",
        "audio_input": "audio_input",
        "audio_output": "audio_output",
        "web_search": "web_search",
    }
)
_BRIEF: Final = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "web_search")


def per_token(priced: Priced) -> dict[str, str]:
    """Return the prices for /v1/models: today's prices in the standard tier, in USD for one token or one search."""
    units = priced.rates().tiers[""][0][1]
    return _named(priced, units, 0, _BRIEF)


def per_million(priced: Priced) -> dict[str, Any]:
    """Return today's prices in USD for 1M tokens or 1M searches, including prices of long prompts and service tiers."""
    tiers = priced.rates().tiers
    prices: dict[str, Any] = _steps(priced, tiers[""])
    modes = {tier: _steps(priced, steps) for tier, steps in tiers.items() if tier}
    return prices | ({"modes": modes} if modes else {})


def _steps(priced: Priced, steps: Steps) -> dict[str, Any]:
    (_, base), *longer = steps
    prices: dict[str, Any] = _named(priced, base, PER_MILLION, tuple(NAMES))
    above = [{"tokens": above, **_named(priced, units, PER_MILLION, tuple(NAMES))} for above, units in longer]
    return prices | ({"above": above} if above else {})


def _named(priced: Priced, units: Units, per: int, kinds: tuple[str, ...]) -> dict[str, str]:
    known = {kind: unit for kind in kinds if (unit := getattr(units, kind)) is not None}
    return {NAMES[kind]: priced.usd(unit, per) for kind, unit in known.items()}
