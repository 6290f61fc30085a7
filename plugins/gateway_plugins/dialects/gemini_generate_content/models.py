"""Features of Gemini models that differ between generations and matter only to this dialect.

All other capabilities of models are in `Caps`.

Sources: Gemini API, Thinking (levels and budgets) and Structured outputs; google-gemini/gemini-cli#16135.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Final

import msgspec


class Generation(msgspec.Struct, frozen=True):
    """The features that one generation of Gemini models accepts."""

    budget: tuple[int, int] | None = None
    """Smallest and largest thinking budget in tokens. It is None if the models accept a thinking level instead."""
    json_with_tools: bool = True
    """True if one request may both require a JSON answer and offer functions."""
    result_files: bool = True
    """True if a function response may have files."""


_CURRENT: Final = Generation()
_OLDER: Final = (
    ("gemini-2.5-pro*", Generation((128, 32_768), json_with_tools=False, result_files=False)),
    ("gemini-2.5-flash-lite*", Generation((512, 24_576), json_with_tools=False, result_files=False)),
    ("gemini-[12]*", Generation((1, 24_576), json_with_tools=False, result_files=False)),
)
"""Pairs (glob, features) for models before Gemini 3. The first glob that matches the model's id decides."""


def generation(model: str) -> Generation:
    """Return the features of a model. `model` may be the model's id alone, or a path that ends with the id, such as
    `models/gemini-2.5-pro`.
    """
    name = model.rpartition("/")[2]
    return next((rules for glob, rules in _OLDER if fnmatchcase(name, glob)), _CURRENT)
