"""The base of all sections: one JSON object whose keys are the fields of a pydantic model.

The `Annotated` type of a field may have annotations:

- `PLANNED`: the key is known but has no effect yet. `Lacking` adds a text to the warning about such a key.
- `Holds`: the value contains further sections, which are checked one by one.

The top level of the document is in `root.py`. Other sections are in `config/sections/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from gateway.contract.settings_fields import fields_by_key

PLANNED: Final = "planned"
"""The annotation of a configuration key that has no effect yet, because it is only planned or exists only in Aperture.
If the key is used, a warning is reported."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """An annotation that adds a text to the warning about a configuration key that has no effect yet (`PLANNED`).

    A key has this annotation if users may rely on the key for safety, spending or privacy.
    """

    words: str


class Section(BaseModel):
    """One JSON object. Unknown keys are ignored here, and reported by `check.py` as warnings."""

    # a section's validator is built when the section is first read: most sections are in no configuration
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", hide_input_in_errors=True, defer_build=True)
    is_open: ClassVar[bool] = False
    """True if keys that this class does not declare are allowed in the section. They cause no warning then."""
    moved: ClassVar[Mapping[str, str]] = {}
    """Keys of earlier versions, each with the text of the error that says what to write instead."""


@dataclass(frozen=True, slots=True)
class Holds:
    """The annotation of a field whose value contains sections of the type `section`. `how` says where they are:

    - `one`: the value is a section;
    - `list`: the value is a list of sections;
    - `map`: the value is an object whose values are sections;
    - `lists`: the value is an object. Under each of its keys `names`, it has a list of sections. Other keys are not
      checked.
    """

    section: type[Section]
    how: Literal["one", "list", "map", "lists"] = "one"
    names: tuple[str, ...] = ()


S = TypeVar("S", bound=BaseModel)

Items = Annotated[tuple[Any, ...], Field(strict=False)]
"""A list whose elements are checked one by one. If the elements are sections, the field is annotated with `Holds`,
which gives their type."""

Planned = Annotated[Any, PLANNED]
"""A configuration key whose value is not checked, because its form is unknown or undecided."""


@cache
def keys(section: type[BaseModel]) -> Mapping[str, FieldInfo]:
    """Return the keys that a section may have in the document. Each key is mapped to its pydantic field."""
    return {key: section.model_fields[name] for key, name in fields_by_key(section).items()}


@cache
def planned_keys(section: type[BaseModel]) -> Mapping[str, str]:
    """Return the keys that have no effect yet, each with the text that is added to the warning about the key
    (`Lacking`).

    For most keys, the text is "".
    """
    return {key: lacking_words(info) for key, info in keys(section).items() if PLANNED in info.metadata}


def lacking_words(info: FieldInfo) -> str:
    """Return the text of a field's annotation `Lacking`, or "" if the field has no such annotation."""
    return next((mark.words for mark in info.metadata if isinstance(mark, Lacking)), "")


def holds_of(info: FieldInfo) -> Holds | None:
    """Return a field's annotation `Holds`, or None."""
    return next((mark for mark in info.metadata if isinstance(mark, Holds)), None)
