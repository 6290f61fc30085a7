"""The base of all sections: one JSON object whose keys are the fields of a pydantic model.

Beside its type a field may carry marks. `PLANNED` marks a known key that has no effect yet, with `Lacking` if the
warning must say more. `Holds` marks a value that is made of further sections, which are checked one by one. The
document's top level is in `root.py`, other sections in `config/sections/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

PLANNED: Final = "planned"
"""The mark of a key that has no effect yet, which warns: one of the hosted product, or one that is planned."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """A warning beside `PLANNED` for people who rely on the key for safety, spending or privacy."""

    words: str


class Section(BaseModel):
    """One JSON object. Unknown keys are ignored here, and reported by `check.py` as warnings."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", hide_input_in_errors=True)
    is_open: ClassVar[bool] = False
    """Keys that are not listed are allowed, without a warning."""


@dataclass(frozen=True, slots=True)
class Holds:
    """The mark of a field whose value is one section, a list of them, or an object of them under free keys.

    `lists` is an object of lists of them under the given `names`; other names may hold anything.
    """

    section: type[Section]
    how: Literal["one", "list", "map", "lists"] = "one"
    names: tuple[str, ...] = ()


S = TypeVar("S", bound=Section)

Items = Annotated[tuple[Any, ...], Field(strict=False)]
"""A list whose elements are checked one by one, usually as the sections that `Holds` names."""

Planned = Annotated[Any, PLANNED]
"""A key whose value is not checked, because its form is unknown or not decided."""


@cache
def keys(section: type[Section]) -> Mapping[str, FieldInfo]:
    """Return the fields of a section by key, as the document spells it."""
    return {info.alias or name: info for name, info in section.model_fields.items()}


@cache
def planned_keys(section: type[Section]) -> Mapping[str, str]:
    """Return the keys that have no effect yet, each with the text of its warning."""
    return {key: lacking_words(info) for key, info in keys(section).items() if PLANNED in info.metadata}


def lacking_words(info: FieldInfo) -> str:
    """Return the text of the warning about a key without effect; "" if there is none beyond that."""
    return next((mark.words for mark in info.metadata if isinstance(mark, Lacking)), "")


def holds_of(info: FieldInfo) -> Holds | None:
    """Return the mark of the sections that a field holds, or None."""
    return next((mark for mark in info.metadata if isinstance(mark, Holds)), None)
