"""The loss of each conversion between two dialects (formats of bodies), that is, what cannot be translated.

- `conversions.json` has the losses of the built-in conversions. Any other translator states its loss as a number
  (`loses`).
- `call/conversion_choice.py` uses the conversion with the least loss. `irisgate plugins list` prints the losses.
- The code refers to no particular dialect, so a new dialect needs no change here.
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
    """The kind of a conversion between the client's format and the provider's format."""

    NATIVE = "native"
    """Client and provider use the same format, so the bytes of the provider's reply are forwarded unchanged."""
    ENVELOPE = "envelope"
    """Client and provider use the same dialect for bodies, but different paths, headers or framings."""
    TRANSLATED = "translated"
    ESTIMATE = "estimate"
    """No provider is called: the gateway itself estimates the number of tokens for `count_tokens`."""


_DATA: Final = Path(__file__).with_name("conversions.json")


@dataclass(frozen=True, slots=True)
class Loss:
    """The loss of a conversion, that is, the information that cannot be converted. If several conversions are possible,
    the gateway uses the one with the lowest `order`.
    """

    order: int
    loses: str
    """A description of the loss for users. It is "" if there is none."""


@cache
def _data() -> tuple[Mapping[str, Loss], Mapping[str, Loss]]:
    """Return the losses in `conversions.json` as two mappings.

    The keys of the first mapping are the names of each `Way` that needs no translator. The keys of the second mapping
    are the names of translators.
    """
    data = json.loads(_DATA.read_bytes())
    same = {name: Loss(**row) for name, row in data["same"].items()}
    return same, {name: Loss(**row) for name, row in data["conversions"].items()}


def is_known(translator: str) -> bool:
    """Return whether `conversions.json` has the loss of a translator."""
    return translator in _data()[1]


def loss(way: Way, dialect: str, upstream: str, translator: Translator | None = None) -> Loss:
    """Return the loss of a conversion from the client's `dialect` to the provider's dialect `upstream`.

    `translator` is None unless `way` is `Way.TRANSLATED`.
    """
    same, conversions = _data()
    if translator is None:
        return same[way]
    return conversions.get(f"{dialect}__{upstream}") or Loss(translator.loses, "")
