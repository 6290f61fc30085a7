"""Checks of the object that a filter's `open` returns.

All methods of the object are optional. So a method with a misspelt name would never run, and no error would show this.
"""

from __future__ import annotations

import sys
from typing import Any, Final
from weakref import WeakSet

from gateway.contract.filter import Filter
from gateway.contract.plugin_functions import arguments_of, function_fault
from gateway.contract.plugin_source import is_slip, is_used

METHODS: Final = arguments_of(Filter)
"""The arguments of each method of a filter, by the method's name."""
_CHECKED: Final[WeakSet[type]] = WeakSet()
"""Classes that have passed the check. They are not checked again, because the check takes long."""


def opened_fault(opened: Any) -> str:
    """Return a message about a fault of the object that `open` returned, or "" if the object has no fault.

    The message also names the correction.
    """
    kind = type(opened)
    if opened is None or kind in _CHECKED:
        return ""
    if isinstance(opened, type):
        return f"the class {opened.__name__}; an object of it is expected"
    lacking = [name for name in METHODS if getattr(opened, name, None) is None]
    for name in METHODS.keys() - lacking:
        if fault := function_fault(name, METHODS[name], getattr(opened, name), may_wait=True):
            return f"{kind.__name__}, whose method {fault}"
    for own in dir(kind):
        if own.startswith("_") or own in METHODS:
            continue
        for name in lacking:
            if is_slip(own, name) and _fits(opened, own, name):
                return f'{kind.__name__}, whose method "{own}" has no meaning; did you mean "{name}"?'
    if len(lacking) == len(METHODS):
        return f"{kind.__name__}; None or an object with one of the methods {', '.join(lacking)} is expected"
    _CHECKED.add(kind)
    return ""


def _fits(opened: Any, own: str, name: str) -> bool:
    """Return whether a method of the object is probably a misspelt method of the contract.

    `own` is the method's name, and `name` is the name in the contract. The method must take the contract's arguments,
    and the plugin's own code must not use it.
    """
    module = sys.modules.get(type(opened).__module__)
    is_right = not function_fault(name, METHODS[name], getattr(opened, own), may_wait=True)
    return is_right and (module is None or not is_used(module, own))
