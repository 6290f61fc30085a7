"""Checks of the values in a client's request. The readers of all dialects use them.

- A check that fails raises `Refused` with status 400. The message names the field as the client wrote it.
- A field that is null is treated as missing. Numbers are checked in `numbers.py`.
- A field that cannot be sent to the provider is left out, and reported as dropped if its value has an effect. But if
  the request would then have another meaning, the request is refused.

Replies are not checked, but read with `lenient.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from gateway.contract.errors import invalid
from gateway.contract.flag import Drop, Members
from gateway_plugins.shared.fields import decoded, escape_step, param
from gateway_plugins.shared.thinking import EFFORTS


def text_of(value: Any, at: str) -> str:
    """Return the value of a field that must be a string, or "" for null."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise invalid(f"{param(at)} must be a string", param(at))
    return value


def list_of(value: Any, at: str) -> list[Any]:
    """Return the value of a field that must be a list, or [] for null."""
    if value is not None and not isinstance(value, list):
        raise invalid(f"{param(at)} must be a list", param(at))
    return value or []


def object_of(value: Any, at: str) -> dict[str, Any]:
    """Return the value of a field that must be an object, or {} for null."""
    if value is not None and not isinstance(value, dict):
        raise invalid(f"{param(at)} must be an object", param(at))
    return value or {}


def flag_of(value: Any, at: str) -> bool | None:
    """Return the value of a field that must be true or false. Return None for null."""
    if value is not None and not isinstance(value, bool):
        raise invalid(f"{param(at)} must be true or false", param(at))
    return value


def effort(value: Any, field: str) -> str:
    """Return a thinking effort, such as `low`, or "" for null. `field` is the field's name in errors."""
    if value is None:
        return ""
    if value not in EFFORTS:
        raise invalid(f'{field}: "{value}" is not one of {", ".join(EFFORTS)}', field)
    return str(value)


def arguments(text: Any) -> dict[str, Any]:
    """Return the arguments of an earlier tool call as an object, because providers accept only objects.

    An empty text becomes {}, and JSON that was encoded twice is decoded twice (litellm#18414). Any other text becomes
    the field `rawInvalidInput` of an object, so that the model sees its own output. Fields with an empty name are
    removed, because providers refuse them (pi#7782).
    """
    value = text
    for _ in range(2):  # some clients encode the JSON twice
        if isinstance(value, str):
            try:
                value = decoded(value) if value.strip() else {}
            except ValueError:
                break
    if value is None:
        value = {}
    return _without_empty_names(value) if isinstance(value, dict) else {"rawInvalidInput": text}


def _without_empty_names(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_empty_names(inner) for name, inner in value.items() if name}
    return [_without_empty_names(inner) for inner in value] if isinstance(value, list) else value


def refuse(top: Members, meaning: Mapping[str, str], neutral: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise `Refused` if the request has one of the fields in `meaning`, because leaving out the field would change
    what the request means.

    `meaning` maps the name of each such field to the text of the error. `neutral` has the values of each field that
    have no effect. A field with such a value is accepted.
    """
    for name, advice in meaning.items():
        if name in top and not _is_neutral(top.decode(name), neutral.get(name, ())):
            raise invalid(f"{name}: {advice}", name)


def leftovers(top: Members, carried: Collection[str], neutral: Mapping[str, tuple[Any, ...]], drop: Drop) -> None:
    """Report as dropped the fields of the request that are not in `carried`.

    A field is not reported if its value is null or is in `neutral`, because such a value has no effect.
    """
    for name in top:
        if name not in carried and not _is_neutral(top.decode(name), neutral.get(name, ())):
            drop(f"/{escape_step(name)}")


def _is_neutral(value: Any, neutral: tuple[Any, ...]) -> bool:
    return value is None or value in neutral


def inner_leftovers(raw: Mapping[str, Any], carried: Collection[str], at: str, drop: Drop) -> None:
    """Report as dropped each field of the object `raw` that is not in `carried`.

    Fields that are null, "", [], 0 or false have no effect and are not reported. `at` is the JSON pointer of `raw`.
    """
    for name, value in raw.items():
        if name not in carried and value not in (None, "", [], False):
            drop(f"{at}/{escape_step(name)}")


def struct(value: Any, at: str, known: Collection[str], drop: Drop) -> dict[str, Any]:
    """Return `value` if it is an object. Raises `Refused` if it is not.

    Each field of the object that is not null and not in `known` is reported as dropped. `at` is the JSON pointer of
    `value`.
    """
    if not isinstance(value, dict):
        raise invalid(f"{param(at)} must be an object", param(at))
    for name, inner in value.items():
        if name not in known and inner is not None:
            drop(f"{at}/{escape_step(name)}")
    return value


def text_at(inner: Mapping[str, Any], name: str, at: str, *, needed: bool = False) -> str:
    """Return the string in the field `name` of the object `inner`, or "" if the field is missing or null.

    `at` is the JSON pointer of `inner`. Raises `Refused` if the value is not a string, or if `needed` is true and the
    field is missing.
    """
    value = inner.get(name)
    if value is None and not needed:
        return ""
    if not isinstance(value, str):
        field = f"{param(at)}.{name}"
        raise invalid(f"{field} must be a string", field)
    return value
