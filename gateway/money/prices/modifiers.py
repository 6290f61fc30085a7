"""Published prices that apply to all models of a seller: factors by geography, and fees of tools.

`modifiers.json` has the factors and fees of each book (the prices of one seller), with their sources. A factor applies
to the price of every kind of token. It does not apply to fees.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final

from gateway.money.prices.rates import Modifiers
from gateway.money.prices.rows import parse_price

_FILE: Final = Path(__file__).with_name("modifiers.json")


@cache
def of_book(book: str) -> Modifiers:
    """Return the factors and fees of a book (the prices of one seller)."""
    data: Mapping[str, Any] = json.loads(_FILE.read_bytes())
    geos = {entry["geo"]: Decimal(entry["factor"]) for entry in data["geos"] if entry["book"] == book}
    fees = {entry["item"]: parse_price(entry["price"]) for entry in data["fees"] if entry["book"] == book}
    return Modifiers(geos, fees)
