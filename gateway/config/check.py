"""Checks one section of the document with pydantic, and writes the messages about its faults.

A message has the position in the document, and says what is expected. Keys without effect cause warnings. Nothing here
knows a key by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from gateway.config.document.hujson import Path
from gateway.config.findings import Report, quote
from gateway.config.section import S, keys, planned_keys

NOT_SUPPORTED: Final = "not supported yet"

_EXPECTED: Final = re.compile(r"'([^']*)'|(True|False)")
"""Pattern for one allowed value in a message of pydantic: a word in quotes, True or False."""
_KINDS: Final[Mapping[type, str]] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "null",
}


def check(model: type[S], raw: Any, path: Path, report: Report) -> S | None:
    """Return `raw` as the pydantic model of its section. If it has faults, report them and return None."""
    if isinstance(raw, dict):
        warn_of_keys(model, raw, path, report)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        for fault in faults:
            if not _follows(fault, faults):
                report.error(_place(path, fault, report), _message(fault, model))
        return None


def warn_of_keys(model: type[BaseModel], raw: Mapping[str, Any], path: Path, report: Report) -> None:
    """Warn of an object's keys that have no effect. Report an error for a key that only earlier versions of Irisgate
    had.
    """
    known, without_effect, moved = keys(model), planned_keys(model), getattr(model, "moved", {})
    for key in raw:
        if key in moved:
            report.error((*path, key), moved[key])
        elif key in without_effect:
            words = without_effect[key]
            report.warn((*path, key), f"{NOT_SUPPORTED}: {words}" if words else f"{NOT_SUPPORTED}; it has no effect")
        elif key not in known and not getattr(model, "is_open", False):
            report.warn((*path, key), f"unknown key; it has no effect{report.hint(key, known)}")


def _place(path: Path, fault: ErrorDetails, report: Report) -> Path:
    """Return the path of a fault in the document.

    pydantic's path may end with parts that the document does not have, such as the name of a type. These parts are
    removed. If the fault is a missing key, this key is kept.
    """
    place = (*path, *fault["loc"])
    while len(place) > len(path) and place not in report.document.offsets and fault["type"] != "missing":
        place = place[:-1]
    return place


def _follows(fault: ErrorDetails, faults: Sequence[ErrorDetails]) -> bool:
    """Return whether pydantic reports a fault only because of another fault. Such a fault is not shown to the user.

    - If the only element of a list is wrong, pydantic also reports that the list is too short. The length is not shown
      as a fault.
    - If a field allows "" or a value of another kind, pydantic reports a wrong value twice. The fault that names "" is
      not shown.
    """
    loc = fault["loc"]
    if fault["type"] == "literal_error" and not _choices(fault):
        return True
    return fault["type"] == "too_short" and any(other["loc"][: len(loc)] == loc != other["loc"] for other in faults)


def _message(fault: ErrorDetails, model: type[BaseModel]) -> str:
    word = _WORDING.get(fault["type"])
    if word is not None:
        return word(fault)
    field = keys(model).get(str(fault["loc"][-1])) if fault["loc"] else None
    if fault["type"] == "missing":
        return "is missing" + _example(field)
    if fault["type"] == "too_short":
        return "must not be empty" + (_example(field) or "; leave it out for the default")
    return fault["msg"]


def _example(field: FieldInfo | None) -> str:
    return f"; for example {field.examples[0]}" if field is not None and field.examples else ""


def _must_be(wanted: str) -> Callable[[ErrorDetails], str]:
    def word(fault: ErrorDetails) -> str:
        return f"must be {wanted}, not {_KINDS.get(type(fault['input']), 'this')}"

    return word


def _choices(fault: ErrorDetails) -> list[str]:
    """Return the allowed words and booleans that pydantic's fault lists, in the spelling of JSON. "" is left out."""
    found = _EXPECTED.findall(str(fault["ctx"]["expected"]))
    return [choice for word, boolean in found if (choice := word or boolean.lower())]


def _one_of(fault: ErrorDetails) -> str:
    choices = _choices(fault)
    return f"{quote(fault['input'], choices)} is not one of {', '.join(choices)}"


def _own(fault: ErrorDetails) -> str:
    return str(fault["ctx"]["error"])


def _bound(words: str, key: str) -> Callable[[ErrorDetails], str]:
    def word(fault: ErrorDetails) -> str:
        return f"must be {words} {fault['ctx'][key]:g}"

    return word


_WORDING: Final[Mapping[str, Callable[[ErrorDetails], str]]] = {
    "string_type": _must_be("a string"),
    "bool_type": _must_be("true or false"),
    "int_type": _must_be("a whole number"),
    "float_type": _must_be("a number"),
    "dict_type": _must_be("an object"),
    "model_type": _must_be("an object"),
    "model_attributes_type": _must_be("an object"),
    "tuple_type": _must_be("a list"),
    "list_type": _must_be("a list"),
    "literal_error": _one_of,
    "value_error": _own,
    "greater_than": _bound("greater than", "gt"),
    "greater_than_equal": _bound("at least", "ge"),
    "less_than_equal": _bound("at most", "le"),
}
