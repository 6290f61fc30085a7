"""The loss of each conversion from a client's dialect to a provider's: the data of `conversions.json`.

- `call/middleware/route.py` takes the conversion with the least loss; `irisgate plugins list` prints the losses.
- A translator that the data do not name has its own number, `loses`.
- Nothing here knows a flag's or a dialect's name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Final

from gateway.contract.flag import Translator


class Way(StrEnum):
    """The kind of a conversion."""

    NATIVE = "native"
    """The same envelope: the provider's bytes are what the client expects."""
    ENVELOPE = "envelope"
    """Another envelope around the same dialect."""
    TRANSLATED = "translated"
    ESTIMATE = "estimate"
    """No provider is called: the gateway estimates the answer."""


_DATA: Final = Path(__file__).with_name("conversions.json")


@dataclass(frozen=True, slots=True)
class Loss:
    """The loss of a conversion. Of several conversions to a provider the one of the lowest order is taken."""

    order: int
    loses: str
    """A description for people, or ""."""


@cache
def _data() -> tuple[Mapping[str, Loss], Mapping[str, Loss]]:
    """Return the losses of ways without a translator by way, and those of translators by name."""
    data = json.loads(_DATA.read_bytes())
    same = {name: Loss(**row) for name, row in data["same"].items()}
    return same, {name: Loss(**row) for name, row in data["conversions"].items()}


def is_known(translator: str) -> bool:
    """Return whether the data name a translator."""
    return translator in _data()[1]


def loss(way: Way, dialect: str, upstream: str, translator: Translator | None = None) -> Loss:
    """Return the loss between two dialects. `translator` is the translator of a translated way."""
    same, conversions = _data()
    if translator is None:
        return same[way]
    return conversions.get(f"{dialect}__{upstream}") or Loss(translator.loses, "")
