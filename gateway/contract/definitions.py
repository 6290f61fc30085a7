"""Finds the file and line in which a plugin's function is defined, and the package of a module."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any


def definition(function: Any) -> str:
    """Return the file and line in which a function is defined, or "" if it is not written in Python."""
    function = inspect.unwrap(function) if callable(function) else function
    while isinstance(function, partial):
        function = function.func
    code = getattr(function, "__code__", None) or getattr(function, "gi_code", None)
    code = code or getattr(vars(type(function)).get("__call__"), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ""


def package(name: Any) -> str:
    """Return the top-level package of a module's name, or "" if the module has no name."""
    return name.partition(".")[0] if isinstance(name, str) else ""
