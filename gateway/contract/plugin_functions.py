"""Checks the functions and methods of plugins: their arguments, and their use of `async` and `yield`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any


def arguments_of(protocol: type) -> Mapping[str, tuple[str, ...]]:
    """Return a mapping from the name of each method of a protocol to the names of its arguments."""
    return {
        name: tuple(inspect.signature(method).parameters)[1:]
        for name, method in members_of(protocol).items()
        if inspect.isfunction(method)
    }


def members_of(protocol: type) -> Mapping[str, Any]:
    """Return the public functions and values of a protocol, and of the protocols that it extends.

    The keys are the names of the functions and values.
    """
    protocols = [each for each in reversed(protocol.__mro__) if each.__module__.startswith("gateway.")]
    return {name: member for each in protocols for name, member in vars(each).items() if not name.startswith("_")}


def function_fault(name: str, arguments: tuple[str, ...], function: Any, *, may_wait: bool) -> str:
    """Return a message about what is wrong with a function or method of a plugin. Return "" if nothing is wrong.

    The message also says what is right. `arguments` are the names of the arguments in the contract. `may_wait` is true
    if the function may be `async`.
    """
    right = f"write def {written_call(name, arguments)}"
    if not callable(function):
        return f"{name} is not a function; {right}"
    if is_async(function) and not may_wait:
        return f"{name} is an async function; the gateway does not await hooks; {right}"
    if _is_generator(function) and name != "steps":
        return f"{name} is a generator, since it has yield; only steps may be one; return the result"
    try:
        signature = inspect.signature(function)
    except ValueError:
        return ""
    try:
        signature.bind(*arguments)
    except TypeError:
        return f"{name} must take {len(arguments)} argument(s) by position; {right}"
    given = [argument for argument in islice(signature.parameters, len(arguments)) if argument in arguments]
    if given != [argument for argument in arguments if argument in given]:
        return f"{name} has its arguments in another order; {right}"
    return ""


def written_call(name: str, arguments: Sequence[str]) -> str:
    return f"{name}({', '.join(arguments)})"


def is_async(function: Any) -> bool:
    """Return whether calling `function` returns an awaitable or an asynchronous generator."""
    while isinstance(function, partial):
        function = function.func
    if not inspect.isroutine(function):
        function = getattr(type(function), "__call__", None)  # noqa: B004 (the method itself is needed)
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _is_generator(function: Any) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
