"""What every section of the document is: one JSON object whose keys are the fields of a pydantic model.

Beside its type a field may carry marks: `PLANNED`, for a key that is known and has no effect yet, with `Lacking` where
more must be said than that, and `Holds`, for one whose value is made of further sections, which are checked one by one.
The document's top level is in `root.py`, other sections in `config/sections/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

PLANNED: Final = "planned"
"""Marks a key of the hosted product, or of our own plans, that warns and never has an effect."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """Beside `PLANNED`: what whoever relies on the key for safety, spending or privacy must know."""

    words: str


class Section(BaseModel):
    """One JSON object. Unknown keys are not refused here but told by `check.py`, as warnings."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", hide_input_in_errors=True)
    is_open: ClassVar[bool] = False
    """More keys are allowed than are listed, and nothing is said of them."""


@dataclass(frozen=True, slots=True)
class Holds:
    """A field's value is one section, a list of them, or an object of them under free keys.

    `lists` is an object of lists of them, under the `names` given; other names may hold anything.
    """

    section: type[Section]
    how: Literal["one", "list", "map", "lists"] = "one"
    names: tuple[str, ...] = ()


S = TypeVar("S", bound=Section)

Items = Annotated[tuple[Any, ...], Field(strict=False)]
"""A list whose elements are checked one by one, usually as the sections that `Holds` names."""

Planned = Annotated[Any, PLANNED]
"""A key whose value is not looked at, for nobody here knows its shape, or it is built with what needs it."""


@cache
def keys(section: type[Section]) -> Mapping[str, FieldInfo]:
    """The keys of a section as they are written."""
    return {info.alias or name: info for name, info in section.model_fields.items()}


@cache
def planned(section: type[Section]) -> Mapping[str, str]:
    """Those of the keys that have no effect yet, with what must be known of each."""
    return {key: lacking(info) for key, info in keys(section).items() if PLANNED in info.metadata}


def lacking(info: FieldInfo) -> str:
    """What must be known of a key without effect; "" if that is all."""
    return next((mark.words for mark in info.metadata if isinstance(mark, Lacking)), "")


def held(info: FieldInfo) -> Holds | None:
    """The further sections that a field is made of, if it is."""
    return next((mark for mark in info.metadata if isinstance(mark, Holds)), None)
