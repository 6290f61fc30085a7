"""Checks of the values in a client's request, shared by the readers of all dialects.

- A check raises `Refused` with status 400 and names the field as the client wrote it.
- null reads as a missing member.
- A member that is not carried is refused if the request would mean something else without it, else reported through
  `drop` if it asked for something.

Nothing here knows a dialect's fields. Replies are never checked: they are read with `lenient.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import orjson

from gateway.contract.errors import invalid
from gateway.contract.flag import Drop, Members
from gateway_plugins.shared.fields import escape_step, is_deep, member, param
from gateway_plugins.shared.thinking import EFFORTS

_MAXIMUM: Final[Mapping[str, float]] = {"top_p": 1}
"""Largest values of numeric parameters. A temperature has none here: the conversion lowers it to the model's own."""


def text_of(value: Any, at: str) -> str:
    """Return a member that must be a string; null reads as ""."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise invalid(f"{param(at)} must be a string", param(at))
    return value


def list_of(value: Any, at: str) -> list[Any]:
    """Return a member that must be a list; null reads as []."""
    if value is not None and not isinstance(value, list):
        raise invalid(f"{param(at)} must be a list", param(at))
    return value or []


def object_of(value: Any, at: str) -> dict[str, Any]:
    """Return a member that must be an object; null reads as {}."""
    if value is not None and not isinstance(value, dict):
        raise invalid(f"{param(at)} must be an object", param(at))
    return value or {}


def flag_of(value: Any, at: str) -> bool | None:
    """Return a member that must be true or false; null reads as None."""
    if value is not None and not isinstance(value, bool):
        raise invalid(f"{param(at)} must be true or false", param(at))
    return value


def limit(top: Members, name: str) -> int | None:
    """Return an output limit in tokens, or None."""
    value = member(top, name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise invalid(f"{name} must be a whole number of at least 1", name)
    return value


def numbers(top: Members, names: Collection[str]) -> dict[str, float]:
    """Return the numeric parameters of these names that the request sets."""
    given = {}
    for name in names:
        value = member(top, name)
        if value is None:
            continue
        if not isinstance(value, (int, float)) or isinstance(value, bool) or value < 0:
            raise invalid(f"{name} must be a number of at least 0", name)
        if value > _MAXIMUM.get(name, value):
            raise invalid(f"{name} must be a number from 0 to {_MAXIMUM[name]}", name)
        given[name] = value
    return given


def effort(value: Any, field: str) -> str:
    """Return an effort of thinking; null reads as ""."""
    if value is None:
        return ""
    if value not in EFFORTS:
        raise invalid(f'{field}: "{value}" is not one of {", ".join(EFFORTS)}', field)
    return str(value)


def arguments(text: Any) -> dict[str, Any]:
    """Return a tool's arguments as the object that providers demand of a replayed call.

    "" and "{}" in quotes are objects written badly (litellm#18414). Text that is no object at all stands under
    `rawInvalidInput`, so that the model sees its own output. Empty member names are refused upstream (pi#7782).
    """
    value = text
    for _ in range(2):  # some clients encode the JSON twice
        if isinstance(value, str):
            try:
                value = orjson.loads(value) if value.strip() else {}
            except orjson.JSONDecodeError:
                break
    if value is None:
        value = {}
    return _without_empty_names(value) if isinstance(value, dict) and not is_deep(value) else {"rawInvalidInput": text}


def _without_empty_names(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_empty_names(inner) for name, inner in value.items() if name}
    return [_without_empty_names(inner) for inner in value] if isinstance(value, list) else value


def refuse(top: Members, meaning: Mapping[str, str], neutral: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise `Refused` for a member without which the request would mean something else.

    `meaning` maps the names of such members to the advice in the error. `neutral` holds values that ask for nothing.
    """
    for name, advice in meaning.items():
        if name in top and not _is_neutral(top.decode(name), neutral.get(name, ())):
            raise invalid(f"{name}: {advice}", name)


def leftovers(top: Members, carried: Collection[str], neutral: Mapping[str, tuple[Any, ...]], drop: Drop) -> None:
    """Report every member that is not carried and that asked for something."""
    for name in top:
        if name not in carried and not _is_neutral(top.decode(name), neutral.get(name, ())):
            drop(f"/{escape_step(name)}")


def _is_neutral(value: Any, neutral: tuple[Any, ...]) -> bool:
    return value is None or value in neutral


def inner_leftovers(raw: Mapping[str, Any], carried: Collection[str], at: str, drop: Drop) -> None:
    """Report the same for an object inside of the body: null, "", [] and false ask for nothing."""
    for name, value in raw.items():
        if name not in carried and value not in (None, "", [], False):
            drop(f"{at}/{escape_step(name)}")


def struct(value: Any, at: str, known: Collection[str], drop: Drop) -> dict[str, Any]:
    """Return an object. Members that are not known are reported unless they are null."""
    if not isinstance(value, dict):
        raise invalid(f"{param(at)} must be an object", param(at))
    for name, inner in value.items():
        if name not in known and inner is not None:
            drop(f"{at}/{escape_step(name)}")
    return value


def text_at(inner: Mapping[str, Any], name: str, at: str, *, needed: bool = False) -> str:
    """Return a member of the object at `at` that must be a string; null reads as "" unless the member is needed."""
    value = inner.get(name)
    if value is None and not needed:
        return ""
    if not isinstance(value, str):
        field = f"{param(at)}.{name}"
        raise invalid(f"{field} must be a string", field)
    return value
