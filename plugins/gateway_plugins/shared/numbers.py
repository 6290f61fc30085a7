"""Checks of the numbers in a client's request. The readers of all dialects use them.

- A number that fails a check raises `Refused` with status 400. The message names the field, the value and the range.
- A field that is null counts as missing.
- A whole number may have a fraction of 0 or an exponent, such as 4096.0 or 1e3. JSON has only one kind of number (RFC
  8259, 6), and the encoders of some languages write every number with a fraction.
- Every whole number has a maximum. The gateway adds some numbers, and the JSON encoder refuses a sum of more than 64
  bits.

Numbers in a provider's reply are read with `lenient.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import orjson

from gateway.contract import lenient_json
from gateway.contract.errors import Refused, invalid
from gateway.contract.flag import Members
from gateway_plugins.shared.fields import member, param

MAX_INT32: Final = 2**31 - 1
"""Maximum of top_k, and of every field with a number of tokens.

Converse and Gemini have 32 bits for these numbers (botocore's service model, `Integer`; the Gemini API's reference,
`integer`), and no model takes more tokens."""
MAX_INT64: Final = 2**63 - 1
"""Maximum of a seed (OpenAI's API specification), and of the counts in Google's schemas, which have type `int64`."""
_PENALTY: Final = 2
"""Maximum of a penalty. The minimum is its negative (OpenAI's and Google's API references)."""
_SHOWN: Final = 50
"""Maximum number of characters of a value in an error message."""

Check = Callable[[Any, str], float | None]
"""A function that checks a number. Its arguments are the value and the value's JSON pointer.

It returns the number, or None if the value has no effect.
"""


def whole(value: Any, at: str, lowest: int = 0, highest: int = MAX_INT32) -> int | None:
    """Return `value` as a whole number, or None for null. `at` is the JSON pointer of the value.

    Raises `Refused` if the value is not a whole number from `lowest` to `highest`.
    """
    if value is None:
        return None
    if _is_number(value) and lowest <= value <= highest and value == int(value):
        return int(value)
    raise _refused(value, at, f"a whole number from {lowest} to {highest}")


def real(value: Any, at: str, lowest: float = 0, highest: float | None = None) -> float | None:
    """Return the number `value`, or None for null. `at` is the JSON pointer of the value.

    Raises `Refused` if the value is not a number from `lowest` to `highest`.
    """
    if value is None:
        return None
    if _is_number(value) and lowest <= value and (highest is None or value <= highest):
        number: float = value
        return number
    raise _refused(
        value, at, f"a number of at least {lowest}" if highest is None else f"a number from {lowest} to {highest}"
    )


def parsed(value: Any) -> Any:
    """Return the number in a string, as ProtoJSON writes it. Any other value is returned unchanged."""
    if not isinstance(value, str):
        return value
    try:
        number = orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
    return number if _is_number(number) else value


def limit(top: Members, name: str) -> int | None:
    """Return the output limit in tokens from the field `name` of the request, or None if the field is missing."""
    return whole(member(top, name), f"/{name}", 1)


def _penalty(value: Any, at: str) -> float | None:
    return real(value, at, -_PENALTY, _PENALTY) or None


SAMPLING: Final[Mapping[str, Check]] = {"temperature": real, "top_p": partial(real, highest=1), "top_k": whole}
"""The check of each sampling parameter. `temperature` has no maximum, because conversions lower a temperature that is
too high."""
CHAT: Final[Mapping[str, Check]] = {
    "frequency_penalty": _penalty,
    "presence_penalty": _penalty,
    "seed": partial(whole, lowest=-MAX_INT64 - 1, highest=MAX_INT64),
}
"""The checks of the seed and the penalties. Chat and Gemini have these fields, but Messages and Converse do not."""


def members(top: Members, checks: Mapping[str, Check]) -> dict[str, float]:
    """Check the request's top-level fields that `checks` names. Return their numbers by field name.

    Numbers without an effect, such as a penalty of 0, are left out: their check returns None.
    """
    return checked(checks, {name: member(top, name) for name in checks}, {})


def checked(checks: Mapping[str, Check], values: Mapping[str, Any], at: Mapping[str, str]) -> dict[str, float]:
    """Check the numbers in `values` with the functions in `checks`, which have the same keys. A number without a check
    is ignored.

    Return the numbers that have an effect. A number has no effect if its check returns None. `at` has the JSON pointers
    of the numbers that are not at the top level of the request.
    """
    given = [(name, value) for name, value in values.items() if name in checks]
    numbers = {name: checks[name](value, at.get(name, f"/{name}")) for name, value in given}
    return {name: number for name, number in numbers.items() if number is not None}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refused(value: Any, at: str, expected: str) -> Refused:
    return invalid(f"{param(at)}: {_shown(value)} is not {expected}", param(at))


def _shown(value: Any) -> str:
    """Return a value as an error message shows it: as shortened JSON text, "a list" or "an object"."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = lenient_json.dumps(value).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
