"""Checks of single values in the results of plugins' hooks, such as headers and numbers of tokens.

`hook_results.py` has the check of each hook.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any, Final
from weakref import WeakSet

from gateway.contract.errors import STATUS, Problem
from gateway.contract.plugin_functions import is_async

MAX_COUNT: Final = 2**53
"""Maximum number of tokens or nanodollars that a plugin may report. JavaScript cannot represent larger integers
exactly."""
HEADERS: Final = "headers whose names and values are text of one line"
MAPPINGS: Final = (dict, Mapping)
"""The types that count as mappings, for `isinstance`. `dict` is first, because a check for the abstract class is
slow."""


class WrongResult(Exception):
    """The exception for a hook's result that the contract does not allow."""


def require(is_right: bool, result: Any, expected: str) -> None:
    """Raise `WrongResult` if `is_right` is false. `expected` describes a right result."""
    if not is_right:
        raise wrong_result(result, expected)


def wrong_result(result: Any, expected: str) -> WrongResult:
    """Return the error for a result of a wrong type. `expected` describes a right result."""
    if inspect.iscoroutine(result):
        result.close()  # a coroutine that is neither awaited nor closed causes a warning
    return WrongResult(f"returned {type(result).__name__}; {expected} is expected")


def wrong_field(result: Any, types: Mapping[str, type], otherwise: str = HEADERS) -> WrongResult:
    """Return the error for a hook's result that has a wrong field.

    `types` has the right type of each field. The error names the first field that has another type. If all types are
    right, the error says which values are expected (`otherwise`).
    """
    kind = type(result).__name__
    for name, expected in types.items():
        if not isinstance(value := getattr(result, name), expected):
            return WrongResult(
                f"returned {kind} whose {name} is {type(value).__name__}; {expected.__name__} is expected"
            )
    return WrongResult(f"returned {kind} with a wrong value; it needs {otherwise}")


def of_type(kind: type, *others: type | None) -> Callable[[Any], None]:
    """Return a check that raises `WrongResult` for a result that has none of these types. None in `others` stands for
    the type of None.
    """
    kinds = (kind, *(type(None) if other is None else other for other in others))
    names = " or ".join("None" if one is type(None) else one.__name__ for one in kinds)

    def check(result: Any) -> None:
        # True is an int, but no number of tokens
        if type(result) not in kinds and not (isinstance(result, kinds) and not isinstance(result, bool)):
            require(False, result, names)

    return check


def with_methods(*names: str) -> Callable[[Any], None]:
    """Return a check that raises `WrongResult` for a result that lacks one of these methods.

    A class that has passed the check is not checked again.
    """
    checked: WeakSet[type] = WeakSet()

    def check(result: Any) -> None:
        kind = type(result)
        if kind in checked:
            return
        if isinstance(result, type):
            raise WrongResult(f"returned the class {result.__name__}; an object of it is expected")
        for name in names:
            method = getattr(result, name, None)
            require(callable(method), result, f"an object with a method {name}")
            require(not is_async(method), result, f"an object whose method {name} is not async")
        checked.add(kind)

    return check


def is_problem(value: Any) -> bool:
    """Return whether a value is a `Problem` with a known code and fields of the right types."""
    return (
        isinstance(value, Problem)
        and value.code in STATUS
        and joined((value.message, value.native, value.reason, value.param, value.accept_encoding)) is not None
        and type(value.status) is int
        and (value.retry_after is None or isinstance(value.retry_after, (int, float)))
    )


def is_count(value: Any) -> bool:
    """Return whether a value is an integer from 0 to `MAX_COUNT`."""
    return type(value) is int and 0 <= value <= MAX_COUNT


def is_status(value: Any, lowest: int) -> bool:
    """Return whether a value is an HTTP status from `lowest` to 599."""
    return type(value) is int and lowest <= value <= 599


def joined(values: Iterable[Any]) -> str | None:
    """Return the joined strings, or None if a value is no string.

    Joining finds a wrong type faster than a check of each value.
    """
    try:
        return "".join(values)
    except TypeError:
        return None


def are_utf8(values: Iterable[Any]) -> bool:
    """Return whether all values are strings without lone surrogates, which UTF-8 cannot encode."""
    text = joined(values)
    return text is not None and (text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text))


def are_headers(headers: Any) -> bool:
    """Return whether `headers` is a mapping whose names and values are strings without line ends and NUL characters."""
    if not isinstance(headers, MAPPINGS):
        return False
    text = joined(chain.from_iterable(headers.items()))
    return text is not None and (text.isprintable() or not any(end in text for end in "\r\n\0"))
