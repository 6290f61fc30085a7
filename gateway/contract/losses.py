"""How much is lost on each way from a client's dialect to a provider's: the data of `conversions.json`.

By it the chain chooses among several ways (`call/middleware/route.py`); `irisgate plugins list` prints it
(`conversions.py`). A plugin's translator that the data do not name says its own number. Nothing here knows a flag's or
a dialect's name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

from gateway.contract.flag import Translator

Way = Literal["native", "envelope", "translated", "estimate"]

_DATA: Final = Path(__file__).with_name("conversions.json")


@dataclass(frozen=True, slots=True)
class Loss:
    """What is lost. Of several ways to a provider the one of the lowest order is taken."""

    order: int
    loses: str
    """For people; "" where nobody said."""


@cache
def _data() -> tuple[Mapping[str, Loss], Mapping[str, Loss]]:
    """Those of ways without a translator, and those of translators by their name."""
    data = json.loads(_DATA.read_bytes())
    same = {name: Loss(**row) for name, row in data["same"].items()}
    return same, {name: Loss(**row) for name, row in data["conversions"].items()}


def is_known(translator: str) -> bool:
    """The data say what a translator of this name loses."""
    return translator in _data()[1]


def loss(way: Way, dialect: str, upstream: str, translator: Translator | None = None) -> Loss:
    """Of the way from a client's dialect to an upstream's; `translator` is the one of a translated way."""
    same, conversions = _data()
    if translator is None:
        return same[way]
    return conversions.get(f"{dialect}__{upstream}") or Loss(translator.loses, "")
