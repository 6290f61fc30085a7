"""Reads the fields of the JSON objects in a generateContent request. Each object is a protocol buffer message as JSON.

- A field may be in lowerCamelCase or in snake_case (the proto field's name). Clients send both.
- A number may be sent as a string.
- A list with one element may be sent as the element alone.
- A field that is null counts as missing.

JSON pointers in errors and reports have the client's own spelling. Sources: the ProtoJSON format of protocol buffers,
and Google's own examples, which have `system_instruction` and a single object for `parts`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from gateway.contract.errors import invalid
from gateway.contract.flag import Drop, Members
from gateway_plugins.shared import numbers
from gateway_plugins.shared.fields import escape_step, member, param

_NO_EFFECT: Final[tuple[Any, ...]] = (None, "", [], {}, False)
"""Values without effect. An unknown field with such a value is ignored without a report."""


def camel_case(name: str) -> str:
    """Return a field's name in lowerCamelCase. Leading underscores are removed: `_responseJsonSchema` becomes
    `responseJsonSchema`.
    """
    first, *words = name.lstrip("_").split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in words)


class Fields(msgspec.Struct, frozen=True):
    """Access to the fields of one JSON object by their names in lowerCamelCase, however the client spells them."""

    pointer: str
    """JSON pointer of the object. It is "" for the request itself."""
    _value: Callable[[str], Any]
    _spelled: Mapping[str, str]
    """The client's spelling of each field, by the field's name in lowerCamelCase."""

    def __contains__(self, name: str) -> bool:
        return name in self._spelled

    def get(self, name: str) -> Any:
        """Return the value of a field, or None if it is missing."""
        spelled = self._spelled.get(name)
        return None if spelled is None else self._value(spelled)

    def number(self, name: str) -> Any:
        """Return the value of a field. A number in a string is returned as a number."""
        return numbers.parsed(self.get(name))

    def at(self, name: str) -> str:
        """Return the JSON pointer of the field `name`. The last step is the name as the client spelled it."""
        return f"{self.pointer}/{self._spelled.get(name, name)}"


def fields(value: Any, at: str, known: Collection[str], drop: Drop) -> Fields:
    """Return the fields of an object that are in `known`. Report each other field as dropped, unless its value has no
    effect.

    Raises `Refused` for a value that is not an object. `at` is the JSON pointer of the value.
    """
    if not isinstance(value, dict):
        raise invalid(f"{param(at)} must be an object", param(at))
    return _known(value, value.get, at, known, drop)


def request_fields(top: Members, known: Collection[str], drop: Drop) -> Fields:
    """Return the fields of the request that are in `known`. Report each other field as dropped, unless its value has no
    effect.
    """
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
    """Return (element, JSON pointer) for each element of a list. Any other value counts as a list with one element."""
    if value is None:
        return []
    if not isinstance(value, list):
        return [(value, at)]
    return [(each, f"{at}/{index}") for index, each in enumerate(value)]


def enum_value(value: Any, at: str, known: Mapping[str, str]) -> str:
    """Return the gateway's name for Google's enum value, or "" for null. Upper and lower case are not distinguished.

    `known` maps Google's names to the gateway's names. Raises `Refused` for a value that is not in `known`.
    """
    if value is None:
        return ""
    word = known.get(value.upper()) if isinstance(value, str) else None
    if word is None:
        raise invalid(f'{param(at)}: "{value}" is not one of {", ".join(known)}', param(at))
    return word
