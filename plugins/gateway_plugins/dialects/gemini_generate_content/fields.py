"""Members of the JSON objects in a generateContent request. Each object is a protocol buffer message as JSON.

- A member may have its name in lowerCamelCase or the name of the proto field (snake_case). Clients send both.
- A number may be a string, and a list with one element may be that element.
- A member that is null counts as missing.

Pointers in errors and reports have the client's own spelling. Sources: the ProtoJSON format of protocol buffers, and
Google's own examples, which have `system_instruction` and a single object for `parts`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Any, Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Drop, Members
from gateway_plugins.shared.fields import escape_step, member, param

_NO_EFFECT: Final[tuple[Any, ...]] = (None, "", [], {}, False)
"""Values without effect. An unknown member with one of these values is ignored without a report."""


def camel_case(name: str) -> str:
    """Return a member's name in lowerCamelCase, without underscores before it (`_responseJsonSchema`)."""
    first, *words = name.lstrip("_").split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in words)


@dataclass(frozen=True, slots=True)
class Fields:
    """The known members of one object, by their names in lowerCamelCase."""

    pointer: str
    """JSON pointer of the object; "" for the request itself."""
    _value: Callable[[str], Any]
    _spelled: Mapping[str, str]
    """The client's name of each known member that the object has, by the name in lowerCamelCase."""

    def __contains__(self, name: str) -> bool:
        return name in self._spelled

    def get(self, name: str) -> Any:
        """Return the value of a member; None if it is missing."""
        spelled = self._spelled.get(name)
        return None if spelled is None else self._value(spelled)

    def at(self, name: str) -> str:
        """Return the JSON pointer of a member in the client's spelling."""
        return f"{self.pointer}/{self._spelled.get(name, name)}"


def fields(value: Any, at: str, known: Collection[str], drop: Drop) -> Fields:
    """Return the members of an object that are in `known`. Report the others as dropped, if they have an effect.

    Raises `Refused` for a value that is not an object. `at` is its JSON pointer.
    """
    if not isinstance(value, dict):
        raise invalid(f"{param(at)} must be an object", param(at))
    return _known(value, value.get, at, known, drop)


def request_fields(top: Members, known: Collection[str], drop: Drop) -> Fields:
    """Return the members of the request that are in `known`. Report the others as dropped, if they have an effect."""
    return _known(top, partial(member, top), "", known, drop)


def _known(names: Iterable[str], value: Callable[[str], Any], at: str, known: Collection[str], drop: Drop) -> Fields:
    spelled: dict[str, str] = {}
    for name in names:
        plain = name if name in known else camel_case(name)
        if plain in known and plain not in spelled:
            spelled[plain] = name
        elif value(name) not in _NO_EFFECT:
            drop(f"{at}/{escape_step(name)}")
    return Fields(at, value, spelled)


def repeated(value: Any, at: str) -> list[tuple[Any, str]]:
    """Return the elements of a list with their JSON pointers. A value that is not a list is the only element."""
    if value is None:
        return []
    if not isinstance(value, list):
        return [(value, at)]
    return [(each, f"{at}/{index}") for index, each in enumerate(value)]


def number(value: Any, at: str) -> float | None:
    """Return a number, which may be written as a string; None for null."""
    if value is None:
        return None
    with suppress(ValueError):
        given = float(value) if isinstance(value, str) else value
        if isinstance(given, int | float) and not isinstance(given, bool) and isfinite(given):
            return given
    raise invalid(f"{param(at)} must be a number", param(at))


def whole_number(value: Any, at: str) -> int | None:
    """Return a whole number, which may be written as a string or with a fraction of 0; None for null."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    given = number(value, at)
    if given is not None and given != int(given):
        raise invalid(f"{param(at)} must be a whole number", param(at))
    return None if given is None else int(given)


def enum_value(value: Any, at: str, known: Mapping[str, str]) -> str:
    """Return the gateway's word for the name of an enum value; "" for null. Case is ignored.

    `known` has the gateway's word by Google's name. Raises `Refused` for any other name.
    """
    if value is None:
        return ""
    word = known.get(value.upper()) if isinstance(value, str) else None
    if word is None:
        raise invalid(f'{param(at)}: "{value}" is not one of {", ".join(known)}', param(at))
    return word
